package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// shown is one instance with what only its own page says.
type shown struct {
	instance
	UnroutedInbound string                   `json:"unrouted_inbound"`
	Appraisal       attest.AttestationResult `json:"attestation_result"`
}

func (w *world) show(id string) shown {
	w.t.Helper()
	var s shown
	w.must(w.place.shed(w.t.Context(), &s, "instance", "show", id))
	return s
}

// caught fails the test unless the control plane and the owner's client, each
// for itself, refuse the user's machine for exactly these registers, and
// nothing is routed to it.
func (w *world) caught(user string, registers ...string) {
	w.t.Helper()
	s := w.show(w.waitState(user, "quarantined").ID)
	if want := "registers differ: " + strings.Join(registers, ", "); s.Reason != want {
		w.t.Errorf("it is quarantined because %q, want %q", s.Reason, want)
	}
	if !slices.Equal(s.Appraisal.Differs, registers) {
		w.t.Errorf("the control plane finds %v, want %v", s.Appraisal.Differs, registers)
	}
	if s.URL != "" || s.UnroutedInbound == "" {
		w.t.Errorf("url %q, unrouted at %q; want none and an address", s.URL, s.UnroutedInbound)
	}
	if states := w.statesSinceStop(s.ID); slices.Contains(states, "ready") {
		w.t.Errorf("it was routed to on the way: %v", states)
	}
	at := "https://" + s.UnroutedInbound
	if a := w.appraised(at); !slices.Equal(a.Differs, registers) || a.Accepted() {
		w.t.Errorf("the owner's client finds %v, accepted: %t; want %v", a.Differs, a.Accepted(), registers)
	}
	w.capture(strings.ReplaceAll(strings.TrimPrefix(w.t.Name(), "TestVM"), "/", "-"), at)
	w.exits(4, []string{"verify", at}, registers...)
	w.exits(4, []string{"claim", at}, "the machine is refused")
}

// appraised is the verdict with which the owner's client refuses a machine, as
// soon as that can be reached, which comes after its enrolment, and shows which
// release it is said to run.
func (w *world) appraised(machine string) attest.AttestationResult {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var a attest.AttestationResult
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		out, err := w.place.owner(ctx, "--json", "verify", machine)
		if err == nil {
			return false, errors.New("the owner's client accepts it: " + out)
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 4 && exit.ExitCode() != 5 {
			return false, err
		}
		return json.Unmarshal([]byte(out), &a) == nil, nil
	})
	w.must(err)
	return a
}

// statesSinceStop are those that an instance went through since it was last
// stopped, or from its beginning.
func (w *world) statesSinceStop(id string) []string {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), w.place.program("shed"), "--state", w.place.root, "--json",
		"events", "--instance", id).Output()
	w.must(err)
	var states []string
	for line := range bytes.Lines(out) {
		var event struct {
			To string `json:"to"`
		}
		w.must(json.Unmarshal(line, &event))
		if event.To == "stopped" {
			states = nil
			continue
		}
		states = append(states, event.To)
	}
	return states
}

// One byte altered on the disk after the release was verified there: such a
// machine boots as ever, and is caught before anything is routed to it.
func TestVMAlteredByte(t *testing.T) {
	in := func(alter func(*testing.T, []byte) []byte) func(*world) []disk.File {
		return func(w *world) []disk.File { return w.bootDisk(alter(w.t, w.image())) }
	}
	for _, part := range []struct {
		name  string
		alter func(*world) []disk.File
		shows []string
	}{
		{"kernel", in(alterKernel), []string{"pcr4", "pcr11"}},
		{"command line", in(alterCommandLine), []string{"pcr4", "pcr9", "pcr11"}},
		{"initrd", in(alterInitrd), []string{"pcr4", "pcr9", "pcr11"}},
		{"payload", func(w *world) []disk.File { return w.alterPayload(w.image()) }, []string{"pcr4", "pcr9", "pcr11"}},
	} {
		t.Run(part.name, func(t *testing.T) {
			w := newPlainWorld(t)
			w.start()
			w.importImage()
			w.replaceImage(part.alter(w)...)
			w.signUp("ada")
			w.caught("ada", part.shows...)
		})
	}
}
