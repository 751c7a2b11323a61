package providertest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// newID draws an id as the control plane does.
func newID() string {
	return strings.ToLower(rand.Text())
}

// bench is what one case works with: an installation of its own, of which
// nothing must be left at the end.
type bench struct {
	*suite
	t            T
	installation providers.InstallationID
	made         []providers.MachineID
	snapshots    []providers.SnapshotID
}

func (s *suite) bench(t T) *bench {
	t.Helper()
	b := &bench{suite: s, t: t, installation: providers.InstallationID(newID())}
	t.Cleanup(b.clean)
	return b
}

// cleanPatience is how long what a case made may take to go.
const cleanPatience = time.Minute

// clean deletes what the case made and counts what is still there.
func (b *bench) clean() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), cleanPatience+b.Patience)
	defer cancel()
	if b.Faults != nil {
		if err := b.Faults.Clear(ctx); err != nil {
			b.t.Errorf("ending the faults: %v", err)
		}
	}
	for _, id := range b.snapshots {
		if err := b.snapshotter().DeleteSnapshot(ctx, id); err != nil {
			b.t.Errorf("DeleteSnapshot(%s): %v", id, err)
		}
	}
	for _, id := range b.made {
		if err := b.delete(ctx, id, false); err != nil {
			b.t.Errorf("Delete(%s): %v", id, err)
		}
	}
	left, err := b.listAll(ctx)
	if err != nil {
		b.t.Errorf("seeing what is left: %v", err)
	}
	b.leaks += len(left)
	for _, r := range left {
		b.t.Errorf("left behind: %+v", r)
	}
}

// delete deletes as the control plane does: what is only not possible now is
// tried again.
func (b *bench) delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	return b.insist(ctx, func() error { return b.Provider.Delete(ctx, id, keepData) })
}

// insist repeats a call that was answered with something that passes.
func (b *bench) insist(ctx context.Context, call func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := call()
		if !passes(err) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// passes reports whether an error is one that the same call does not meet for
// ever.
func passes(err error) bool {
	switch providers.CodeOf(err) {
	case providers.CodeAborted, providers.CodeUnavailable, providers.CodeThrottled, providers.CodeOutcomeUnknown:
		return true
	}
	return false
}

func (b *bench) request() providers.CreateRequest {
	id := providers.MachineID(newID())
	b.made = append(b.made, id)
	return providers.CreateRequest{Installation: b.installation, Machine: id, Generation: 1, Spec: b.Spec}
}

func (b *bench) ensureImage() {
	b.t.Helper()
	if err := b.Provider.EnsureImage(b.t.Context(), b.Image, nil); err != nil {
		b.t.Fatalf("EnsureImage: %v", err)
	}
}

// create makes a machine and waits until it is on.
func (b *bench) create() (providers.CreateRequest, providers.Machine) {
	b.t.Helper()
	b.ensureImage()
	req := b.request()
	if _, err := b.Provider.Create(b.t.Context(), req); err != nil {
		b.t.Fatalf("Create: %v", err)
	}
	return req, b.await(req.Machine, providers.PowerOn)
}

// createOff makes a machine and switches it off.
func (b *bench) createOff() (providers.CreateRequest, providers.Machine) {
	b.t.Helper()
	req, _ := b.create()
	b.power(req.Machine, false)
	return req, b.await(req.Machine, providers.PowerOff)
}

// createKept makes a machine and deletes it but for its disk.
func (b *bench) createKept() providers.CreateRequest {
	b.t.Helper()
	req, _ := b.create()
	if err := b.delete(b.t.Context(), req.Machine, true); err != nil {
		b.t.Fatalf("Delete(keep data): %v", err)
	}
	return req
}

func (b *bench) power(id providers.MachineID, on bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), b.Patience)
	defer cancel()
	if err := b.insist(ctx, func() error { return b.Provider.SetPower(ctx, id, on) }); err != nil {
		b.t.Fatalf("SetPower(%t): %v", on, err)
	}
}

func (b *bench) get(id providers.MachineID) providers.Machine {
	b.t.Helper()
	m, err := b.Provider.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatalf("Get(%s): %v", id, err)
	}
	return m
}

// await asks until the machine is in a power state. The contract has no way to
// be told for certain.
func (b *bench) await(id providers.MachineID, want providers.Power) providers.Machine {
	b.t.Helper()
	var m providers.Machine
	b.eventually("the machine is "+string(want), func() (bool, string) {
		var err error
		m, err = b.Provider.Get(b.t.Context(), id)
		switch {
		case passes(err):
			return false, err.Error()
		case err != nil:
			b.t.Fatalf("Get(%s): %v", id, err)
		case m.Power == providers.PowerCrashed && want != providers.PowerCrashed:
			b.t.Fatalf("machine crashed: %s", m.Reason)
		}
		return m.Power == want, string(m.Power) + " " + m.Reason
	})
	return m
}

// eventually asks until holds does, for as long as the subject may take.
func (b *bench) eventually(what string, holds func() (ok bool, instead string)) {
	b.t.Helper()
	deadline := time.NewTimer(b.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, instead := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			b.t.Fatalf("after %s it does not hold that %s: %s", b.Patience, what, instead)
		}
	}
}

var errPages = errors.New("list has no end")

// listAll reads every page.
func (b *bench) listAll(ctx context.Context) ([]providers.Resource, error) {
	const mostPages = 1000
	var out []providers.Resource
	page := ""
	for range mostPages {
		var p providers.Page
		err := b.insist(ctx, func() (err error) {
			p, err = b.Provider.List(ctx, b.installation, page)
			return err
		})
		if err != nil {
			return out, err
		}
		out = append(out, p.Resources...)
		if p.Next == "" {
			return out, nil
		}
		if p.Next == page {
			return out, errPages
		}
		page = p.Next
	}
	return out, errPages
}

func (b *bench) list() []providers.Resource {
	b.t.Helper()
	out, err := b.listAll(b.t.Context())
	if err != nil {
		b.t.Fatalf("List: %v", err)
	}
	return out
}

// wantOnly checks that the installation has so many machines.
func (b *bench) wantMachines(want int) {
	b.t.Helper()
	if n := count(b.list(), providers.ResourceMachine); n != want {
		b.t.Errorf("%d machines are listed, want %d", n, want)
	}
}

func (b *bench) wantNothing() {
	b.t.Helper()
	if left := b.list(); len(left) != 0 {
		b.t.Errorf("left: %+v", left)
	}
}

func count(resources []providers.Resource, kind providers.ResourceKind) int {
	n := 0
	for _, r := range resources {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

// wantCode checks that err is an *Error with the code, and one that says
// something.
func wantCode(t T, what string, err error, want ...providers.Code) {
	t.Helper()
	var e *providers.Error
	if !errors.As(err, &e) {
		t.Errorf("%s answered %v, want %s", what, err, want)
		return
	}
	if e.Message == "" {
		t.Errorf("%s answered an error without a message: %+v", what, e)
	}
	for _, code := range want {
		if e.Code == code {
			return
		}
	}
	t.Errorf("%s answered %v, want %s", what, err, want)
}
