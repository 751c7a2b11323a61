// Package store is what the control plane asks of its database.
//
// Invariants: every change and the job that follows from it are one
// transaction; an instance is only ever written over the version that was
// read; events are appended and never changed. Errors are orchestrator's
// sentinels, wrapped.
package store

import (
	"context"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

// Store runs transactions.
type Store interface {
	// Update runs f in one transaction, which holds when Update returns nil
	// and never happened otherwise. Only one runs at a time.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f on one consistent state.
	View(ctx context.Context, f func(Reader) error) error
}

// Queue hands out the hints that transactions enqueued.
type Queue interface {
	// Work calls handle for each hint, several at a time, until ctx ends, and
	// returns when the last handle has. A hint whose handle failed comes again.
	Work(ctx context.Context, handle func(context.Context, orchestrator.InstanceID) error) error
}

// Watcher tells of commits.
type Watcher interface {
	// Changed returns a channel that is closed by the next commit.
	Changed() <-chan struct{}
}

// Reader reads.
type Reader interface {
	InstanceReader
	EventReader
	ReleaseReader
	SignupReader
	Meta(key string) (string, error)
	// TokenName answers whose token has that hash.
	TokenName(hash attest.Digest) (string, error)
}

// Tx reads and writes.
type Tx interface {
	Reader
	InstanceWriter
	SignupWriter
	PutRelease(orchestrator.Release) error
	PutMeta(key, value string) error
	PutToken(hash attest.Digest, name string) error
}

// InstanceReader finds instances.
type InstanceReader interface {
	Instance(orchestrator.InstanceID) (orchestrator.Instance, error)
	// InstanceOfMachine finds by the machine the instance points at now.
	InstanceOfMachine(providers.MachineID) (orchestrator.Instance, error)
	Instances(Filter) ([]orchestrator.Instance, error)
	// Machine answers which instance a machine was ever drawn for.
	Machine(providers.MachineID) (orchestrator.InstanceID, error)
}

// Filter selects instances, in the order in which they were made.
type Filter struct {
	// User is whose; empty for anybody's.
	User orchestrator.UserID
	// Desired is empty for either.
	Desired orchestrator.Desired
	// Deleted includes those that are gone.
	Deleted bool
	// DueBy leaves out what does not want to be looked at by then; zero for all.
	DueBy time.Time
	// After is the last id of the page before, Limit the page's size; zero
	// for no limit.
	After orchestrator.InstanceID
	Limit int
}

// InstanceWriter changes instances.
type InstanceWriter interface {
	// Insert adds an instance; ErrConflict where its user has one already.
	Insert(orchestrator.Instance) error
	// Replace writes i over the version that it was read at and raises it;
	// ErrStale where the row has moved on.
	Replace(i *orchestrator.Instance) error
	// Seen records heartbeats that say nothing new, without raising versions.
	Seen(map[providers.MachineID]time.Time) error
	Journal
}

// Journal appends what a transaction leaves for others.
type Journal interface {
	// Note appends to the history.
	Note(orchestrator.Event) error
	// Enqueue leaves a hint to look at an instance as soon as the transaction
	// holds. When to look again without one is in the instance's NextAt.
	Enqueue(orchestrator.InstanceID) error
}

// EventReader reads the history.
type EventReader interface {
	// Events returns at most limit events after an id, of one instance or,
	// where that is empty, of all.
	Events(after int64, of orchestrator.InstanceID, limit int) ([]orchestrator.Event, error)
	// States counts instances by state.
	States() (map[orchestrator.State]int, error)
}

// ReleaseReader reads releases.
type ReleaseReader interface {
	Release(attest.ReleaseDigest) (orchestrator.Release, error)
	// Releases lists them, the one to use by default first: the highest
	// epoch, then the one added last.
	Releases() ([]orchestrator.Release, error)
}

// Receipt is a webhook message as it was taken in.
type Receipt struct {
	ID     string
	Body   attest.Digest
	At     time.Time
	Result string
}

// SignupReader reads what is known of signups.
type SignupReader interface {
	// Receipt finds a message taken in before.
	Receipt(id string) (Receipt, error)
	// Tombstone answers up to which time the user's signups are void; the
	// zero time where the user was never deleted.
	Tombstone(orchestrator.UserID) (time.Time, error)
}

// SignupWriter records signups.
type SignupWriter interface {
	PutReceipt(Receipt) error
	// PutTombstone voids the user's signups up to a time; an earlier one changes
	// nothing.
	PutTombstone(user orchestrator.UserID, upTo time.Time) error
}
