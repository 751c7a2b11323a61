package providertest

import (
	"context"
	"io"

	"github.com/toolshed-cloud/shed/providers"
)

var consoleCases = []testCase{
	{name: "console-of-nothing-is-not-found", needs: providers.CapabilityConsole, check: func(t T, s *suite) {
		_, err := s.consoler(t).Console(t.Context(), providers.MachineID(newID()), false)
		wantCode(t, "Console", err, providers.CodeNotFound)
	}},
	{name: "console-shows-a-machine", needs: providers.CapabilityConsole, check: consoleShows},
	{name: "console-is-followed-until-its-reader-goes", needs: providers.CapabilityConsole, check: consoleFollows},
}

func (s *suite) consoler(t T) providers.Consoler {
	t.Helper()
	c, ok := s.Provider.(providers.Consoler)
	if !ok {
		t.Fatalf("the provider says that it has consoles, and has none")
	}
	return c
}

func consoleShows(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	r, err := s.consoler(t).Console(t.Context(), req.Machine, false)
	if err != nil {
		t.Fatalf("Console: %v", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("reading the console: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closing the console: %v", err)
	}
}

func consoleFollows(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.consoler(t).Console(ctx, req.Machine, true)
	if err != nil {
		t.Fatalf("Console, following: %v", err)
	}
	defer r.Close()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Errorf("following the console: %v", err)
	}
	cancel()
	// Whether the end is an error does not matter: that it comes does.
	ended := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, r); ended <- err }()
	b.within("following the console ends", ended)
}

var snapshotCases = []testCase{
	{name: "snapshot-is-taken-of-a-machine-that-is-on", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.snapshot(req)
		if m := b.get(req.Machine); m.Power != providers.PowerOn {
			t.Errorf("the machine is %s afterwards", m.Power)
		}
	}},
	{name: "snapshot-is-taken-of-a-machine-that-is-off", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		b.snapshot(req)
	}},
	{name: "snapshot-can-be-repeated", needs: providers.CapabilitySnapshot, check: snapshotRepeats},
	{name: "snapshot-of-another-machine-conflicts", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		one, _ := b.create()
		other, _ := b.create()
		_, err := b.snapshotter().Snapshot(t.Context(), other.Machine, b.snapshot(one).ID)
		wantCode(t, "Snapshot", err, providers.CodeConflict)
	}},
	{name: "snapshot-of-nothing-is-not-found", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		_, err := b.snapshotter().Snapshot(t.Context(), providers.MachineID(newID()), providers.SnapshotID(newID()))
		wantCode(t, "Snapshot", err, providers.CodeNotFound)
	}},
	{name: "snapshot-outlives-its-machine-and-is-listed", needs: providers.CapabilitySnapshot, check: snapshotOutlives},
	{name: "snapshot-is-restored-to-a-machine-that-is-off", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		if err := b.restore(req.Machine, b.snapshot(req).ID); err != nil {
			t.Fatalf("Restore: %v", err)
		}
		b.power(req.Machine, true)
		b.await(req.Machine, providers.PowerOn)
	}},
	{name: "snapshot-is-not-restored-to-a-machine-that-is-on", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		wantCode(t, "Restore", b.restore(req.Machine, b.snapshot(req).ID), providers.CodeConflict)
	}},
	{name: "snapshot-is-not-restored-to-another-machine", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		one, _ := b.create()
		other, _ := b.createOff()
		wantCode(t, "Restore", b.restore(other.Machine, b.snapshot(one).ID), providers.CodeConflict)
	}},
	{name: "snapshot-that-is-not-there-is-not-found", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		wantCode(t, "Restore", b.restore(req.Machine, providers.SnapshotID(newID())), providers.CodeNotFound)
	}},
	{name: "snapshot-can-be-deleted-twice", needs: providers.CapabilitySnapshot, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		id := b.snapshot(req).ID
		for range 2 {
			if err := b.snapshotter().DeleteSnapshot(t.Context(), id); err != nil {
				t.Errorf("DeleteSnapshot: %v", err)
			}
		}
		if n := count(b.list(), providers.ResourceSnapshot); n != 0 {
			t.Errorf("%d snapshots are listed", n)
		}
	}},
}

func (b *bench) snapshotter() providers.Snapshotter {
	b.t.Helper()
	s, ok := b.Provider.(providers.Snapshotter)
	if !ok {
		b.t.Fatalf("the provider says that it makes snapshots, and does not")
	}
	return s
}

