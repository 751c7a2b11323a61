package main

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
)

func TestDescribeOwner(t *testing.T) {
	for owner, want := range map[client.Whose]string{
		client.Yours:    "yours (claim 0100000000000000…)",
		client.Anothers: "another's (claim 0100000000000000…)",
		client.Nobodys:  "nobody's yet",
	} {
		if got := describeOwner(owner, attest.Digest{1}); got != want {
			t.Errorf("%s: %q, want %q", owner, got, want)
		}
	}
}
