package client

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

const (
	acceptedFile    = "machines.json"
	acceptedVersion = 3
	maxAccepted     = 1 << 20
)

// accepted is what a client remembers of what it accepted.
type accepted struct {
	Version int `json:"version"`
	// Machines are by the host of their URL.
	Machines map[string]Pin `json:"machines"`
	// Epochs are the highest accepted, by the SHA-256 of the release key's
	// SubjectPublicKeyInfo: a machine that was never seen may be no older than
	// those that were. What was accepted before keys were told apart stands
	// under the zero digest and holds for every key.
	Epochs map[attest.Digest]uint64 `json:"epochs"`
	// Log is what was learned of the transparency log; new in version 3.
	Log release.Memory `json:"log,omitzero"`
	// Volumes are the owner's, by their id in hex; new in version 3 too, since a
	// client that does not know them loses nothing by refusing the file.
	Volumes map[string]Volume `json:"volumes,omitempty"`
}

// accepted1 is the first format: pins alone, each with the epoch that was
// accepted of that machine.
type accepted1 map[string]struct {
	Pin
	Epoch uint64 `json:"epoch"`
}

// Pin answers what was accepted of the machine at an URL's host; nil where
// nothing was. Errors are the file's.
func (h ClientState) Pin(host string) (*Pin, error) {
	a, err := h.accepted()
	if err != nil {
		return nil, err
	}
	if pin, ok := a.Machines[host]; ok {
		return &pin, nil
	}
	return nil, nil
}

// EpochFloor is the highest epoch that was accepted of releases signed by key;
// zero where none was. Errors are the file's.
func (h ClientState) EpochFloor(key crypto.PublicKey) (uint64, error) {
	a, err := h.accepted()
	if err != nil {
		return 0, err
	}
	id, err := keyID(key)
	return max(a.Epochs[id], a.Epochs[attest.Digest{}]), err
}

// LogMemory is what was learned of the transparency log. Errors are the file's.
func (h ClientState) LogMemory() (release.Memory, error) {
	a, err := h.accepted()
	return a.Log, err
}

// Learn keeps what was learned of the transparency log beside what is known.
// Errors are the file's.
func (h ClientState) Learn(m release.Memory) error {
	if known, err := h.LogMemory(); err != nil || known.Has(m) {
		return err
	}
	return h.change(func(a *accepted) { a.Log = a.Log.Merge(m) })
}

// Remember keeps what was accepted of the machine at an URL's host. Errors are
// the file's.
func (h ClientState) Remember(host string, pin Pin) error {
	return h.change(func(a *accepted) { a.Machines[host] = pin })
}

// RaiseEpochFloor keeps an epoch that was accepted of a release signed by key.
// It is never lowered. Errors are the file's.
func (h ClientState) RaiseEpochFloor(key crypto.PublicKey, epoch uint64) error {
	id, err := keyID(key)
	if err != nil {
		return err
	}
	if floor, err := h.EpochFloor(key); err != nil || floor >= epoch {
		return err
	}
	return h.change(func(a *accepted) { a.Epochs[id] = max(a.Epochs[id], epoch) })
}

// Forget drops what was accepted of a machine: the next one there is new. The
// epochs stay. Errors are the file's.
func (h ClientState) Forget(host string) error {
	return h.change(func(a *accepted) { delete(a.Machines, host) })
}

// change rewrites the file while no other client process does.
func (h ClientState) change(change func(*accepted)) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the lock goes with the descriptor
	a, err := h.accepted()
	if err != nil {
		return err
	}
	change(&a)
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("remembering a machine: %w", err)
	}
	return statefile.Write(filepath.Join(h.Dir, acceptedFile), 0o600, append(b, '\n'))
}

// accepted reads the file in any of its formats.
func (h ClientState) accepted() (accepted, error) {
	none := accepted{Version: acceptedVersion, Machines: map[string]Pin{}, Epochs: map[attest.Digest]uint64{}}
	f, err := os.Open(filepath.Join(h.Dir, acceptedFile))
	if errors.Is(err, os.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading accepted machines: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAccepted))
	if err != nil {
		return none, fmt.Errorf("reading accepted machines: %w", err)
	}
	a, err := decodeAccepted(b)
	if err != nil {
		return none, fmt.Errorf("reading accepted machines in %s: %w", f.Name(), err)
	}
	return a, nil
}

func decodeAccepted(b []byte) (accepted, error) {
	var probe struct {
		Version *int `json:"version"`
	}
	// In the first format a host's name stands where the version does now.
	if err := json.Unmarshal(b, &probe); err == nil && probe.Version != nil {
		return decodeVersioned(b, *probe.Version)
	}
	a := accepted{Version: acceptedVersion, Machines: map[string]Pin{}, Epochs: map[attest.Digest]uint64{}}
	var first accepted1
	if err := strictjson.Unmarshal(b, &first); err != nil {
		return a, err
	}
	if first == nil {
		return a, errNothing
	}
	for host, pin := range first {
		a.Machines[host] = pin.Pin
		a.Epochs[attest.Digest{}] = max(a.Epochs[attest.Digest{}], pin.Epoch)
	}
	return a, nil
}

// errNothing says that a file stands where a client's memory should and holds
// none: read as empty, it would forget every floor.
var errNothing = errors.New("machines or epochs are missing")

// decodeVersioned reads the format with a version, before the log was in it
// too.
func decodeVersioned(b []byte, version int) (a accepted, err error) {
	if version != 2 && version != acceptedVersion {
		return a, fmt.Errorf("version %d, want 2 or %d", version, acceptedVersion)
	}
	if err := strictjson.Unmarshal(b, &a); err != nil {
		return a, err
	}
	if a.Machines == nil || a.Epochs == nil {
		return a, errNothing
	}
	a.Version = acceptedVersion
	return a, nil
}

// keyID is the SHA-256 of a key's SubjectPublicKeyInfo.
func keyID(key crypto.PublicKey) (attest.Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("naming the release key: %w", err)
	}
	return attest.Sum(der), nil
}
