package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/reconcile"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

// beside gives the world a second provider, whose places come after the
// cloud's.
func (w *world) beside() *cloud {
	w.t.Helper()
	other := newCloud(w.t)
	w.others = map[string]reconcile.Provider{"other": other}
	w.policy.Places = append(w.policy.Places, reconcile.Place{Provider: "other", Region: "local", Size: "standard"})
	w.rec = w.reconciler(w.line)
	return other
}

// withoutRoom answers every Create with an error.
func withoutRoom(code providers.Code, scope providers.Scope) func(string) error {
	return func(call string) error {
		if call != "Create" {
			return nil
		}
		return providers.Errorf(code, "no room").In(scope)
	}
}

// Where one place has no room, the next one is tried, under another id, and
// the first is left alone for a while.
func TestPlaceWithoutRoomIsLeftForTheNext(t *testing.T) {
	for _, c := range []struct {
		code  providers.Code
		scope providers.Scope
	}{
		{providers.CodeCapacity, providers.ScopeMachine}, {providers.CodeCapacity, providers.ScopeRegion}, {providers.CodeQuota, providers.ScopeAccount},
	} {
		t.Run(string(c.code)+" "+string(c.scope), func(t *testing.T) {
			w := newWorld(t)
			other := w.beside()
			w.cloud.fail = withoutRoom(c.code, c.scope)
			first := w.join("amara").Instance
			w.until("it is made at the other place", func() bool { return len(other.Machines()) == 1 })
			i := w.instance(first)
			if i.Plan.Provider != "other" || !other.has(i.Machine) {
				t.Errorf("planned at %s as %s", i.Plan.Provider, i.Machine)
			}
			w.cloud.calls = nil
			w.cloud.fail = nil
			w.join("bela")
			w.until("the next one is made", func() bool { return len(other.Machines()) == 2 })
			for _, call := range w.cloud.calls {
				if call == "Create" {
					t.Error("a place that has no room was tried again at once")
				}
			}
		})
	}
}

// A place is tried again once a while has gone by.
func TestPlaceIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	other := w.beside()
	w.policy.Machines = 3
	w.rec = w.reconciler(w.line)
	w.cloud.fail = withoutRoom(providers.CodeCapacity, providers.ScopeRegion)
	w.join("amara")
	w.until("it is made at the other place", func() bool { return len(other.Machines()) == 1 })
	w.cloud.fail = nil
	w.sleep(10 * time.Minute)
	w.join("bela")
	w.until("the next one is made at the first place", func() bool { return len(w.cloud.Machines()) == 1 })
}

// Where no place has room, the instance says so until its limit, and nothing
// is made twice.
func TestNoPlaceHasRoom(t *testing.T) {
	w := newWorld(t)
	other := w.beside()
	w.cloud.fail = withoutRoom(providers.CodeCapacity, providers.ScopeRegion)
	other.fail = withoutRoom(providers.CodeQuota, providers.ScopeAccount)
	id := w.join("amara").Instance
	w.reach(id, orchestrator.StateFailed)
	if i := w.instance(id); !strings.Contains(i.Reason, "no room") {
		t.Errorf("reason %q", i.Reason)
	}
	if n := len(other.Machines()) + len(w.cloud.Machines()); n != 0 {
		t.Errorf("%d machines were made", n)
	}
}

// A signup's plan and region choose the place; a plan that is not configured
// is said, and serves as soon as it is.
func TestPlansChooseThePlace(t *testing.T) {
	w := newWorld(t)
	other := w.beside()
	w.policy.Plans = map[string][]reconcile.Place{"large": {
		{Provider: "memory", Region: "local", Size: "standard"}, {Provider: "other", Region: "moon", Size: "standard"},
	}}
	if err := other.Configure(t.Context(), []byte(`{"regions":[{"name":"moon","capacity":-1}]}`)); err != nil {
		t.Fatal(err)
	}
	w.rec = w.reconciler(w.line)
	wish := func(user orchestrator.UserID, wish orchestrator.Wish) (id orchestrator.InstanceID) {
		w.update(func(tx store.Tx) error {
			o, err := w.signups().SignUp(tx, user, wish, w.now)
			id = o.Instance
			return err
		})
		return id
	}
	large := wish("amara", orchestrator.Wish{Plan: "large", Region: "moon"})
	w.reach(large, orchestrator.StateReady)
	if p := w.instance(large).Plan; p.Provider != "other" || p.Region != "moon" {
		t.Errorf("made at %s in %s", p.Provider, p.Region)
	}
	gold := wish("bela", orchestrator.Wish{Plan: "gold"})
	w.until("it is said", func() bool { return strings.Contains(w.instance(gold).Reason, "plan gold, only for large") })
	w.policy.Plans["gold"] = w.policy.Places
	w.rec = w.reconciler(w.line)
	w.reach(gold, orchestrator.StateReady)
}

