package auditlog

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// Version is the only version of an export.
const Version = 1

// maxLine caps a line of an export: a token, and what stands around it.
const maxLine = ear.MaxBytes + 4<<10

// Export is the first line of an export; an entry stands on each that follows.
type Export struct {
	Version int `json:"version"`
	// Key is the control plane's as it says itself, DER SubjectPublicKeyInfo.
	Key []byte `json:"key"`
	Head
}

// Write writes an export: JSON, a line each. Errors are those of the records
// and the writer.
func Write(w io.Writer, x Export, records iter.Seq2[*Record, error]) error {
	x.Version = Version
	out := json.NewEncoder(w)
	if err := out.Encode(x); err != nil {
		return fmt.Errorf("writing an audit log: %w", err)
	}
	for record, err := range records {
		if err != nil {
			return err
		}
		if err := out.Encode(record); err != nil {
			return fmt.Errorf("writing an audit log: %w", err)
		}
	}
	return nil
}

// Read reads an export. The records are read as they are asked for, once.
// Errors are attest.ErrMalformed and the reader's.
func Read(r io.Reader) (Export, iter.Seq2[*Record, error], error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 16<<10), maxLine)
	var x Export
	if !next(lines) {
		return x, nil, failed(lines, malformed("it is empty"))
	}
	if err := strictjson.Unmarshal(lines.Bytes(), &x); err != nil {
		return x, nil, malformed("first line: %w", err)
	}
	if x.Version != Version {
		return x, nil, malformed("version %d, want %d", x.Version, Version)
	}
	return x, func(yield func(*Record, error) bool) {
		for next(lines) {
			record := new(Record)
			if err := strictjson.Unmarshal(lines.Bytes(), record); err != nil {
				yield(nil, malformed("an entry: %w", err))
				return
			}
			if !yield(record, nil) {
				return
			}
		}
		if err := failed(lines, nil); err != nil {
			yield(nil, err)
		}
	}, nil
}

// next is the next line that is not empty.
func next(lines *bufio.Scanner) bool {
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) > 0 {
			return true
		}
	}
	return false
}

func failed(lines *bufio.Scanner, otherwise error) error {
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return malformed("a line has more than %d bytes", maxLine)
	case err != nil:
		return fmt.Errorf("reading an audit log: %w", err)
	}
	return otherwise
}

// ParseKey reads a control plane's key, DER SubjectPublicKeyInfo. Errors are
// attest.ErrMalformed, and attest.ErrPolicy for one that signs no results.
func ParseKey(der []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, malformed("key: %w", err)
	}
	if _, err := ear.KeyID(key); err != nil {
		return nil, err
	}
	return key.(*ecdsa.PublicKey), nil
}

// MarshalKey is what ParseKey reads. The error is attest.ErrPolicy.
func MarshalKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: the key that signs results: %w", attest.ErrPolicy, err)
	}
	return der, nil
}
