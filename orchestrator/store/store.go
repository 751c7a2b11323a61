// Package store is what the control plane asks of its database.
//
// Invariants: every change and the hint that follows from it are one
// transaction; an instance is only ever written over the version that was
// read; events and results are appended and never changed. A row that is neither deleted
// nor at rest is itself the job: a hint that is lost, with the process that
// had it, is made up for by reading the rows. Errors are orchestrator's
// sentinels, wrapped.
package store

import (
	"context"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/workqueue"
	"github.com/toolshed-cloud/shed/providers"
)

// Store runs transactions.
type Store interface {
	// Update runs f in a transaction, whose changes hold when Update returns
	// nil and never happened otherwise. Those that come at the same time run
	// one after another and share a commit; the failure of one undoes its own
	// part alone. f may not call Update.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f on one consistent state.
	View(ctx context.Context, f func(Reader) error) error
}

// Admission is the hint that somebody waits for room or that room was made:
// it stands for all who wait.
const Admission orchestrator.InstanceID = ""

// Never answers that nothing but a hint makes another look necessary.
const Never = workqueue.Never

// Look is what is done for a hint. It answers after how long to look again
// without one, or Never.
type Look = workqueue.Look[orchestrator.InstanceID]

// Queue hands out the hints that transactions enqueued.
type Queue interface {
	// Work looks at each instance of which there is a hint and each that is
	// due, several side by side and none twice at once, until ctx ends; it
	// returns when the last look has. One that failed comes again.
	Work(ctx context.Context, look Look) error
	// Add puts instances in line behind those that transactions enqueued.
	Add(...orchestrator.InstanceID)
}

// Watcher tells of commits.
type Watcher interface {
	// Changed returns a channel that is closed by the next commit.
	Changed() <-chan struct{}
}

// Reader reads. What is not there is ErrNotFound.
type Reader interface {
	Instance(orchestrator.InstanceID) (orchestrator.Instance, error)
	// InstanceOfMachine finds by the machine the instance points at now.
	InstanceOfMachine(providers.MachineID) (orchestrator.Instance, error)
	// InstanceOfUser finds the one that the user shall have.
	InstanceOfUser(orchestrator.UserID) (orchestrator.Instance, error)
	Instances(Filter) ([]orchestrator.Instance, error)
	// Admissible returns at most limit instances that wait for room, in the
	// order in which they came, without those whose user's instance before is
	// still being deleted.
	Admissible(limit int) ([]orchestrator.Instance, error)
	// Places counts the instances that hold a place.
	Places() (int, error)
	// Unfinished lists the instances that are neither deleted nor waiting for
	// room.
	Unfinished() ([]orchestrator.InstanceID, error)
	// Machine answers which instance a machine was ever drawn for.
	Machine(providers.MachineID) (orchestrator.InstanceID, error)

	// Events returns at most limit events after an id, of one instance or,
	// where that is empty, of all.
	Events(after int64, of orchestrator.InstanceID, limit int) ([]orchestrator.Event, error)
	// States counts instances by state.
	States() (map[orchestrator.State]int, error)

	Release(attest.ReleaseDigest) (orchestrator.Release, error)
	// Releases lists them, the highest epoch first, of these the one added last.
	Releases() ([]orchestrator.Release, error)

	// Receipt finds a message taken in before.
	Receipt(id string) (Receipt, error)
	// Tombstone answers up to which time the user's signups are void; the
	// zero time where the user was never deleted.
	Tombstone(orchestrator.UserID) (time.Time, error)

	// ResultsHead is the end of the chain of results.
	ResultsHead() (auditlog.Head, error)
	// Results returns at most limit results, in their order, from an index on.
	Results(from uint64, limit int) ([]auditlog.Record, error)
	// LastResult is the newest of an instance.
	LastResult(orchestrator.InstanceID) (auditlog.Record, error)

	Meta(key string) (string, error)
	// TokenName answers whose token has that hash.
	TokenName(hash attest.Digest) (string, error)
}

// Tx reads and writes.
type Tx interface {
	Reader
	// Insert adds an instance; ErrConflict where its user has one already.
	Insert(orchestrator.Instance) error
	// Replace writes i over the version that it was read at and raises it;
	// ErrStale where the row has moved on. LastSeen is Seen's, and can only be
	// forgotten here.
	Replace(i *orchestrator.Instance) error
	// Seen records heartbeats, without raising versions.
	Seen(map[providers.MachineID]time.Time) error
	// Note appends to the history.
	Note(orchestrator.Event) error
	// Enqueue leaves a hint to look at an instance, or Admission, as soon as
	// the transaction holds, before all that is only due.
	Enqueue(orchestrator.InstanceID) error

	// AppendResult puts a result at the end of the chain, whatever index it has.
	AppendResult(auditlog.Entry) error

	PutRelease(orchestrator.Release) error
	// PutReceipt records a message; ErrConflict where its id was taken in.
	PutReceipt(Receipt) error
	// PutTombstone voids the user's signups up to a time; an earlier one
	// changes nothing.
	PutTombstone(user orchestrator.UserID, upTo time.Time) error
	PutMeta(key, value string) error
	PutToken(hash attest.Digest, name string) error
}

// Filter selects instances, in the order in which they were made.
type Filter struct {
	// User is whose; empty for anybody's.
	User orchestrator.UserID
	// Deleted includes those that are gone.
	Deleted bool
	// After is the last id of the page before, Limit the page's size; zero
	// for no limit.
	After orchestrator.InstanceID
	Limit int
}

// Receipt is a webhook message as it was taken in.
type Receipt struct {
	ID     string
	Body   attest.Digest
	At     time.Time
	Result string
}
