package orchestrator_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

func TestNewIDIsAcceptedByCheckID(t *testing.T) {
	for range 100 {
		id, err := orchestrator.NewID(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := orchestrator.CheckID(id); err != nil {
			t.Errorf("CheckID(%q): %v", id, err)
		}
	}
}

func TestNewIDNeedsRandomness(t *testing.T) {
	if id, err := orchestrator.NewID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Errorf("NewID answered %q from 15 bytes", id)
	}
}

func FuzzCheckID(f *testing.F) {
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("aaaaaaaaaaaaaaaaaaaaaaaaab")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if orchestrator.CheckID(s) != nil {
			return
		}
		for _, c := range []byte(s) {
			if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
				t.Errorf("accepted %q", s)
			}
		}
	})
}

func TestEnterLimitsTheStatesThatMustEnd(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limits := orchestrator.Limits{Requested: 1, Creating: 2, Booting: 3, Enrolling: 4, Deleting: 5}
	want := map[orchestrator.State]time.Duration{
		orchestrator.StateRequested: 1, orchestrator.StateCreating: 2, orchestrator.StateBooting: 3,
		orchestrator.StateEnrolling: 4, orchestrator.StateReplacing: 5, orchestrator.StateDeleting: 5,
	}
	for _, s := range orchestrator.States {
		i := orchestrator.Instance{ID: "x", State: orchestrator.StateRequested, Attempts: 3, Lasted: time.Hour}
		e := i.Enter(s, "because", now, limits)
		if e.From != orchestrator.StateRequested || e.To != s || e.Reason != "because" {
			t.Errorf("%s: event %+v", s, e)
		}
		if i.Limit != want[s] {
			t.Errorf("%s: limit %v, want %v", s, i.Limit, want[s])
		}
		if i.Attempts != 0 || i.Lasted != 0 || i.Entries != 1 {
			t.Errorf("%s: what held for the state before survives it: %+v", s, i)
		}
	}
}

// What a machine has shown moves it on where that alone decides.
func TestAdvance(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	introduced := orchestrator.Enrolment{ChallengedAt: now}
	refused := orchestrator.Enrolment{ChallengedAt: now, Judged: true, Verdict: "registers differ"}
	accepted := orchestrator.Enrolment{ChallengedAt: now, Judged: true, Accepted: true, Verdict: "accepted"}
	healthy := accepted
	healthy.Healthy = true
	locked := accepted
	locked.AwaitingOwner = true
	lockedAndRefused := refused
	lockedAndRefused.AwaitingOwner = true
	const endpoint = "127.0.0.1:1"
	for _, c := range []struct {
		name     string
		from     orchestrator.State
		shown    orchestrator.Enrolment
		endpoint string
		cycling  bool
		to       orchestrator.State // the same where nothing follows
	}{
		{"nothing shown", "booting", orchestrator.Enrolment{}, endpoint, false, "booting"},
		{"introduced", "booting", introduced, "", false, "enrolling"},
		{"introduced before its power was cycled", "booting", introduced, "", true, "booting"},
		{"healthy before its power was cycled", "booting", healthy, endpoint, true, "booting"},
		{"introduced again", "enrolling", introduced, endpoint, false, "enrolling"},
		{"accepted", "booting", accepted, endpoint, false, "enrolling"},
		{"accepted and not serving", "enrolling", accepted, endpoint, false, "enrolling"},
		{"accepted and serving", "enrolling", healthy, endpoint, false, "ready"},
		{"accepted and serving at once", "booting", healthy, endpoint, false, "ready"},
		{"serving where nobody knows", "enrolling", healthy, "", false, "enrolling"},
		{"refused", "enrolling", refused, endpoint, false, "quarantined"},
		{"ready and refused", "ready", refused, endpoint, false, "quarantined"},
		{"ready and not serving any more", "ready", accepted, endpoint, false, "ready"},
		{"quarantined and refused again", "quarantined", refused, endpoint, false, "quarantined"},
		{"quarantined and accepted", "quarantined", accepted, endpoint, false, "enrolling"},
		{"quarantined, accepted and serving", "quarantined", healthy, endpoint, false, "ready"},
		{"waiting for its owner", "enrolling", locked, endpoint, false, "awaiting-owner"},
		{"waiting for its owner where nobody knows", "enrolling", locked, "", false, "enrolling"},
		{"refused and waiting", "enrolling", lockedAndRefused, endpoint, false, "quarantined"},
		{"still waiting", "awaiting-owner", locked, endpoint, false, "awaiting-owner"},
		{"waiting and then refused", "awaiting-owner", refused, endpoint, false, "quarantined"},
		{"unlocked", "awaiting-owner", healthy, endpoint, false, "ready"},
		{"unlocked and not serving yet", "awaiting-owner", accepted, endpoint, false, "awaiting-owner"},
		{"ready and then locked", "ready", locked, endpoint, false, "awaiting-owner"},
		{"quarantined and waiting", "quarantined", locked, endpoint, false, "awaiting-owner"},
		{"locked before its power was cycled", "booting", locked, endpoint, true, "booting"},
		{"replacing", "replacing", healthy, endpoint, false, "replacing"},
		{"creating", "creating", healthy, endpoint, false, "creating"},
		{"deleting", "deleting", healthy, endpoint, false, "deleting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := orchestrator.Instance{ID: "x", State: c.from, Enrolment: c.shown, Endpoint: c.endpoint, Cycling: c.cycling}
			e, ok := i.Advance(now, orchestrator.Limits{})
			if i.State != c.to || ok != (c.from != c.to) || ok && (e.From != c.from || e.To != c.to || e.Reason == "") {
				t.Errorf("it is %s, want %s; event %+v", i.State, c.to, e)
			}
		})
	}
}

