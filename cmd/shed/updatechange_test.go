package main

import (
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// An owner is told what comes and goes, and when there is no way back.
func TestShownChange(t *testing.T) {
	many := make([]attest.Digest, shownChanges+3)
	for name, c := range map[string]struct {
		change *release.SecureBootChange
		now    bool
		want   string
	}{
		"gained": {&release.SecureBootChange{Variable: "db", Adds: []attest.Digest{{0xab}}}, true, "db gets ab00000000000000…; from this there is no way back"},
		"lost":   {&release.SecureBootChange{Variable: "dbx", Removes: []attest.Digest{{1}}}, false, "dbx loses 0100000000000000…, which the machine asks"},
		"many":   {&release.SecureBootChange{Variable: "db", Adds: many, Removes: many[:1]}, true, "…, and 3 more, loses 0000"},
	} {
		if got := showChange(c.change, c.now).String(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if showChange(nil, false) != nil {
		t.Error("a change is shown that there is not")
	}
}

// verify says which of its two registers a machine shows.
func TestListClaim(t *testing.T) {
	m := &release.Manifest{Boots: []release.Boot{{SHA256: map[string]string{}, SHA384: map[string]string{}}}}
	if listOf(m, attest.Digest{}) != nil {
		t.Error("a release that changes nothing has a list")
	}
	logtest.Changing(m)
	for boot, want := range map[*release.Boot]string{
		m.BeforeChange(): "db is as it was before the release", m.AfterChange(): "db is as the release has it",
	} {
		var seven attest.Digest
		if err := seven.UnmarshalText([]byte(boot.SHA256["7"])); err != nil {
			t.Fatal(err)
		}
		if got := listOf(m, seven).String(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Of the release that a machine runs there is an end to wait for where it is offered
// for its change.
func TestChangeHasAnEnd(t *testing.T) {
	i := adminclient.Instance{Release: "a", Update: &adminclient.Update{Release: "a"}}
	for step, want := range map[string]bool{"offered": false, "awaiting-approval": false, "installing": false, "done": true, "fell-back": true} {
		i.Update.Step = step
		if over, err := updateEnded(i, "a"); over != want || (err != nil) != (step == "fell-back") {
			t.Errorf("%s: %t, %v", step, over, err)
		}
	}
	i.Update.Release = "b"
	if over, err := updateEnded(i, "a"); !over || err != nil {
		t.Errorf("of another release: %t, %v", over, err)
	}
}