// snapshot takes one and waits until it is complete.
func (b *bench) snapshot(req providers.CreateRequest) providers.Snapshot {
	b.t.Helper()
	id := providers.SnapshotID(newID())
	b.snapshots = append(b.snapshots, id)
	var made providers.Snapshot
	b.eventually("the snapshot is complete", func() (bool, string) {
		var err error
		made, err = b.snapshotter().Snapshot(b.t.Context(), req.Machine, id)
		if err != nil && !passes(err) {
			b.t.Fatalf("Snapshot: %v", err)
		}
		return err == nil && made.Complete, "it is not"
	})
	if made.ID != id || made.Machine != req.Machine || made.CreatedAt.IsZero() || made.Bytes < req.Spec.DataBytes {
		b.t.Errorf("snapshot %+v", made)
	}
	return made
}

// restore asks again where the machine is busy for a moment, as with the end of
// the copy.
func (b *bench) restore(machine providers.MachineID, id providers.SnapshotID) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), b.Patience)
	defer cancel()
	return b.insist(ctx, func() error { return b.snapshotter().Restore(ctx, machine, id) })
}

func snapshotRepeats(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	first := b.snapshot(req)
	again, err := b.snapshotter().Snapshot(t.Context(), req.Machine, first.ID)
	if err != nil || !again.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("got %+v, %v, was %+v", again, err, first)
	}
	if n := count(b.list(), providers.ResourceSnapshot); n != 1 {
		t.Errorf("%d snapshots are listed", n)
	}
}

func snapshotOutlives(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	made := b.snapshot(req)
	b.gone(req.Machine, false)
	left := b.list()
	if len(left) != 1 || left[0].Kind != providers.ResourceSnapshot || left[0].Machine != req.Machine {
		t.Errorf("left: %+v, want snapshot %s alone", left, made.ID)
	}
}

var attachCases = []testCase{
	{name: "attach-gives-a-machine-the-disk-of-another", needs: providers.CapabilityAttachData, check: attachGives},
	{name: "attach-can-be-repeated", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		b := s.bench(t)
		from := b.createKept()
		req, _ := b.createOff()
		for range 2 {
			b.attach(req.Machine, from.Machine)
		}
	}},
	{name: "attach-of-a-disk-that-is-not-kept-is-not-found", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		wantCode(t, "AttachData", b.attacher().AttachData(t.Context(), req.Machine, providers.MachineID(newID())), providers.CodeNotFound)
	}},
	{name: "attach-of-a-disk-in-use-is-not-found", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		b := s.bench(t)
		from, _ := b.create()
		req, _ := b.createOff()
		wantCode(t, "AttachData", b.attacher().AttachData(t.Context(), req.Machine, from.Machine), providers.CodeNotFound)
	}},
	{name: "attach-to-a-machine-that-is-on-conflicts", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		b := s.bench(t)
		from := b.createKept()
		req, _ := b.create()
		wantCode(t, "AttachData", b.attacher().AttachData(t.Context(), req.Machine, from.Machine), providers.CodeConflict)
		if n := count(b.list(), providers.ResourceDataDisk); n != 2 {
			t.Errorf("%d data disks, want both", n)
		}
	}},
	{name: "attach-to-nothing-is-not-found", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		b := s.bench(t)
		from := b.createKept()
		wantCode(t, "AttachData", b.attacher().AttachData(t.Context(), providers.MachineID(newID()), from.Machine), providers.CodeNotFound)
		b.wantKept(from)
	}},
	{name: "attach-of-another-installations-disk-conflicts", needs: providers.CapabilityAttachData, check: func(t T, s *suite) {
		one, other := s.bench(t), s.bench(t)
		from := one.createKept()
		req, _ := other.createOff()
		wantCode(t, "AttachData", other.attacher().AttachData(t.Context(), req.Machine, from.Machine), providers.CodeConflict)
		one.wantKept(from)
	}},
}

func (b *bench) attacher() providers.DataAttacher {
	b.t.Helper()
	a, ok := b.Provider.(providers.DataAttacher)
	if !ok {
		b.t.Fatalf("the provider says that it attaches disks, and does not")
	}
	return a
}

func (b *bench) attach(machine, from providers.MachineID) {
	b.t.Helper()
	err := b.insist(b.t.Context(), func() error { return b.attacher().AttachData(b.t.Context(), machine, from) })
	if err != nil {
		b.t.Fatalf("AttachData: %v", err)
	}
}

func attachGives(t T, s *suite) {
	b := s.bench(t)
	from := b.createKept()
	req, _ := b.createOff()
	b.attach(req.Machine, from.Machine)
	if n := count(b.list(), providers.ResourceDataDisk); n != 1 {
		t.Errorf("%d data disks, want the one that was kept", n)
	}
	b.power(req.Machine, true)
	b.await(req.Machine, providers.PowerOn)
	// The disk is the new machine's now: what becomes of the old one's id
	// does not touch it.
	b.gone(from.Machine, false)
	if n := count(b.get(req.Machine).Resources, providers.ResourceDataDisk); n != 1 {
		t.Errorf("the machine has %d data disks", n)
	}
}
