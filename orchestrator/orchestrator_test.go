package orchestrator_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
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
		orchestrator.StateEnrolling: 4, orchestrator.StateDeleting: 5,
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

func TestURLIsForReadyMachinesAlone(t *testing.T) {
	for _, s := range orchestrator.States {
		i := orchestrator.Instance{State: s, Endpoint: "127.0.0.1:1"}
		if got, want := i.URL() != "", s == orchestrator.StateReady; got != want {
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