// Drift is mended, and the data disk brought to the size it shall have, with
// the machine serving on.
func TestMachineIsBroughtToWhatIsDesired(t *testing.T) {
	w := newWorld(t)
	id := w.join("amara").Instance
	w.reach(id, orchestrator.StateReady)
	machine := w.instance(id).Machine
	if err := w.cloud.Drift(machine, "a tag is gone"); err != nil {
		t.Fatal(err)
	}
	w.until("the drift is mended", func() bool { return w.cloud.Machines()[machine].Drift == "" })
	w.update(func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.DataBytes = 8 << 20
		i.Generation++
		return tx.Replace(&i)
	})
	w.until("the disk has grown", func() bool {
		for _, r := range w.cloud.Machines()[machine].Resources {
			if r.Kind == providers.ResourceDataDisk && r.Bytes == 8<<20 {
				return true
			}
		}
		return false
	})
	if i := w.instance(id); i.State != orchestrator.StateReady {
		t.Errorf("the instance is %s: %s", i.State, i.Reason)
	}
}

// A snapshot is put back while the machine is off, whatever dies meanwhile.
func TestSnapshotIsRestored(t *testing.T) {
	for after := range 6 {
		w := newWorld(t)
		id := w.join("amara").Instance
		w.reach(id, orchestrator.StateReady)
		machine := w.instance(id).Machine
		if _, err := w.cloud.Snapshot(t.Context(), machine, "snapshot"); err != nil {
			t.Fatal(err)
		}
		w.update(func(tx store.Tx) error {
			i, err := tx.Instance(id)
			if err != nil {
				return err
			}
			if _, err := i.Restore("snapshot", w.now, w.policy.Limits); err != nil {
				return err
			}
			return tx.Replace(&i)
		})
		w.cloud.crashAfter = after
		if w.survive(func() {
			w.until("it was restored", func() bool { return w.instance(id).Restoring == "" })
		}) {
			w.restart()
		}
		w.cloud.crashAfter = -1
		w.reach(id, orchestrator.StateReady)
		if i := w.instance(id); i.Restoring != "" || i.Machine != machine {
			t.Errorf("%+v", i)
		}
		if n := w.cloud.Calls(memory.CallRestore); n == 0 {
			t.Error("nothing was restored")
		}
	}
}

// A provider that tells of a change is looked at without waiting for a poll.
func TestHintsAreFollowed(t *testing.T) {
	w := newWorld(t)
	id := w.join("amara").Instance
	w.reach(id, orchestrator.StateReady)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{})
	queue := &telling{line: w.line, told: told}
	parts := w.parts(queue)
	parts.Watchers = map[string]providers.Watcher{"memory": w.cloud}
	done := make(chan error, 1)
	go func() { done <- reconcile.New(parts).Run(ctx) }()
	<-told // the resumption's own
	for {
		if err := w.cloud.Crash(w.instance(id).Machine, "it burned"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-told:
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// telling is a queue that says when an instance is put in line.
type telling struct {
	*line
	told chan struct{}
}

func (q *telling) Add(ids ...orchestrator.InstanceID) {
	for _, id := range ids {
		if id != store.Admission {
			q.told <- struct{}{}
		}
	}
}

func (q *telling) Work(ctx context.Context, _ store.Look) error {
	<-ctx.Done()
	return ctx.Err()
}

// A generation that is newer at the provider is another control plane's: it is
// not fought over.
func TestNewerGenerationIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	id := w.join("amara").Instance
	w.reach(id, orchestrator.StateReady)
	w.change(func(m *providers.Machine) { m.Generation = 9 })
	w.sleep(time.Minute)
	w.pass()
	if m := w.onlyMachine(); m.Generation != 9 {
		t.Errorf("generation %d", m.Generation)
	}
	if i := w.instance(id); i.State != orchestrator.StateReady {
		t.Errorf("the instance is %s: %s", i.State, i.Reason)
	}
}

// One that is told to wait makes all others of the account wait too.
func TestThrottledProviderIsLeftInPeace(t *testing.T) {
	w := newWorld(t)
	throttled := false
	w.cloud.fail = func(call string) error {
		if call != "Create" || throttled {
			return nil
		}
		throttled = true
		e := providers.Errorf(providers.CodeThrottled, "too many").In(providers.ScopeAccount)
		e.RetryAfter = 30 * time.Second
		return e
	}
	first, second := w.join("amara").Instance, w.join("bela").Instance
	for range 29 {
		w.pass()
		w.sleep(time.Second)
	}
	if n := len(w.cloud.Machines()); n != 0 {
		t.Errorf("%d machines were made meanwhile", n)
	}
	w.reach(first, orchestrator.StateReady)
	w.reach(second, orchestrator.StateReady)
}

// What a row says of a provider that is not configured any more is said, and
// forgotten by nobody.
func TestProviderThatIsGoneIsNamed(t *testing.T) {
	w := newWorld(t)
	w.beside()
	w.cloud.fail = withoutRoom(providers.CodeCapacity, providers.ScopeRegion)
	id := w.join("amara").Instance
	w.reach(id, orchestrator.StateReady)
	w.others = nil
	w.rec = w.reconciler(w.line)
	w.until("it is said", func() bool { return strings.Contains(w.instance(id).Reason, "provider other is not configured") })
	if i := w.instance(id); i.State != orchestrator.StateReady || i.Machine == "" {
		t.Errorf("%+v", i)
	}
}
