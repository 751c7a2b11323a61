package reconcile_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/reconcile"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

const user orchestrator.UserID = "amara"

// crash is what ends a process in these tests: a panic that the world catches.
type crash struct{ at string }

func (c crash) Error() string { return "killed " + c.at }

// world is a control plane over a cloud that survives it.
type world struct {
	t   *testing.T
	dir string
	// now is the wall clock's, which tests may set; steady goes on with sleep.
	now    time.Time
	steady time.Duration
	line   *line
	cloud  *cloud
	policy reconcile.Policy
	// others are providers besides the cloud.
	others map[string]reconcile.Provider
	// locked are the machines whose data waits for its owner.
	locked func(providers.MachineID) bool
	// killAt is where the process dies next; empty for nowhere.
	killAt failpoint.Point

	store *sqlite.Store
	hints *hints
	rec   *reconcile.Reconciler
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), cloud: newCloud(t),
		policy: reconcile.Policy{
			Installation: "installation", ControlPlane: "10.0.2.2:1", Places: []reconcile.Place{{Provider: "memory", Region: "local", Size: "standard"}}, Provider: "memory",
			DataBytes: 1 << 20, Machines: 2, Repairs: 3, HeartbeatLost: time.Minute, OrphanGrace: 10 * time.Minute,
			Limits: orchestrator.Limits{
				Requested: time.Hour, Creating: 10 * time.Minute, Booting: 5 * time.Minute,
				Enrolling: 2 * time.Minute, Deleting: 10 * time.Minute,
			},
		},
	}
	w.open()
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	disk := filepath.Join(w.dir, "disk.raw")
	if err := os.WriteFile(disk, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.update(func(tx store.Tx) error {
		return tx.PutRelease(orchestrator.Release{
			Digest: attest.ReleaseDigest{1}, Version: "1.0.0", Epoch: 1, AddedAt: w.now,
			Manifest: sampleManifest(t), Bundle: []byte("bundle"), DiskPath: disk, DiskSHA256: attest.Sum([]byte("disk")), DiskBytes: 4,
		})
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.store, err = sqlite.Open(w.t.Context(), w.dir); err != nil {
		w.t.Fatal(err)
	}
	w.hints = &hints{Store: w.store}
	w.line = &line{w: w, due: map[orchestrator.InstanceID]time.Duration{}, seen: map[orchestrator.InstanceID]uint64{}}
	w.rec = w.reconciler(w.line)
}

func (w *world) reconciler(queue store.Queue) *reconcile.Reconciler {
	return reconcile.New(w.parts(queue))
}

func (w *world) parts(queue store.Queue) reconcile.Parts {
	return reconcile.Parts{
		Store: w.hints, Queue: queue, Providers: w.providers(),
		Clock: func() time.Time { return w.now }, Steady: func() time.Duration { return w.steady }, Random: rand.Reader, Logger: zaptest.NewLogger(w.t, zaptest.Level(zapError)),
		Trap: func(p failpoint.Point) {
			if p == w.killAt {
				panic(crash{at: string(p)})
			}
		},
		Snapshotters: map[string]providers.Snapshotter{"memory": w.cloud}, Attachers: map[string]providers.DataAttacher{"memory": w.cloud},
		Policy: w.policy,
	}
}

func (w *world) providers() map[string]reconcile.Provider {
	all := map[string]reconcile.Provider{"memory": w.cloud}
	maps.Copy(all, w.others)
	return all
}

// line stands in for the queue: it is driven by the tests' clock.
type line struct {
	w   *world
	due map[orchestrator.InstanceID]time.Duration
	// seen are the versions that the last looks left. A row that has moved on
	// since was written by somebody who left a hint.
	seen map[orchestrator.InstanceID]uint64
}

var _ store.Queue = (*line)(nil)

func (l *line) Add(ids ...orchestrator.InstanceID) {
	for _, id := range ids {
		l.due[id] = l.w.steady
	}
}

func (l *line) Work(context.Context, store.Look) error {
	return errors.New("the tests drive this line")
}

// ready lists what is due, in the order in which it came.
func (l *line) ready() (ids []orchestrator.InstanceID) {
	for _, i := range l.w.all() {
		at, due := l.due[i.ID]
		if due && at <= l.w.steady || l.seen[i.ID] != i.Version {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// due reports whether an instance wants another look without a hint.
func (w *world) due(id orchestrator.InstanceID) bool {
	_, due := w.line.due[id]
	return due
}

// sleep lets time go by on both clocks.
func (w *world) sleep(d time.Duration) {
	w.now = w.now.Add(d)
	w.steady += d
}

// restart is a process that was killed and started again.
func (w *world) restart() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.killAt = ""
	w.cloud.crashAfter = -1
	w.open()
	if err := w.rec.Resume(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// survive runs f and reports whether the process died in it.
func (w *world) survive(f func()) (died bool) {
	defer func() {
		if r := recover(); r != nil {
			var c crash
			if err, ok := r.(error); !ok || !errors.As(err, &c) {
				panic(r)
			}
			died = true
		}
	}()
	f()
	return false
}

func (w *world) update(f func(store.Tx) error) {
	w.t.Helper()
	if err := w.hints.Update(w.t.Context(), f); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signups() signup.Service {
	return signup.Service{Clock: func() time.Time { return w.now }, Random: rand.Reader}
}

func (w *world) join(u orchestrator.UserID) (o signup.Outcome) {
	w.t.Helper()
	w.update(func(tx store.Tx) (err error) {
		o, err = w.signups().SignUp(tx, u, orchestrator.Wish{}, w.now)
		return err
	})
	return o
}

func (w *world) leave(u orchestrator.UserID) (o signup.Outcome) {
	w.t.Helper()
	w.update(func(tx store.Tx) (err error) {
		o, err = w.signups().Delete(tx, u, w.now)
		return err
	})
	return o
}

func (w *world) instance(id orchestrator.InstanceID) (i orchestrator.Instance) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(v store.Reader) (err error) {
		i, err = v.Instance(id)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) events(id orchestrator.InstanceID) (events []orchestrator.Event) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(v store.Reader) (err error) {
		events, err = v.Events(0, id, 1000)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

// pass looks at everything that is due, once.
func (w *world) pass() {
	w.t.Helper()
	for _, id := range append([]orchestrator.InstanceID{store.Admission}, w.line.ready()...) {
		w.look(id)
	}
}

func (w *world) look(id orchestrator.InstanceID) {
	w.t.Helper()
	delete(w.line.due, id)
	again, err := w.rec.Reconcile(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	if id == store.Admission {
		return
	}
	if added := w.due(id); again >= 0 && !added {
		w.line.due[id] = w.steady + again
	}
	w.line.seen[id] = w.instance(id).Version
}

// until lets time go by, with the agents doing their part, until ok.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for range 2000 {
		w.pass()
		if ok() {
			return
		}
		w.agents()
		w.sleep(time.Second)
	}
	w.t.Fatalf("never happened: %s; instances: %+v", what, w.all())
}

func (w *world) all() (all []orchestrator.Instance) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(v store.Reader) (err error) {
		all, err = v.Instances(store.Filter{Deleted: true})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) reach(id orchestrator.InstanceID, s orchestrator.State) {
	w.t.Helper()
	w.until(string(id)+" is "+string(s), func() bool { return w.instance(id).State == s })
}

// agents enrols each machine that is on, as package enrol writes it down.
func (w *world) agents() {
	w.t.Helper()
	all := w.cloud.Machines()
	for _, other := range w.others {
		if c, ok := other.(*cloud); ok {
			maps.Copy(all, c.Machines())
		}
	}
	for id, m := range all {
		if m.Power != providers.PowerOn || w.cloud.mute {
			continue
		}
		var missing bool
		w.update(func(tx store.Tx) error {
			i, err := tx.InstanceOfMachine(id)
			if errors.Is(err, orchestrator.ErrNotFound) {
				missing = true
				return nil
			}
			if err != nil {
				return err
			}
			locked := w.locked != nil && w.locked(id)
			rising := i.State == orchestrator.StateBooting || i.State == orchestrator.StateEnrolling || i.State == orchestrator.StateAwaitingOwner
			if !rising || i.Enrolment.Healthy || locked && i.Enrolment.AwaitingOwner {
				return tx.Seen(map[providers.MachineID]time.Time{id: w.now})
			}
			e := &i.Enrolment
			switch {
			case e.ChallengedAt.IsZero():
				e.ChallengedAt = w.now
			case !e.Judged:
				e.Judged, e.Accepted, e.Verdict = true, w.cloud.altered == "", "accepted"
				e.EK = attest.Sum([]byte(id))
				if !e.Accepted {
					e.Verdict = w.cloud.altered
				}
			default:
				e.Running, e.Healthy, e.AwaitingOwner = !locked, !locked, locked
			}
			return errors.Join(tx.Replace(&i), tx.Seen(map[providers.MachineID]time.Time{id: w.now}))
		})
		if missing {
			w.t.Logf("machine %s has no row", id)
		}
	}
}

// cloud is the provider in memory, of which every call may be told to fail, or
// to be the last thing that the process does.
type cloud struct {
	*memory.Provider
	// fail answers a call before it does anything; nil for no error.
	fail func(call string) error
	// lose answers a call after it has done everything.
	lose func(call string) error
	// last is the last request for a machine.
	last providers.CreateRequest
	// crashAfter counts calls down to the one in which the process dies,
	// before its effect or, where after is set, after it; -1 for never.
	crashAfter int
	after      bool
	// altered is what the machines prove instead; mute keeps agents silent.
	altered string
	mute    bool
	deaf    bool
	// upload, where it is set, keeps EnsureImage until it is closed.
	upload  chan struct{}
	uploads atomic.Int32
	calls   []string
	created int
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{Provider: memory.New(time.Now), crashAfter: -1}
	if err := c.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return c
}

var _ providers.Machines = (*cloud)(nil)

func (c *cloud) do(call string, effect func() error) error {
	c.calls = append(c.calls, call)
	dies := c.crashAfter == 0
	if c.crashAfter >= 0 {
		c.crashAfter--
	}
	if dies && !c.after {
		panic(crash{at: "before " + call})
	}
	if c.fail != nil {
		if err := c.fail(call); err != nil {
			return err
		}
	}
	err := effect()
	if dies {
		panic(crash{at: "after " + call})
	}
	if err == nil && c.lose != nil {
		err = c.lose(call)
	}
	return err
}

func (c *cloud) EnsureImage(ctx context.Context, image providers.Image, progress func(int64, int64)) error {
	if c.upload != nil {
		c.uploads.Add(1)
		progress(3, 8)
		<-c.upload
	}
	return c.do("EnsureImage", func() error { return c.Provider.EnsureImage(ctx, image, progress) })
}

func (c *cloud) Create(ctx context.Context, req providers.CreateRequest) (m providers.Machine, err error) {
	c.last = req
	err = c.do("Create", func() (err error) {
		_, had := c.Machines()[req.Machine]
		if m, err = c.Provider.Create(ctx, req); err == nil && !had {
			c.created++
		}
		return err
	})
	return m, err
}

func (c *cloud) Get(ctx context.Context, id providers.MachineID) (m providers.Machine, err error) {
	err = c.do("Get", func() (err error) {
		m, err = c.Provider.Get(ctx, id)
		return err
	})
	return m, err
}

func (c *cloud) List(ctx context.Context, installation providers.InstallationID, page string) (p providers.Page, err error) {
	err = c.do("List", func() (err error) {
		p, err = c.Provider.List(ctx, installation, page)
		return err
	})
	return p, err
}

func (c *cloud) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	call := "SetPower off"
	if on {
		call = "SetPower on"
	}
	return c.do(call, func() error {
		if c.deaf {
			return nil
		}
		return c.Provider.SetPower(ctx, id, on)
	})
}

func (c *cloud) Apply(ctx context.Context, change providers.Change) (m providers.Machine, err error) {
	err = c.do("Apply", func() (err error) {
		m, err = c.Provider.Apply(ctx, change)
		return err
	})
	return m, err
}

func (c *cloud) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	return c.do("Delete", func() error { return c.Provider.Delete(ctx, id, keepData) })
}

func (c *cloud) has(id providers.MachineID) bool {
	_, ok := c.Machines()[id]
	return ok
}

// change alters the only machine behind the control plane's back.
func (w *world) change(alter func(*providers.Machine)) {
	w.t.Helper()
	m := w.onlyMachine()
	alter(&m)
	w.cloud.Put(m)
}

func (w *world) onlyMachine() providers.Machine {
	w.t.Helper()
	all := w.cloud.Machines()
	if len(all) != 1 {
		w.t.Fatalf("%d machines, want 1: %v", len(all), all)
	}
	for _, m := range all {
		return m
	}
	return providers.Machine{}
}

func secretFree(i orchestrator.Instance) bool {
	return i.User == "" && len(i.Plan.Config) == 0 && i.Plan.TokenHash.IsZero() &&
		i.Enrolment.EK.IsZero() && len(i.Enrolment.AttestationResult) == 0 && bytes.Equal(i.Enrolment.AK, nil)
}
