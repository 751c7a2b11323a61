package tdx

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// MaxStatement caps a signed statement of Intel's, bytes of JSON. The largest
// known has about 30 KiB.
const MaxStatement = 128 << 10

// The most that a statement may list.
const (
	maxLevels     = 128
	maxAdvisories = 256
	maxIdentities = 64
)

// statement is what Intel signs: the inner object's very bytes, and the
// signature over them.
type statement struct {
	name      string
	body      json.RawMessage
	signature [64]byte
}

// outer is the object around a statement (Intel PCS API v4, "Get TDX TCB Info"
// and "Get TDX QE Identity"). It has one of the two.
type outer struct {
	TCBInfo   json.RawMessage `json:"tcbInfo"`
	Identity  json.RawMessage `json:"enclaveIdentity"`
	Signature hexField        `json:"signature"`
}

func open(name string, b []byte) (outer, error) {
	var o outer
	if len(b) > MaxStatement {
		return o, fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, len(b), MaxStatement)
	}
	if err := strictjson.Unmarshal(b, &o); err != nil {
		return o, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	if (o.TCBInfo == nil) == (o.Identity == nil) {
		return o, fmt.Errorf("%w: %s is not one statement", attest.ErrMalformed, name)
	}
	return o, nil
}

// IsTCBInfo and IsQEIdentity tell Intel's statements by what they are about.
// Neither says that one is genuine.
func IsTCBInfo(b []byte) bool {
	o, err := open("statement", b)
	return err == nil && o.TCBInfo != nil
}

// IsQEIdentity is as IsTCBInfo.
func IsQEIdentity(b []byte) bool {
	o, err := open("statement", b)
	return err == nil && o.Identity != nil
}

func (o outer) statement(name string, body json.RawMessage) (statement, error) {
	s := statement{name: name, body: body}
	if body == nil {
		return s, fmt.Errorf("%w: %s is a statement of another kind", attest.ErrMalformed, name)
	}
	return s, o.Signature.into("signature of "+name, s.signature[:])
}

// verify checks the signature over the statement's bytes. The error is
// attest.ErrSignature.
func (s statement) verify(key *ecdsa.PublicKey) error {
	return verifyP256(s.name, key, s.body, &s.signature)
}

// verifyP256 checks a signature as Intel writes it: r and s, 32 bytes each,
// big-endian, over the message's SHA-256.
func verifyP256(name string, key *ecdsa.PublicKey, message []byte, signature *[64]byte) error {
	digest := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return fmt.Errorf("%w: %s", attest.ErrSignature, name)
	}
	return nil
}

// hexField is bytes that Intel writes in hex, of a size that into checks.
type hexField []byte

func (h *hexField) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("%w: %w", attest.ErrMalformed, err)
	}
	*h = b
	return nil
}

// into copies the field, which must fill dst.
func (h hexField) into(name string, dst []byte) error {
	if len(h) != len(dst) {
		return fmt.Errorf("%w: %s has %d bytes, want %d", attest.ErrMalformed, name, len(h), len(dst))
	}
	copy(dst, h)
	return nil
}

// Window is when a statement of Intel's speaks.
type Window struct {
	IssueDate  time.Time `json:"issueDate"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (w Window) check(name string) error {
	if w.IssueDate.IsZero() || !w.NextUpdate.After(w.IssueDate) {
		return fmt.Errorf("%w: nextUpdate of %s is not after its issueDate", attest.ErrMalformed, name)
	}
	return nil
}

// SVNLevel is how Intel rates one part of a platform from one version on.
type SVNLevel struct {
	ISVSVN     uint16
	Date       time.Time
	Status     Status
	Advisories []string
}

// wireLevel is a TCB level of any statement.
type wireLevel[T any] struct {
	TCB        T         `json:"tcb"`
	Date       time.Time `json:"tcbDate"`
	Status     Status    `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs"`
}

func (w wireLevel[T]) check(name string) error {
	switch {
	case w.Status == StatusUnset:
		return fmt.Errorf("%w: a tcb level of %s has no status", attest.ErrMalformed, name)
	case w.Date.IsZero():
		return fmt.Errorf("%w: a tcb level of %s has no date", attest.ErrMalformed, name)
	case len(w.Advisories) > maxAdvisories:
		return fmt.Errorf("%w: a tcb level of %s has %d advisories, at most %d", attest.ErrMalformed, name, len(w.Advisories), maxAdvisories)
	}
	return nil
}

type wireSVN struct {
	ISVSVN *uint16 `json:"isvsvn"`
}

// svnLevels reads the levels of a part that is either up to date, out of date
// or revoked: the only statuses that Status.with knows how to fold.
func svnLevels(name string, wire []wireLevel[wireSVN]) ([]SVNLevel, error) {
	if err := count(name, len(wire), maxLevels); err != nil {
		return nil, err
	}
	levels := make([]SVNLevel, len(wire))
	for i, w := range wire {
		if err := w.check(name); err != nil {
			return nil, err
		}
		if w.TCB.ISVSVN == nil {
			return nil, fmt.Errorf("%w: a tcb level of %s has no isvsvn", attest.ErrMalformed, name)
		}
		if w.Status != UpToDate && w.Status != OutOfDate && w.Status != Revoked {
			return nil, fmt.Errorf("%w: a tcb level of %s has status %s", attest.ErrMalformed, name, w.Status)
		}
		levels[i] = SVNLevel{ISVSVN: *w.TCB.ISVSVN, Date: w.Date, Status: w.Status, Advisories: w.Advisories}
	}
	return levels, nil
}

func count(name string, n, most int) error {
	if n == 0 || n > most {
		return fmt.Errorf("%w: %s has %d tcb levels, want 1 to %d", attest.ErrMalformed, name, n, most)
	}
	return nil
}

// pick is the first level that a version reaches: Intel lists the newest first.
// The error is attest.ErrIdentity.
func pick(name string, levels []SVNLevel, svn uint16) (*SVNLevel, error) {
	for i := range levels {
		if svn >= levels[i].ISVSVN {
			return &levels[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %s has version %d, below every tcb level", attest.ErrIdentity, name, svn)
}
