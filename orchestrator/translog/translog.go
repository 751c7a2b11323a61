// Package translog is the transparency log that a control plane runs: what its
// releases, rotations and withdrawals stand in, for anybody to read.
//
// Invariants: an entry stands in the log only with the signature of the key
// that it is about; no checkpoint is shown before a quorum of the witnesses has
// cosigned it; what was shown is never taken back, and a log whose key or tree
// does not fit what was there before does not start. The log's key signs
// checkpoints and its own rotation, and never a release.
package translog

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"go.uber.org/zap"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/witness"
)

// Remote is a witness that is asked.
type Remote struct {
	// URL is the witness's submission prefix, Key its verifier key.
	URL string
	Key checkpoint.Key
}

// Options are what a log is made from; all are needed but AuditKey.
type Options struct {
	// Dir holds the tiles and the log's keys.
	Dir string
	// Keys sign checkpoints, the newest first; those before it sign on until
	// every witness knows the newest.
	Keys      []*checkpoint.Signer
	Witnesses []Remote
	// Quorum is how many of them have to cosign before anything is shown.
	Quorum int
	// ReleaseKey signs releases, withdrawals and its own rotation. AuditKey
	// signs audit heads; nil refuses them.
	ReleaseKey crypto.PublicKey
	AuditKey   crypto.PublicKey
	// Interval is how soon a new entry gets a checkpoint, at least 100 ms;
	// Refresh how often the cosignatures of an unchanged log are renewed.
	Interval, Refresh time.Duration
	Logger            *zap.Logger
}

// witnessTimeout bounds one round of asking the witnesses.
const witnessTimeout = 10 * time.Second

// Log is a log that is open.
type Log struct {
	Options
	tiles    *os.Root
	unlock   func() error
	appender *tessera.Appender
	stop     context.CancelFunc
	asked    []*witness.Client
	http     *http.Client
	wake     chan struct{}

	// adding serialises additions: an entry is added once.
	adding sync.Mutex
	// rotating serialises rotations of the log's key: each is of the key that
	// the one before it drew.
	rotating sync.Mutex
	// rounds serialises rounds of asking the witnesses.
	rounds sync.Mutex

	// mu guards what follows: what stands in the log, the head that is shown,
	// and the documents that were made under it.
	mu        sync.Mutex
	known     contents
	head      head
	documents map[attest.ReleaseDigest][]byte
}

// head is a checkpoint with its cosignatures.
type head struct {
	checkpoint.Checkpoint
	signed []byte
	// at is when a quorum had been reached, changed is closed by the next.
	at      time.Time
	changed chan struct{}
}

// ErrUnwitnessed says that too few witnesses have cosigned so far.
var ErrUnwitnessed = errors.New("too few witnesses have cosigned the log")

const lockFile = ".lock"

// Open takes the directory and reads what stands in the log. Errors are
// statefile.ErrLocked, the files', and attest.ErrTransparency for a log that
// does not fit its keys or its head.
func Open(ctx context.Context, o Options) (_ *Log, err error) {
	if len(o.Keys) == 0 || o.Quorum < 0 || o.Quorum > len(o.Witnesses) {
		return nil, fmt.Errorf("%w: the log has no key, or asks %d of %d witnesses", attest.ErrPolicy, o.Quorum, len(o.Witnesses))
	}
	tilesDir := filepath.Join(o.Dir, "tiles")
	if err := os.MkdirAll(tilesDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the log's directory: %w", err)
	}
	unlock, err := statefile.TryLock(filepath.Join(o.Dir, lockFile))
	if err != nil {
		return nil, err
	}
	l := &Log{Options: o, unlock: unlock, wake: make(chan struct{}, 1), http: &http.Client{Timeout: witnessTimeout}}
	l.head.changed = make(chan struct{})
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.tiles, err = os.OpenRoot(tilesDir); err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	for _, r := range o.Witnesses {
		l.asked = append(l.asked, &witness.Client{URL: r.URL, Key: r.Key, HTTP: l.http})
	}
	shown, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	return l, l.begin(ctx, tilesDir, shown)
}

