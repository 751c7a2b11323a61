package orchestrator_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
)

var (
	releaseA = orchestrator.Release{Digest: attest.ReleaseDigest{1}, Version: "1.0.0", Epoch: 1}
	releaseB = orchestrator.Release{Digest: attest.ReleaseDigest{2}, Version: "1.1.0", Epoch: 2}
	releaseC = orchestrator.Release{Digest: attest.ReleaseDigest{3}, Version: "1.2.0", Epoch: 2}
	at       = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// updatable is an instance whose machine runs release A.
func updatable() *orchestrator.Instance {
	i := &orchestrator.Instance{
		ID: "instance", Desired: orchestrator.Present, State: orchestrator.StateReady, Created: true, Machine: "machine",
		Plan: orchestrator.Plan{Release: releaseA.Digest},
	}
	enrol(i, releaseA)
	return i
}

func enrol(i *orchestrator.Instance, r orchestrator.Release) {
	i.Enrolment = orchestrator.Enrolment{Judged: true, Accepted: true, Release: r.Digest}
}

func offer(t *testing.T, i *orchestrator.Instance, r orchestrator.Release) {
	t.Helper()
	e, ok, err := i.Offer(r, at)
	if !ok || err != nil || e.From != i.State || e.To != i.State || e.At != at || e.Instance != i.ID {
		t.Fatalf("offering %s: %v, %v, %+v", r.Version, ok, err, e)
	}
}

// said is what becomes known when the machine says a step, as the history has it.
func said(i *orchestrator.Instance, r orchestrator.Release, attempt uint64, step api.UpdateStep, reason api.UpdateReason) (texts []string) {
	for _, e := range i.Report(api.UpdateStatus{Release: r.Digest, Attempt: attempt, Step: step, Reason: reason}, at) {
		texts = append(texts, e.Reason)
	}
	return texts
}

func TestEachStepOfAnUpdateIsSeenOnce(t *testing.T) {
	i := updatable()
	offer(t, i, releaseB)
	if _, ok, err := i.Offer(releaseB, at); ok || err != nil || i.Update.Attempt != 1 {
		t.Errorf("offered twice: %v, %v, attempt %d", ok, err, i.Update.Attempt)
	}
	for _, step := range []api.UpdateStep{api.UpdateAwaiting, api.UpdateFetching, api.UpdateInstalling} {
		if got := said(i, releaseB, 1, step, ""); len(got) != 1 || !strings.HasSuffix(got[0], ": "+string(step)) {
			t.Errorf("%s: %q", step, got)
		}
		if got := said(i, releaseB, 1, step, ""); got != nil {
			t.Errorf("%s again: %q", step, got)
		}
	}
	enrol(i, releaseB)
	said(i, releaseB, 1, api.UpdateTrying, "")
	if i.Runs() != releaseA.Digest || !i.Update.Stands() {
		t.Errorf("while it tries: %+v", i)
	}
	if got := said(i, releaseB, 1, api.UpdateDone, ""); len(got) != 2 || !strings.Contains(got[1], "runs release") {
		t.Errorf("%q", got)
	}
	if i.Runs() != releaseB.Digest || i.Plan.Release != releaseA.Digest || i.Update.Stands() || !slices.Equal(i.MayRun(), []attest.ReleaseDigest{releaseB.Digest}) {
		t.Errorf("at the end: %+v", i)
	}
	if got := said(i, releaseB, 1, api.UpdateFellBack, api.ReasonNotStarted); got != nil || i.Runs() != releaseB.Digest {
		t.Errorf("after its end: %q", got)
	}
	if _, ok, err := i.Offer(releaseB, at); ok || err != nil {
		t.Errorf("what it runs is offered: %v", err)
	}
}

func TestMachineThatFallsBackKeepsItsRelease(t *testing.T) {
	i := updatable()
	offer(t, i, releaseB)
	said(i, releaseB, 1, api.UpdateInstalling, "")
	if got := i.MayRun(); !slices.Equal(got, []attest.ReleaseDigest{releaseA.Digest, releaseB.Digest}) {
		t.Errorf("while it may be on either: %v", got)
	}
	if got := said(i, releaseB, 1, api.UpdateFellBack, api.ReasonUnhealthy); len(got) != 1 || !strings.Contains(got[0], "fell-back (payload-unhealthy)") {
		t.Errorf("%q", got)
	}
	if got := i.MayRun(); i.Update.Stands() || !slices.Equal(got, []attest.ReleaseDigest{releaseA.Digest}) {
		t.Errorf("afterwards: %v", got)
	}
	// It is tried again when it is offered again, and an answer about the attempt
	// before says nothing of this one.
	offer(t, i, releaseB)
	if got := said(i, releaseB, 1, api.UpdateFellBack, api.ReasonUnhealthy); got != nil || i.Update.Attempt != 2 || i.Update.Step != "" {
		t.Errorf("%q, %+v", got, i.Update)
	}
}

// No machine gets around the registers by what it says.
func TestDoneIsNotBelievedWithoutEvidence(t *testing.T) {
	i := updatable()
	offer(t, i, releaseB)
	for name, e := range map[string]orchestrator.Enrolment{
		"on the old release":   {Judged: true, Accepted: true, Release: releaseA.Digest},
		"not accepted":         {Judged: true, Release: releaseB.Digest},
		"with none's":          {Judged: true, Accepted: true},
		"with another's":       {Judged: true, Accepted: true, Release: releaseC.Digest},
		"without an enrolment": {},
	} {
		i.Enrolment = e
		if got := said(i, releaseB, 1, api.UpdateDone, ""); got != nil || i.Runs() != releaseA.Digest || i.Update.Step != "" {
			t.Errorf("%s: %q, %+v", name, got, i.Update)
		}
	}
	for _, other := range []api.UpdateStatus{{Release: releaseC.Digest, Attempt: 1}, {Release: releaseB.Digest, Attempt: 2}} {
		other.Step = api.UpdateRefused
		if got := i.Report(other, at); got != nil || i.Update.Step != "" {
			t.Errorf("%+v: %v", other, got)
		}
	}
}

// Where the next offer crosses a machine that is already on its way to the one
// before, it ends up on a release that is known.
func TestOffersThatCross(t *testing.T) {
	for name, c := range map[string]struct {
		end  api.UpdateStep
		runs orchestrator.Release
	}{"done": {api.UpdateDone, releaseB}, "fell back": {api.UpdateFellBack, releaseA}} {
		i := updatable()
		offer(t, i, releaseB)
		said(i, releaseB, 1, api.UpdateAwaiting, "")
		offer(t, i, releaseC)
		if got := i.MayRun(); !slices.Equal(got, []attest.ReleaseDigest{releaseA.Digest, releaseB.Digest}) {
			t.Errorf("%s: it may run %v", name, got)
		}
		enrol(i, c.runs)
		said(i, releaseB, 1, c.end, "")
		if i.Runs() != c.runs.Digest || !i.Update.Before.IsZero() || i.Update.Release != releaseC.Digest || i.Update.Step != "" {
			t.Errorf("%s: %+v", name, i)
		}
	}
	// One that never says how the first ended, and goes on with the second.
	i := updatable()
	offer(t, i, releaseB)
	said(i, releaseB, 1, api.UpdateAwaiting, "")
	offer(t, i, releaseC)
	enrol(i, releaseB)
	said(i, releaseC, 2, api.UpdateAwaiting, "")
	if got := i.MayRun(); !slices.Equal(got, []attest.ReleaseDigest{releaseB.Digest, releaseC.Digest}) {
		t.Errorf("it may run %v", got)
	}
}

func TestOffersThatAreTakenBack(t *testing.T) {
	i := updatable()
	if _, ok := i.TakeBack(attest.ReleaseDigest{}, at); ok {
		t.Error("no offer was taken back")
	}
	offer(t, i, releaseB)
	said(i, releaseB, 1, api.UpdateFetching, "")
	if _, ok := i.TakeBack(releaseC.Digest, at); ok {
		t.Error("another's offer was taken back")
	}
	if _, ok := i.TakeBack(releaseB.Digest, at); !ok || i.Update.Stands() {
		t.Errorf("%+v", i.Update)
	}
	// It may have gone on.
	if got := i.MayRun(); !slices.Contains(got, releaseB.Digest) {
		t.Errorf("it may run %v", got)
	}
	enrol(i, releaseB)
	said(i, releaseB, 1, api.UpdateDone, "")
	if i.Runs() != releaseB.Digest {
		t.Errorf("%+v", i)
	}
	// What it runs takes the offer of another back.
	offer(t, i, releaseC)
	offer(t, i, releaseB)
	if i.Update.Stands() || i.Update.Release != releaseC.Digest {
		t.Errorf("%+v", i.Update)
	}
	// An offer nobody heard of leads nowhere.
	if got := i.MayRun(); len(got) != 1 {
		t.Errorf("it may run %v", got)
	}
}

func TestWhatIsNotOffered(t *testing.T) {
	for name, spoil := range map[string]func(*orchestrator.Instance){
		"deletion asked for": func(i *orchestrator.Instance) { i.Desired = orchestrator.Absent },
		"no machine":         func(i *orchestrator.Instance) { i.Created = false },
		"deleted":            func(i *orchestrator.Instance) { i.State = orchestrator.StateDeleted },
		"being replaced":     func(i *orchestrator.Instance) { i.DataOf = "machine" },
		"trying another": func(i *orchestrator.Instance) {
			offer(t, i, releaseC)
			said(i, releaseC, 1, api.UpdateInstalling, "")
		},
	} {
		i := updatable()
		spoil(i)
		before := i.Update
		if _, ok, err := i.Offer(releaseB, at); ok || !errors.Is(err, orchestrator.ErrConflict) || i.Update != before {
			t.Errorf("%s: %v, %+v", name, err, i.Update)
		}
	}
}

// A machine that goes to and fro does not fill the history, and how it ends is told.
func TestHistoryOfAnOfferIsBounded(t *testing.T) {
	i := updatable()
	offer(t, i, releaseB)
	told := 0
	for range 500 {
		told += len(said(i, releaseB, 1, api.UpdateAwaiting, "")) + len(said(i, releaseB, 1, api.UpdateFetching, ""))
	}
	if got := said(i, releaseB, 1, api.UpdateRefused, api.ReasonNoRoom); told != 32 || len(got) != 1 || i.Update.Step != api.UpdateRefused {
		t.Errorf("%d events, and at the end %q", told, got)
	}
}

// The change of the release that runs is an offer of its own; while another stands, that
// is taken back in place of it, as by an offer of the release.
func TestChangeIsOfferedAlone(t *testing.T) {
	i := updatable()
	if _, ok, err := i.OfferChange(releaseA, at); !ok || err != nil || i.Update.Release != releaseA.Digest || !i.Update.Stands() {
		t.Fatalf("%v, %v, %+v", ok, err, i.Update)
	}
	if _, ok, err := i.OfferChange(releaseA, at); ok || err != nil || i.Update.Attempt != 1 {
		t.Errorf("once more: %v, %v, %+v", ok, err, i.Update)
	}
	i = updatable()
	offer(t, i, releaseB)
	if _, ok, err := i.OfferChange(releaseA, at); !ok || err != nil || i.Update.Stands() {
		t.Errorf("in place of another: %v, %v, %+v", ok, err, i.Update)
	}
	// Of a release that does not run it is an offer of that.
	if e, ok, err := i.OfferChange(releaseB, at); !ok || err != nil || strings.Contains(e.Reason, "change") {
		t.Errorf("of another release: %v, %v, %+v", ok, err, e)
	}
}
