// Package witness cosigns the checkpoints of logs that only ever grow (C2SP
// tlog-witness), so that a log cannot show one history to one client and
// another to the next.
//
// Invariants: what is cosigned is consistent with everything cosigned before of
// that log; the new head is on the disk before the cosignature leaves; of two
// requests at once one is first and the other is told so; a directory has one
// witness.
package witness

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

const (
	keyFile  = "witness.key"
	lockFile = ".lock"
	maxKey   = 1 << 10
)

// LoadKey reads the witness's key from dir, which it makes, and draws one where
// there is none. Errors are the files', random's, and attest.ErrMalformed for a
// key of another name.
func LoadKey(dir, name string, random io.Reader, clock func() time.Time) (*checkpoint.Signer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the witness's directory: %w", err)
	}
	return loadKey(filepath.Join(dir, keyFile), name, random, clock)
}

func loadKey(path, name string, random io.Reader, clock func() time.Time) (*checkpoint.Signer, error) {
	text, err := readCapped(path, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return drawKey(path, name, random, clock)
	}
	if err != nil {
		return nil, err
	}
	signer, err := checkpoint.ParseSigner(checkpoint.KindWitness, string(text), clock)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if name != "" && signer.Name() != name {
		return nil, fmt.Errorf("%w: %s is the key of %s, not of %s", attest.ErrMalformed, path, signer.Name(), name)
	}
	return signer, nil
}

func drawKey(path, name string, random io.Reader, clock func() time.Time) (*checkpoint.Signer, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("drawing the witness's key: %w", err)
	}
	if name == "" {
		name = "witness-" + hex.EncodeToString(private.Public().(ed25519.PublicKey)[:4])
	}
	signer, err := checkpoint.NewSigner(checkpoint.KindWitness, name, private, clock)
	if err != nil {
		return nil, err
	}
	return signer, statefile.Write(path, 0o600, []byte(signer.Encode()))
}

func readCapped(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return b, nil
}

// Witness cosigns for the logs that it knows.
type Witness struct {
	signer *checkpoint.Signer
	logs   map[string]*log
	unlock func() error
}

// log is what is known of one log.
type log struct {
	// keys are those that may sign its checkpoints.
	keys []checkpoint.Key
	path string
	// mu guards latest: a checkpoint is compared, kept and cosigned at once.
	mu sync.Mutex
	// latest is the last that was cosigned; its origin is empty before.
	latest checkpoint.Checkpoint
}

// Open takes the directory for one witness. Several keys of one origin are
// those of a log whose key rotates. Errors are statefile.ErrLocked,
// attest.ErrMalformed and the files'.
func Open(dir string, signer *checkpoint.Signer, keys []checkpoint.Key) (*Witness, error) {
	unlock, err := statefile.TryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	w := &Witness{signer: signer, logs: map[string]*log{}, unlock: unlock}
	for _, key := range keys {
		l := w.logs[key.Name()]
		if l == nil {
			l = &log{path: filepath.Join(dir, attest.Sum([]byte(key.Name())).String()+".checkpoint")}
			w.logs[key.Name()] = l
		}
		if !slices.Contains(l.keys, key) {
			l.keys = append(l.keys, key)
		}
	}
	for origin, l := range w.logs {
		if err := errors.Join(l.load(origin), statefile.Sweep(l.path)); err != nil {
			return nil, errors.Join(err, unlock())
		}
	}
	return w, nil
}

// load reads what was cosigned last. A file that does not parse stops the
// witness: read as empty, it would let the log begin anew.
func (l *log) load(origin string) error {
	b, err := readCapped(l.path, checkpoint.MaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	latest, err := checkpoint.Parse(b)
	if err != nil {
		return fmt.Errorf("reading %s: %w", l.path, err)
	}
	if latest.Origin != origin {
		return fmt.Errorf("%w: %s is of log %s, not of %s", attest.ErrMalformed, l.path, latest.Origin, origin)
	}
	l.latest = latest
	return nil
}

// Close gives the directory back.
func (w *Witness) Close() error { return w.unlock() }

// Key verifies what the witness signs.
func (w *Witness) Key() checkpoint.Key { return w.signer.Key }

// The refusals of a request, one for each answer of the protocol.
var (
	ErrUnknownLog   = errors.New("the log is not one of this witness's")
	ErrBadSignature = errors.New("the checkpoint is not signed by the log")
	ErrInconsistent = errors.New("the checkpoint is not consistent with the last one")
)

// ConflictError says that the last checkpoint that was cosigned has another
// size than the request thinks, or another root.
type ConflictError struct{ Size int64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the last checkpoint cosigned has size %d", e.Size)
}

// Add cosigns a checkpoint and returns the signature line. Errors are
// attest.ErrMalformed, ErrUnknownLog, ErrBadSignature, ErrInconsistent, a
// *ConflictError, and those of the disk.
func (w *Witness) Add(r Request) ([]byte, error) {
	c, err := checkpoint.Parse(r.Checkpoint)
	if err != nil {
		return nil, err
	}
	l := w.logs[c.Origin]
	if l == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownLog, c.Origin)
	}
	if err := l.signed(r.Checkpoint); err != nil {
		return nil, err
	}
	if r.Old > c.Size {
		return nil, malformed("old size %d is above the checkpoint's, %d", r.Old, c.Size)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Old != l.latest.Size {
		return nil, &ConflictError{Size: l.latest.Size}
	}
	if err := l.follows(c, r.Proof); err != nil {
		return nil, err
	}
	line, err := checkpoint.Cosign(c, w.signer)
	if err != nil {
		return nil, err
	}
	return line, l.keep(c, r.Checkpoint)
}

func (l *log) signed(text []byte) error {
	for _, key := range l.keys {
		_, err := checkpoint.Open(text, key, nil)
		if err == nil {
			return nil
		}
		if !errors.Is(err, attest.ErrTransparency) {
			return err
		}
	}
	return ErrBadSignature
}

// follows checks that the log has only grown since the last checkpoint.
func (l *log) follows(c checkpoint.Checkpoint, proof tlog.TreeProof) error {
	old := l.latest
	switch {
	case old.Origin != "" && old.Size == c.Size && old.Root != c.Root:
		return &ConflictError{Size: old.Size}
	case old.Size == c.Size || old.Size == 0:
		if len(proof) > 0 {
			return fmt.Errorf("%w: from size %d to %d a proof is empty", ErrInconsistent, old.Size, c.Size)
		}
		if empty, err := tlog.TreeHash(0, nil); err == nil && c.Size == 0 && c.Root != empty {
			return fmt.Errorf("%w: the empty tree has another root", ErrInconsistent)
		}
		return nil
	}
	if err := tlog.CheckTree(proof, c.Size, c.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("%w: from size %d to %d", ErrInconsistent, old.Size, c.Size)
	}
	return nil
}

// keep puts the new head on the disk before anybody hears of it.
func (l *log) keep(c checkpoint.Checkpoint, text []byte) error {
	if c == l.latest {
		return nil
	}
	if err := statefile.Write(l.path, 0o600, text); err != nil {
		return err
	}
	l.latest = c
	return nil
}
