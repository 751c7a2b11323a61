package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// hints are those of the transactions that held.
type hints struct {
	store.Store
	mu  sync.Mutex
	all []orchestrator.InstanceID // guarded by mu
}

type hintedTx struct {
	store.Tx
	all *[]orchestrator.InstanceID
}

func (t hintedTx) Enqueue(id orchestrator.InstanceID) error {
	*t.all = append(*t.all, id)
	return t.Tx.Enqueue(id)
}

func (h *hints) Update(ctx context.Context, f func(store.Tx) error) error {
	var all []orchestrator.InstanceID
	err := h.Store.Update(ctx, func(tx store.Tx) error { return f(hintedTx{tx, &all}) })
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = append(h.all, all...)
	}
	return err
}

// drain returns the hints since the last time, each once.
func (h *hints) drain() []orchestrator.InstanceID {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Compact(slices.Sorted(slices.Values(h.all)))
	h.all = nil
	return all
}

func (w *world) drawnFor(m providers.MachineID) (id orchestrator.InstanceID, err error) {
	return id, w.store.View(w.t.Context(), func(v store.Reader) error {
		id, err = v.Machine(m)
		return err
	})
}

// admittedOrder lists the instances in the order in which they were let in.
func (w *world) admittedOrder() (ids []orchestrator.InstanceID) {
	for _, e := range w.events("") {
		if e.From == orchestrator.StateWaiting && e.To == orchestrator.StateRequested {
			ids = append(ids, e.Instance)
		}
	}
	return ids
}

func TestFirstComeFirstServed(t *testing.T) {
	w := newWorld(t)
	w.policy.Machines = 1
	w.restart()
	var came []orchestrator.InstanceID
	for n := range 8 {
		came = append(came, w.join(orchestrator.UserID(fmt.Sprint(n))).Instance)
	}
	for n, id := range came {
		w.reach(id, orchestrator.StateReady)
		w.sleep(pollStep)
		w.leave(orchestrator.UserID(fmt.Sprint(n)))
	}
	if got := w.admittedOrder(); !slices.Equal(got, came) {
		t.Errorf("let in %v, came %v", got, came)
	}
}

// Whoever waits for the end of a machine before keeps nobody else waiting, and
// comes next.
func TestWhoWaitsForAnEarlierMachineIsPassedOver(t *testing.T) {
	w := newWorld(t)
	w.policy.Machines = 2
	w.restart()
	before := w.join(user).Instance
	w.reach(before, orchestrator.StateReady)
	w.cloud.fail = refusing("Delete")
	w.sleep(pollStep)
	w.leave(user)
	w.sleep(pollStep)
	again, second, third := w.join(user).Instance, w.join("second").Instance, w.join("third").Instance
	w.reach(second, orchestrator.StateReady)
	w.cloud.fail = nil
	w.reach(again, orchestrator.StateReady)
	if want := []orchestrator.InstanceID{before, second, again}; !slices.Equal(w.admittedOrder(), want) {
		t.Errorf("let in %v, want %v and not yet %s", w.admittedOrder(), want, third)
	}
}

// A release that is added and a place that is freed let in whoever waits, with
// no look at those who do.
func TestHintsLetIn(t *testing.T) {
	w := newWorld(t)
	w.policy.Machines = 1
	w.restart()
	first, second := w.join("first").Instance, w.join("second").Instance
	w.look(store.Admission)
	w.reach(first, orchestrator.StateReady)
	w.sleep(pollStep)
	w.leave("first")
	w.hints.drain()
	w.look(first)
	if !slices.Contains(w.hints.drain(), store.Admission) {
		t.Error("a place that was freed is told to nobody")
	}
	w.look(store.Admission)
	if i := w.instance(second); i.State != orchestrator.StateRequested {
		t.Errorf("the second is %s", i.State)
	}
}

