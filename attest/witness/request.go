package witness

import (
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

// maxProof caps a consistency proof, in hashes (C2SP tlog-witness,
// "add-checkpoint").
const maxProof = 63

// MaxRequestBytes caps an add-checkpoint request.
const MaxRequestBytes = checkpoint.MaxBytes + 4<<10

// Request asks a witness for its cosignature.
type Request struct {
	// Old is the size of the tree that the witness is thought to know.
	Old   int64
	Proof tlog.TreeProof
	// Checkpoint is the new head, signed.
	Checkpoint []byte
}

// Encode is the request's body.
func (r Request) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", r.Old)
	for _, h := range r.Proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n")
	b.Write(r.Checkpoint)
	return []byte(b.String())
}

// ParseRequest reads what Encode wrote and nothing else. The error is
// attest.ErrMalformed.
func ParseRequest(b []byte) (r Request, err error) {
	if len(b) > MaxRequestBytes {
		return r, malformed("%d bytes, at most %d", len(b), MaxRequestBytes)
	}
	head, signed, ok := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	old, isOld := strings.CutPrefix(lines[0], "old ")
	switch {
	case !ok || !isOld:
		return r, malformed("it is not old size, proof, empty line, checkpoint")
	case len(lines)-1 > maxProof:
		return r, malformed("proof has %d hashes, at most %d", len(lines)-1, maxProof)
	}
	if r.Old, err = checkpoint.ParseSize(old); err != nil {
		return r, err
	}
	for n, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != tlog.HashSize {
			return r, malformed("proof[%d] is no hash in base64", n)
		}
		r.Proof = append(r.Proof, tlog.Hash(h))
	}
	r.Checkpoint = []byte(signed)
	if string(r.Encode()) != string(b) {
		return r, malformed("it is not in its only spelling")
	}
	return r, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: add-checkpoint: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}
