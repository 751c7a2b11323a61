package providers

import (
	"context"
	"io"
	"time"
)

// Capability is a rare ability that a provider may have.
type Capability string

// The capabilities. Who names one in Info implements its interface.
const (
	CapabilityConsole    Capability = "console"
	CapabilitySnapshot   Capability = "snapshot"
	CapabilityAttachData Capability = "attach-data"
	CapabilityWatch      Capability = "watch"
	CapabilityEndorse    Capability = "endorse"
)

// Consoler has CapabilityConsole.
type Consoler interface {
	// Console streams the machine's console from its beginning; with follow
	// it goes on until ctx ends.
	Console(ctx context.Context, id MachineID, follow bool) (io.ReadCloser, error)
}

// SnapshotID names one snapshot for ever.
type SnapshotID string

// Snapshot is a copy of a data disk as it was at one moment, as after a power
// cut. What it holds is as encrypted as the disk.
type Snapshot struct {
	ID        SnapshotID
	Machine   MachineID
	Bytes     int64
	CreatedAt time.Time
	// Complete says that it can be restored: clouds copy in the background.
	Complete bool
}

// Snapshotter has CapabilitySnapshot. Snapshots outlive their machine, and are
// listed as ResourceSnapshot.
type Snapshotter interface {
	// Snapshot copies the machine's data disk. The same id again answers the
	// snapshot that is there; of another machine it is CodeConflict.
	Snapshot(ctx context.Context, machine MachineID, id SnapshotID) (Snapshot, error)
	// Restore puts the snapshot's contents onto the data disk of the machine
	// that it was taken of, which must be off: CodeConflict where it is not,
	// or where the snapshot is not complete.
	Restore(ctx context.Context, machine MachineID, id SnapshotID) error
	// DeleteSnapshot removes one; an absent one is fine.
	DeleteSnapshot(ctx context.Context, id SnapshotID) error
}

// DataAttacher has CapabilityAttachData.
type DataAttacher interface {
	// AttachData gives a machine that is off the data disk that was kept of
	// another one of the same installation, in place of its own, which must
	// never have been used and is destroyed. The same again is fine. A disk
	// that is not kept is CodeNotFound; a machine that is on, or another
	// installation's, CodeConflict.
	AttachData(ctx context.Context, machine, from MachineID) error
}

// Watcher has CapabilityWatch.
type Watcher interface {
	// Watch calls changed with each machine of the installation that may look
	// otherwise than before, until ctx ends or the stream is lost. They are
	// hints: some may be missing, and whoever needs to know asks with Get.
	Watch(ctx context.Context, installation InstallationID, changed func(MachineID)) error
}

// Endorser has CapabilityEndorse: a cloud whose machines' TPMs have no
// endorsement certificate says itself which key is whose.
type Endorser interface {
	// EndorsementKey answers the public endorsement key of the machine's TPM, a
	// DER SubjectPublicKeyInfo, as the cloud knows it: nothing that a machine says
	// is in it. It is the same for as long as the machine is. CodeNotFound only
	// where the machine is not here.
	EndorsementKey(ctx context.Context, id MachineID) ([]byte, error)
}
