// Package logproof reads proofs that something stands in a transparency log
// (C2SP tlog-proof), and the document in which a machine shows those of its
// release.
//
// Invariants: what is proved to stand in the log are the bytes that the proof
// carries itself, as its extra data; sizes and counts are capped before
// anything is decoded; one spelling alone parses. A proof that parses shows
// nothing until its checkpoint was opened with a log's key.
package logproof

import (
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

const header = "c2sp.org/tlog-proof@v1"

// Caps, in bytes and hashes.
const (
	// MaxBytes caps one proof.
	MaxBytes = 16 << 10
	// maxExtra caps what a proof carries.
	maxExtra = 4 << 10
	// maxPath is the depth of the largest tree.
	maxPath = 48
)

// Proof shows that Record is the log's entry at Index.
type Proof struct {
	// Record is the entry's bytes, in the proof's extra line.
	Record []byte
	Index  int64
	// Path leads from the entry's sibling up to the root's child.
	Path []tlog.Hash
	// Checkpoint is the signed head, with all its signatures.
	Checkpoint []byte
}

// Encode writes the proof as C2SP tlog-proof has it.
func (p *Proof) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", header, base64.StdEncoding.EncodeToString(p.Record), p.Index)
	for _, h := range p.Path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return []byte(b.String())
}

// Parse reads one proof, whose extra line is not optional here. The error is
// attest.ErrMalformed.
func Parse(b []byte) (*Proof, error) {
	if len(b) > MaxBytes {
		return nil, malformed("%d bytes, at most %d", len(b), MaxBytes)
	}
	head, signed, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 3 || lines[0] != header {
		return nil, malformed("it is no %s with extra and index", header)
	}
	if len(lines)-3 > maxPath {
		return nil, malformed("path has %d hashes, at most %d", len(lines)-3, maxPath)
	}
	p := &Proof{Checkpoint: []byte(signed)}
	if err := p.parseHead(lines[1], lines[2]); err != nil {
		return nil, err
	}
	for n, line := range lines[3:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != tlog.HashSize {
			return nil, malformed("path[%d] is no hash in base64", n)
		}
		p.Path = append(p.Path, tlog.Hash(h))
	}
	if _, err := checkpoint.Parse(p.Checkpoint); err != nil {
		return nil, err
	}
	if string(p.Encode()) != string(b) {
		return nil, malformed("it is not in its only spelling")
	}
	return p, nil
}

func (p *Proof) parseHead(extra, index string) error {
	text, ok := strings.CutPrefix(extra, "extra ")
	if !ok || len(text) > base64.StdEncoding.EncodedLen(maxExtra) {
		return malformed("extra is missing, or longer than %d bytes", maxExtra)
	}
	var err error
	if p.Record, err = base64.StdEncoding.DecodeString(text); err != nil || len(p.Record) == 0 {
		return malformed("extra is no base64")
	}
	text, ok = strings.CutPrefix(index, "index ")
	if !ok {
		return malformed("index is missing")
	}
	p.Index, err = checkpoint.ParseSize(text)
	return err
}

// Verify checks that the record stands at its index in the tree of a checkpoint
// that was opened. The error is attest.ErrTransparency.
func (p *Proof) Verify(c checkpoint.Checkpoint) error {
	if p.Index >= c.Size {
		return fmt.Errorf("%w: proof.index %d is not in a tree of %d", attest.ErrTransparency, p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Path, c.Size, c.Root, p.Index, tlog.RecordHash(p.Record)); err != nil {
		return fmt.Errorf("%w: proof.path does not lead from the record at index %d to the root of %s at size %d",
			attest.ErrTransparency, p.Index, c.Origin, c.Size)
	}
	return nil
}

// Version is the only version of a Document.
const Version = 1

// MaxDocumentBytes caps a Document, MaxBeside how many proofs it holds beside the
// release's.
const (
	MaxDocumentBytes = 32 << 10
	MaxBeside        = 12
)

// Document is what a machine shows of the log: that its release stands there,
// and the rotations and withdrawals that a client should know of, in the log's
// order.
type Document struct {
	Version uint64   `cbor:"1,keyasint"`
	Release []byte   `cbor:"2,keyasint"`
	Beside  [][]byte `cbor:"3,keyasint,omitempty"`
}

// Encode is the document's only encoding.
func (d Document) Encode() ([]byte, error) {
	d.Version = Version
	b, err := canon.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding a log proof: %w", err)
	}
	return b, nil
}

// Parsed is a Document taken apart. All of its proofs are of one checkpoint.
type Parsed struct {
	Release *Proof
	Beside  []*Proof
}

// ParseDocument reads what Document.Encode wrote. The error is
// attest.ErrMalformed.
func ParseDocument(b []byte) (*Parsed, error) {
	var d Document
	if err := canon.Unmarshal("log proof", b, MaxDocumentBytes, &d); err != nil {
		return nil, err
	}
	switch {
	case d.Version != Version:
		return nil, malformed("version %d, want %d", d.Version, Version)
	case len(d.Beside) > MaxBeside:
		return nil, malformed("beside has %d proofs, at most %d", len(d.Beside), MaxBeside)
	}
	first, err := Parse(d.Release)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	parsed := &Parsed{Release: first}
	for n, text := range d.Beside {
		p, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("beside[%d]: %w", n, err)
		}
		if string(p.Checkpoint) != string(first.Checkpoint) {
			return nil, malformed("beside[%d] is of another checkpoint than the release", n)
		}
		parsed.Beside = append(parsed.Beside, p)
	}
	return parsed, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: log proof: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}
