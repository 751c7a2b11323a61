package client

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// Keys are the owner's secrets.
type Keys struct {
	Owner    ed25519.PrivateKey
	Recovery *ecdh.PrivateKey
}

func (k Keys) recipient() [32]byte { return [32]byte(k.Recovery.PublicKey().Bytes()) }

// ClientState is the directory in which a client keeps its keys and what it accepted.
type ClientState struct{ Dir string } //nolint:revive // "State" alone would be anything's

const (
	ownerKeyFile    = "owner.key"
	recoveryKeyFile = "recovery.key"
	resultKeyFile   = "ear.key"
)

// Keys reads the owner's keys, drawing those that are missing. Of two
// processes at once one draws: a claim signed with a key that is then replaced
// would lose the machine. Errors are the files'.
func (h ClientState) Keys(rand io.Reader) (Keys, error) {
	unlock, err := h.lock()
	if err != nil {
		return Keys{}, err
	}
	defer unlock() //nolint:errcheck // the lock goes with the descriptor
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

// DrawnKeys are the owner's keys where they were drawn before; nil where they
// were not. Errors are the files'.
func (h ClientState) DrawnKeys(rand io.Reader) (*Keys, error) {
	_, err := os.Stat(filepath.Join(h.Dir, ownerKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	keys, err := h.Keys(rand)
	return &keys, err
}

// ResultKey reads the key that the client signs its results with, drawing it
// the first time: it vouches for nothing but them. Errors are the files'.
func (h ClientState) ResultKey(rand io.Reader) (*ecdsa.PrivateKey, error) {
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock goes with the descriptor
	return loadKey(filepath.Join(h.Dir, resultKeyFile), func() (*ecdsa.PrivateKey, error) {
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	})
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
	return key, statefile.Write(path, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// lock keeps other client processes out of the directory until unlock.
func (h ClientState) lock() (unlock func() error, err error) {
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("locking %s: %w", h.Dir, err)
	}
	return statefile.Lock(filepath.Join(h.Dir, ".lock"))
}
