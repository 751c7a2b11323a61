package egress_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/agent/egress"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// BenchmarkNew is what a filter adds to each boot.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		f, err := egress.New(payload.Open)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
