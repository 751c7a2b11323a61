// Package auditlog is the chain of a control plane's results: each entry is
// hashed over the one before it, and heads of the chain stand in the
// transparency log.
//
// Invariants: an entry's hash covers its index, all of its fields and every
// entry before it, so that none can be changed, left out or put elsewhere
// without every later head being another; what is read is capped and has one
// spelling; a chain that does not hold is a finding, and no finding is dropped.
package auditlog

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/ear"
)

// tag begins what is hashed, so that no head is the hash of anything else.
const tag = "shed/audit-entry/1\x00"

// maxName caps an instance's and a machine's id.
const maxName = 64

// Entry is one result as it was recorded.
type Entry struct {
	// Index counts from zero.
	Index uint64 `cbor:"1,keyasint" json:"index"`
	// At is when it was recorded, in microseconds since 1970 in UTC. The token
	// was issued in the same second.
	At       int64  `cbor:"2,keyasint" json:"at_us"`
	Instance string `cbor:"3,keyasint" json:"instance"`
	Machine  string `cbor:"4,keyasint" json:"machine"`
	// EAR is the signed result (package ear).
	EAR string `cbor:"5,keyasint" json:"ear"`
}

// Time is At.
func (e *Entry) Time() time.Time { return time.UnixMicro(e.At).UTC() }

func (e *Entry) check() error {
	switch {
	case e.At <= 0:
		return malformed("entry %d: at_us is %d", e.Index, e.At)
	case !isName(e.Instance) || !isName(e.Machine):
		return malformed("entry %d: instance or machine is not 1 to %d printable ascii characters without space", e.Index, maxName)
	case e.EAR == "" || len(e.EAR) > ear.MaxBytes:
		return malformed("entry %d: ear has %d bytes, want 1 to %d", e.Index, len(e.EAR), ear.MaxBytes)
	}
	return nil
}

// isName keeps a terminal from what a control plane calls its machines.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// Head is the end of a chain. The zero value is that of an empty one.
type Head struct {
	// Count is how many entries there are up to it.
	Count uint64 `json:"count"`
	// Hash is the last entry's; zero where there is none.
	Hash attest.Digest `json:"hash"`
}

// Next is the head behind one more entry: H(tag ‖ this head's hash ‖ the entry
// in CBOR). The error is attest.ErrMalformed for an entry that no chain has, or
// whose index is not the next.
func (h Head) Next(e *Entry) (Head, error) {
	if err := e.check(); err != nil {
		return h, err
	}
	if e.Index != h.Count {
		return h, malformed("entry has index %d, want %d", e.Index, h.Count)
	}
	hash, err := e.hash(h.Hash)
	return Head{Count: h.Count + 1, Hash: hash}, err
}

func (e *Entry) hash(before attest.Digest) (attest.Digest, error) {
	encoded, err := canon.Marshal(e)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("encoding an audit entry: %w", err)
	}
	sum := sha256.New()
	sum.Write([]byte(tag))
	sum.Write(before[:])
	sum.Write(encoded)
	return attest.Digest(sum.Sum(nil)), nil
}

// Record is an entry with the hash that whoever keeps the chain has for it.
type Record struct {
	Entry
	Hash attest.Digest `json:"hash"`
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: audit log: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}