// A machine that is taken away is neither set back nor switched off and on first.
func TestReplaceEndsWhatWasUnderWay(t *testing.T) {
	i := orchestrator.Instance{ID: "x", State: orchestrator.StateBooting, Machine: "m", Created: true, Restoring: "s", Cycling: true}
	e, err := i.Replace(time.Now(), orchestrator.Limits{})
	if err != nil || e.To != orchestrator.StateReplacing || i.DataOf != "m" || i.Restoring != "" || i.Cycling {
		t.Errorf("%+v, %+v, %v", e, i, err)
	}
}

// A machine that waits for its owner is routed to as well: nobody else unlocks it.
func TestURLIsForMachinesOfTheirOwners(t *testing.T) {
	for _, s := range orchestrator.States {
		i := orchestrator.Instance{State: s, Endpoint: "127.0.0.1:1"}
		if got, want := i.URL() != "", s == orchestrator.StateReady || s == orchestrator.StateAwaitingOwner; got != want {
			t.Errorf("%s: url %q", s, i.URL())
		}
	}
}

func TestNextBootKeepsTheIdentityAlone(t *testing.T) {
	e := orchestrator.Enrolment{AK: []byte{1}, Judged: true, Accepted: true, Healthy: true}
	e.EK[0] = 1
	e.Session[0] = 2
	next := e.NextBoot()
	if next.EK != e.EK || !bytes.Equal(next.AK, e.AK) {
		t.Error("identity lost")
	}
	if next.Judged || next.Accepted || next.Healthy || !next.Session.IsZero() {
		t.Errorf("a boot's facts survive it: %+v", next)
	}
}

// TestImageHasTheFirmwareBesideTheDisk reads the one from the signed manifest
// that is as the database keeps it.
func TestImageHasTheFirmwareBesideTheDisk(t *testing.T) {
	values := func(n int, registers ...string) map[string]string {
		out := map[string]string{}
		for _, r := range registers {
			out[r] = strings.Repeat("ab", n)
		}
		return out
	}
	m := release.Manifest{
		Schema: release.SchemaFirmware, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk:  release.File{Name: "disk.raw", SHA256: attest.Digest{1}, Bytes: 1},
		UKI:   release.File{Name: "uki.efi", SHA256: attest.Digest{2}, Bytes: 1},
		Boots: []release.Boot{{SHA256: values(32, "4", "9", "11"), SHA384: values(48, "4", "9", "11")}},
		Firmware: &release.Firmware{
			Code:      release.File{Name: "firmware.fd", SHA256: attest.Digest{4}, Bytes: 5},
			Variables: release.File{Name: "variables.fd", SHA256: attest.Digest{6}, Bytes: 7},
			Shapes: []release.Shape{{
				Shape: board.Shape{VCPUs: 2, MemoryBytes: 1 << 30}, SHA256: values(32, "0", "1"), SHA384: values(48, "0", "1"),
			}},
		},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := orchestrator.Release{Manifest: manifest, DiskPath: "/releases/1/disk.raw", DiskSHA256: attest.Digest{1}, DiskBytes: 1}
	got, err := r.Image()
	want := providers.Image{Path: "/releases/1/disk.raw", SHA256: attest.Digest{1}, Bytes: 1, Architecture: "amd64", Firmware: &providers.Firmware{
		Code:      providers.File{Path: "/releases/1/firmware.fd", SHA256: attest.Digest{4}, Bytes: 5},
		Variables: providers.File{Path: "/releases/1/variables.fd", SHA256: attest.Digest{6}, Bytes: 7},
		Shapes:    []board.Shape{{VCPUs: 2, MemoryBytes: 1 << 30}},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	// A cloud's firmware gets the keys instead, which the release's own has.
	m.Schema, m.Firmware = release.SchemaVersion, nil
	m.Inputs = []release.Input{
		{Name: "PK.esl", SHA256: attest.Digest{8}, Bytes: 9}, {Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}, {Name: "db.esl", SHA256: attest.Digest{10}, Bytes: 11},
	}
	want.SecureBoot = []providers.Key{
		{Name: "PK", File: providers.File{Path: "/releases/1/PK.esl", SHA256: attest.Digest{8}, Bytes: 9}},
		{Name: "db", File: providers.File{Path: "/releases/1/db.esl", SHA256: attest.Digest{10}, Bytes: 11}},
	}
	if r.Manifest, err = m.Encode(); err != nil {
		t.Fatal(err)
	}
	want.Firmware = nil
	if got, err := r.Image(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("without firmware: %+v, %v", got, err)
	}
	r.Manifest = []byte("{}")
	if _, err := r.Image(); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("no manifest: %v", err)
	}
}
