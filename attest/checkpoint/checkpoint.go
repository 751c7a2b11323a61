// Package checkpoint reads and signs the heads of a transparency log, and what
// witnesses say of them (C2SP tlog-checkpoint, tlog-cosignature, signed-note).
//
// Invariants: a checkpoint that Open returns was signed by the log that its
// origin names, and each cosignature with it verified; signatures of unknown
// keys are ignored, one of a known key that does not verify refuses the whole;
// extension lines, of which witnesses say nothing, are refused.
package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
)

// MaxBytes caps a checkpoint with its signatures: room for the log's and those
// of some forty witnesses.
const MaxBytes = 8 << 10

// maxSize caps a tree, in entries, well below what overflows the arithmetic of
// package tlog.
const maxSize = 1 << 48

// Checkpoint is the head of a log.
type Checkpoint struct {
	Origin string
	// Size is in entries, Root the Merkle tree's hash (RFC 6962, section 2.1).
	Size int64
	Root tlog.Hash
}

// Cosignature is a witness's word for a checkpoint.
type Cosignature struct {
	Key Key
	// At is when the witness signed, by its own clock, in whole seconds.
	At time.Time
}

// Signed is a checkpoint whose signatures hold.
type Signed struct {
	Checkpoint
	// Log is the key that signed it.
	Log Key
	// Cosignatures are those of known witnesses.
	Cosignatures []Cosignature
}

// Text is the note's text: origin, size, root, a line each.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// Parse reads a checkpoint and looks at no signature: for whoever has to know
// which log's key to verify it with. The error is attest.ErrMalformed.
func Parse(signed []byte) (Checkpoint, error) {
	if len(signed) > MaxBytes {
		return Checkpoint{}, malformed("checkpoint has %d bytes, at most %d", len(signed), MaxBytes)
	}
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return Checkpoint{}, malformed("checkpoint has no signatures")
	}
	return parseText(text + "\n")
}

func parseText(text string) (c Checkpoint, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return c, malformed("checkpoint has %d lines, want origin, size and root alone", len(lines)-1)
	}
	c.Origin = lines[0]
	if c.Size, err = ParseSize(lines[1]); err != nil {
		return c, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return c, malformed("checkpoint.root %.60q is no hash in base64", lines[2])
	}
	c.Root = tlog.Hash(root)
	if !validName(c.Origin) || c.Text() != text {
		return c, malformed("checkpoint of %.80q is not in its only spelling", c.Origin)
	}
	return c, nil
}

// ParseSize reads a tree's size or an index: decimal, without leading zeros.
// The error is attest.ErrMalformed.
func ParseSize(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > maxSize || strconv.FormatInt(n, 10) != text {
		return 0, malformed("size %.30q is not decimal from 0 to %d", text, int64(maxSize))
	}
	return n, nil
}

// Open verifies a checkpoint with the key of its log and those of the witnesses
// that are known. Errors are attest.ErrMalformed, and attest.ErrTransparency
// where it is not signed by that log.
func Open(signed []byte, log Key, witnesses []Key) (*Signed, error) {
	c, err := Parse(signed)
	if err != nil {
		return nil, err
	}
	if c.Origin != log.name {
		return nil, opaque("checkpoint.origin is %.80q, want %q", c.Origin, log.name)
	}
	known := make([]note.Verifier, 0, 1+len(witnesses))
	known = append(known, log)
	for _, w := range witnesses {
		known = append(known, w)
	}
	n, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return nil, openError(err, log)
	}
	return verified(c, n, log, witnesses)
}

func openError(err error, log Key) error {
	var bad *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &bad):
		return opaque("checkpoint: the signature of %.80q: %w", bad.Name, attest.ErrSignature)
	case errors.As(err, &unverified):
		return opaque("checkpoint is not signed by %s", log)
	default:
		return malformed("checkpoint: %w", err)
	}
}

func verified(c Checkpoint, n *note.Note, log Key, witnesses []Key) (*Signed, error) {
	s := &Signed{Checkpoint: c}
	for _, sig := range n.Sigs {
		if sig.Name == log.name && sig.Hash == log.KeyHash() {
			s.Log = log
			continue
		}
		for _, w := range witnesses {
			if sig.Name == w.name && sig.Hash == w.KeyHash() {
				s.Cosignatures = append(s.Cosignatures, Cosignature{Key: w, At: timeOf(sig)})
			}
		}
	}
	if s.Log.IsZero() {
		return nil, opaque("checkpoint is not signed by %s", log)
	}
	return s, nil
}

// timeOf reads the time of a cosignature that verified: behind the key id of
// four bytes.
func timeOf(sig note.Signature) time.Time {
	b, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(b) < 4 {
		return time.Time{}
	}
	at, _, _ := splitCosignature(b[4:])
	return time.Unix(int64(at), 0).UTC()
}

// Sign signs a checkpoint with the log's key and then those of witnesses, if
// there are any. The error is attest.ErrMalformed.
func Sign(c Checkpoint, signers ...note.Signer) ([]byte, error) {
	b, err := note.Sign(&note.Note{Text: c.Text()}, signers...)
	if err != nil {
		return nil, malformed("signing a checkpoint: %w", err)
	}
	return b, nil
}

// Cosign is a witness's signature line for a checkpoint. The error is
// attest.ErrMalformed.
func Cosign(c Checkpoint, witness *Signer) ([]byte, error) {
	b, err := Sign(c, witness)
	if err != nil {
		return nil, err
	}
	return b[len(c.Text())+1:], nil
}

func opaque(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrTransparency, fmt.Errorf(format, args...))
}