// begin starts the driver, which writes the first checkpoint of a new log. What
// it holds beyond its last checkpoint is in the log all the same.
func (l *Log) begin(ctx context.Context, dir string, shown int64) error {
	quiet(l.Logger)
	driver, err := posix.New(ctx, posix.Config{Path: dir, HTTPClient: l.http})
	if err != nil {
		return fmt.Errorf("opening the log's tiles: %w", err)
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(&signers{log: l}).WithCheckpointInterval(l.Interval).
		WithBatching(64, l.Interval/8).WithGarbageCollectionInterval(0)
	// The driver works until this context ends, whatever opened it.
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	var reader tessera.LogReader
	if l.appender, _, reader, err = tessera.NewAppender(ctx, driver, options); err != nil {
		return fmt.Errorf("opening the log's tiles: %w", err)
	}
	size, err := reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("reading the log's size: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replay(ctx, shown, int64(size), func([]byte) {})
}

// replay takes the entries of a part of the log into memory.
func (l *Log) replay(ctx context.Context, from, size int64, each func([]byte)) error {
	index := from
	for record, err := range logtiles.Entries(ctx, l.fetch, from, size) {
		if err == nil {
			err = l.known.take(record, index)
		}
		if err != nil {
			return fmt.Errorf("reading the log at index %d: %w", index, err)
		}
		each(record)
		index++
	}
	return nil
}

// Close stops the log. It is harmless twice.
func (l *Log) Close() error {
	var errs []error
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
	if l.tiles != nil {
		errs = append(errs, l.tiles.Close())
		l.tiles = nil
	}
	if l.unlock != nil {
		errs = append(errs, l.unlock())
		l.unlock = nil
	}
	return errors.Join(errs...)
}

// Key is the newest of the log's keys.
func (l *Log) Key() checkpoint.Key {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Keys[0].Key
}

// ReleaseKeys are the keys that signed releases in this log, the one in use
// first.
func (l *Log) ReleaseKeys() []crypto.PublicKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := slices.Clone(l.known.signers)
	slices.Reverse(keys)
	return keys
}

// fetch reads one of the log's own files.
func (l *Log) fetch(_ context.Context, path string) ([]byte, error) {
	return l.tiles.ReadFile(filepath.FromSlash(path))
}

// load replays the log into memory, compares it with its own head, and answers
// the head's size.
func (l *Log) load(ctx context.Context) (int64, error) {
	l.known = newContents(l.ReleaseKey)
	signed, err := l.fetch(ctx, logtiles.CheckpointPath)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the log's checkpoint: %w", err)
	}
	opened, err := l.own(signed)
	if err != nil {
		return 0, err
	}
	var tree logtiles.Tree
	if err := l.replay(ctx, 0, opened.Size, tree.Add); err != nil {
		return 0, err
	}
	if tree.Root() != opened.Root {
		return 0, refused("the log's entries do not make the root of its own checkpoint at size %d", opened.Size)
	}
	return opened.Size, nil
}

// own opens a checkpoint of this log with any of its keys.
func (l *Log) own(signed []byte) (s *checkpoint.Signed, err error) {
	for _, key := range l.signersNow() {
		if s, err = checkpoint.Open(signed, key.Key, nil); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the log's own checkpoint: %w", err)
}

func (l *Log) signersNow() []*checkpoint.Signer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Keys
}

// Add puts an entry into the log, once, and answers its index when a
// checkpoint commits to it. A withdrawal that is signed anew, by the same key and for the
// same reason as the latest of its release, is that one. Errors are attest.ErrMalformed,
// attest.ErrTransparency for an entry that is not its signer's to make, ctx's
// and the disk's.
func (l *Log) Add(ctx context.Context, record []byte) (int64, error) {
	entry, err := logentry.Parse(record)
	if err != nil {
		return 0, err
	}
	l.adding.Lock()
	defer l.adding.Unlock()
	if index, ok := l.find(record); ok {
		return index, nil
	}
	if index, ok, err := l.accepts(entry); ok || err != nil {
		return index, err
	}
	added, err := l.appender.Add(ctx, tessera.NewEntry(record))()
	if err != nil {
		return 0, fmt.Errorf("adding to the log: %w", err)
	}
	index := int64(added.Index)
	l.mu.Lock()
	err = l.known.take(record, index)
	l.mu.Unlock()
	l.awake()
	return index, err
}

func (l *Log) awake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Log) find(record []byte) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index, ok := l.known.byHash[attest.Sum(record)]
	return index, ok
}

// accepts refuses an entry that is not its signer's to make, and is where one stands
// that states nothing new.
func (l *Log) accepts(e *logentry.Entry) (index int64, stands bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.known.accepts(e, l.AuditKey, l.keysOf()); err != nil {
		return 0, false, err
	}
	index, stands = l.known.stands(e)
	return index, stands, nil
}

// keysOf are the verifier keys whose rotation this log takes in: its own and
// the witnesses'. Called with mu held.
func (l *Log) keysOf() []checkpoint.Key {
	var keys []checkpoint.Key
	for _, key := range l.Keys {
		keys = append(keys, key.Key)
	}
	for _, r := range l.Witnesses {
		keys = append(keys, r.Key)
	}
	return keys
}

// Witnessed waits until the head that is shown has an index. Errors are
// ErrUnwitnessed with ctx's.
func (l *Log) Witnessed(ctx context.Context, index int64) error {
	for {
		h := l.shown()
		if h.Size > index {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrUnwitnessed, ctx.Err())
		case <-h.changed:
		}
	}
}

func (l *Log) shown() head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// prove is a consistency proof up to a head of this log.
func (l *Log) prove(ctx context.Context, c checkpoint.Checkpoint, from int64) (tlog.TreeProof, error) {
	p, err := tlog.ProveTree(c.Size, from, logtiles.Hashes(ctx, l.fetch, c))
	if err != nil {
		return nil, fmt.Errorf("proving that the log grew from %d to %d: %w", from, c.Size, err)
	}
	return p, nil
}