// The machine's id and that it may exist are on the disk before the provider
// hears of it, with all that a repeated request needs.
func TestWhatIsAskedForIsWrittenDownFirst(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	asked := 0
	w.cloud.fail = func(call string) error {
		if call != "Create" {
			return nil
		}
		asked++
		i, req := w.instance(id), w.cloud.last
		if i.Machine != req.Machine || !i.Uncertain || i.Created || i.State != orchestrator.StateCreating {
			t.Errorf("asked for %s while the row says %+v", req.Machine, i)
		}
		if i.Plan.Spec().Hash() != req.Spec.Hash() {
			t.Error("asked for something else than the row plans")
		}
		if owner, err := w.drawnFor(req.Machine); owner != id || err != nil {
			t.Errorf("the machine is remembered for %q: %v", owner, err)
		}
		// The first time it is refused: the second request is written down too.
		if asked == 1 {
			return providers.Errorf(providers.CodeQuota, "not now")
		}
		return nil
	}
	w.reach(id, orchestrator.StateReady)
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// Ten thousand who wait stand in nobody's way: a deletion and an enrolment need
// the same few steps as without them, and nobody who waits is looked at.
func TestWaitingInstancesAreNotLookedAt(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.policy.Machines = 1
	w.restart()
	w.update(func(tx store.Tx) error {
		for n := range 500 {
			if _, err := w.signups().SignUp(tx, orchestrator.UserID(fmt.Sprint(n)), orchestrator.Wish{}, w.now); err != nil {
				return err
			}
		}
		return nil
	})
	if hints := w.hints.drain(); !slices.Equal(hints, []orchestrator.InstanceID{store.Admission}) {
		t.Errorf("500 signups leave %d hints, want one for all", len(hints))
	}
	w.line.due = map[orchestrator.InstanceID]time.Duration{}
	if err := w.rec.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.line.due) != 2 || !w.due(id) || !w.due(store.Admission) {
		t.Errorf("a start looks at %d rows", len(w.line.due))
	}
}

// Whoever signs up anew while the request before is only being taken back is
// let in once that is done.
func TestTakingBackARequestThatWaitsLetsTheNextOneIn(t *testing.T) {
	w := newWorld(t)
	w.policy.Machines = 0
	w.restart()
	before := w.join(user).Instance
	w.sleep(pollStep)
	w.leave(user)
	w.sleep(pollStep)
	w.join(user)
	w.hints.drain()
	w.look(before)
	if i := w.instance(before); i.State != orchestrator.StateDeleted || i.User != "" {
		t.Errorf("the first is %s", i.State)
	}
	if !slices.Contains(w.hints.drain(), store.Admission) {
		t.Error("nobody is told that the second may be let in")
	}
}

// An image that takes long to make available keeps nobody's look for itself.
func TestLongUploadHoldsNobodyUp(t *testing.T) {
	w := newWorld(t)
	upload := make(chan struct{})
	w.cloud.upload = upload
	first, second := w.join("first").Instance, w.join("second").Instance
	w.pass()
	w.pass()
	for _, id := range []orchestrator.InstanceID{first, second} {
		if i := w.instance(id); i.State != orchestrator.StateRequested || !w.due(id) {
			t.Errorf("%s is %s", i.User, i.State)
		}
	}
	if got := w.rec.Obstacle(orchestrator.StateRequested); !strings.Contains(got, "3 of 8 bytes") {
		t.Errorf("how far the image is: %q", got)
	}
	close(upload)
	w.reach(first, orchestrator.StateReady)
	w.reach(second, orchestrator.StateReady)
	if n := w.cloud.uploads.Load(); n != 1 {
		t.Errorf("%d uploads", n)
	}
}

// The places that are taken count: what is left is given, and no more.
func TestCapCountsThePlacesThatAreTaken(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join("first").Instance, orchestrator.StateReady)
	for _, u := range []orchestrator.UserID{"two", "three", "four"} {
		w.join(u)
	}
	for range 3 {
		w.pass()
	}
	waiting := 0
	for _, i := range w.all() {
		if i.State == orchestrator.StateWaiting {
			waiting++
		}
	}
	if waiting != 2 {
		t.Errorf("%d wait, with %d places for 4", waiting, w.policy.Machines)
	}
}

// Of a release that was withdrawn no machine is made: of the newest that was not, or
// of none.
func TestWithdrawnReleaseMakesNoMachine(t *testing.T) {
	w := newWorld(t)
	gone := map[attest.ReleaseDigest]bool{w.release(2, 2).Digest: true}
	w.policy.Withdrawn = func(d attest.ReleaseDigest) bool { return gone[d] }
	w.restart()
	first := w.join("first").Instance
	w.reach(first, orchestrator.StateReady)
	if made := w.instance(first).Plan.Release; made != (attest.ReleaseDigest{1}) {
		t.Errorf("made from release %s", made)
	}
	gone[attest.ReleaseDigest{1}] = true
	second := w.join("second").Instance
	w.pass()
	if i := w.instance(second); i.State != orchestrator.StateWaiting {
		t.Errorf("it is %s (%s)", i.State, i.Reason)
	}
	w.release(3, 3)
	w.reach(second, orchestrator.StateReady)
}
