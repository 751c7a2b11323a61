package client

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Keys are the owner's secrets.
type Keys struct {
	Owner    ed25519.PrivateKey
	Recovery *ecdh.PrivateKey
}

func (k Keys) recipient() [32]byte { return [32]byte(k.Recovery.PublicKey().Bytes()) }

// ClientState is the directory in which a client keeps its keys and what it accepted.
type ClientState struct{ Dir string }

const (
	ownerKeyFile    = "owner.key"
	recoveryKeyFile = "recovery.key"
	machinesFile    = "machines.json"
	maxFile         = 1 << 20
)

// Keys reads the owner's keys, drawing those that are missing. Of two
// processes at once one draws: a claim signed with a key that is then replaced
// would lose the machine.
func (h ClientState) Keys(rand io.Reader) (Keys, error) {
	unlock, err := h.lock()
	if err != nil {
		return Keys{}, err
	}
	defer unlock()
	owner, err := loadKey(filepath.Join(h.Dir, ownerKeyFile), func() (ed25519.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand)
		return key, err
	})
	if err != nil {
		return Keys{}, err
	}
	recovery, err := loadKey(filepath.Join(h.Dir, recoveryKeyFile), func() (*ecdh.PrivateKey, error) {
		return ecdh.X25519().GenerateKey(rand)
	})
	return Keys{Owner: owner, Recovery: recovery}, err
}

// loadKey reads a PKCS #8 PEM file (RFC 5958), or draws a key and writes one
// that its owner alone can read.
func loadKey[K any](path string, generate func() (K, error)) (K, error) {
	var none K
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newKey(path, generate)
	}
	if err != nil {
		return none, fmt.Errorf("reading key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return none, fmt.Errorf("reading key: %s holds no PEM PRIVATE KEY", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return none, fmt.Errorf("reading key %s: %w", path, err)
	}
	key, ok := parsed.(K)
	if !ok {
		return none, fmt.Errorf("reading key: %s holds a %T", path, parsed)
	}
	return key, nil
}

func newKey[K any](path string, generate func() (K, error)) (K, error) {
	key, err := generate()
	if err != nil {
		return key, fmt.Errorf("drawing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return key, fmt.Errorf("writing key: %w", err)
	}
	return key, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Pin answers what was accepted of the machine at an URL's host; nil where
// nothing was.
func (h ClientState) Pin(host string) (*Pin, error) {
	pins, err := h.pins()
	if err != nil {
		return nil, err
	}
	if pin, ok := pins[host]; ok {
		return &pin, nil
	}
	return nil, nil
}

// Remember keeps what was accepted of the machine at an URL's host.
func (h ClientState) Remember(host string, pin Pin) error {
	return h.locked(func(pins map[string]Pin) { pins[host] = pin })
}

// Forget drops what was accepted: the next machine there is a new one.
func (h ClientState) Forget(host string) error {
	return h.locked(func(pins map[string]Pin) { delete(pins, host) })
}

// lock keeps other client processes out of the directory until unlock.
func (h ClientState) lock() (unlock func(), err error) {
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("locking %s: %w", h.Dir, err)
	}
	file, err := os.OpenFile(filepath.Join(h.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", h.Dir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", h.Dir, err), file.Close())
	}
	return func() { file.Close() }, nil //nolint:errcheck // the lock goes with the descriptor
}

// locked changes the pins while no other client process does.
func (h ClientState) locked(change func(map[string]Pin)) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	pins, err := h.pins()
	if err != nil {
		return err
	}
	change(pins)
	b, err := json.MarshalIndent(pins, "", "  ")
	if err != nil {
		return fmt.Errorf("remembering machine: %w", err)
	}
	return writeFile(filepath.Join(h.Dir, machinesFile), append(b, '\n'))
}

func (h ClientState) pins() (map[string]Pin, error) {
	pins := map[string]Pin{}
	f, err := os.Open(filepath.Join(h.Dir, machinesFile))
	if errors.Is(err, os.ErrNotExist) {
		return pins, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading accepted machines: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&pins); err != nil {
		return nil, fmt.Errorf("reading accepted machines in %s: %w", f.Name(), err)
	}
	return pins, nil
}

// writeFile replaces a file as a whole, readable by its owner alone.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone where the rename succeeded
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a rename outlive a power failure: a key is used right
// after it was written.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
