package checkpoint

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Signer is the private half of a Key. A witness's signs at the time that its
// clock says.
type Signer struct {
	Key
	private ed25519.PrivateKey
	clock   func() time.Time
}

var _ note.Signer = (*Signer)(nil)

// NewSigner names a private key. clock is for witnesses alone, and nil for a
// log's. The error is attest.ErrMalformed.
func NewSigner(kind Kind, name string, private ed25519.PrivateKey, clock func() time.Time) (*Signer, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, malformed("private key has %d bytes, want %d", len(private), ed25519.PrivateKeySize)
	}
	if kind == KindWitness && clock == nil {
		return nil, malformed("a witness's key needs a clock")
	}
	key, err := NewKey(kind, name, private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return &Signer{Key: key, private: private, clock: clock}, nil
}

// signerPrefix begins a private key's text, as package note writes it.
const signerPrefix = "PRIVATE+KEY+"

// ParseSigner reads what Encode wrote. The error is attest.ErrMalformed and
// never shows the key.
func ParseSigner(kind Kind, text string, clock func() time.Time) (*Signer, error) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(text, "\n"), signerPrefix)
	name, id, _ := strings.Cut(rest, "+")
	_, encoded, _ := strings.Cut(id, "+")
	b, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(b) != 1+ed25519.SeedSize {
		return nil, malformed("private key is not PRIVATE+KEY+NAME+ID+SEED")
	}
	if Kind(b[0]) != kind {
		return nil, malformed("private key is of type %d, want %d", b[0], kind)
	}
	s, err := NewSigner(kind, name, ed25519.NewKeyFromSeed(b[1:]), clock)
	if err != nil {
		return nil, err
	}
	if s.Encode() != signerPrefix+rest+"\n" {
		return nil, malformed("private key %s has another key id or spelling", name)
	}
	return s, nil
}

// MaxSigners caps the keys of one log that sign at once.
const MaxSigners = 4

// ParseSigners reads a file of keys without a clock, of one name, the newest
// first, a line each; lines that begin with # say what the file is. The error
// is attest.ErrMalformed.
func ParseSigners(kind Kind, text string) (keys []*Signer, err error) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		key, err := ParseSigner(kind, line, nil)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 && key.name != keys[0].name {
			return nil, malformed("keys of %s and %s in one file", keys[0].name, key.name)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > MaxSigners {
		return nil, malformed("%d private keys, want 1 to %d", len(keys), MaxSigners)
	}
	return keys, nil
}

// Encode is the private key's text, a line.
func (s *Signer) Encode() string {
	b := append([]byte{byte(s.kind)}, s.private.Seed()...)
	return fmt.Sprintf("%s%s+%08x+%s\n", signerPrefix, s.name, s.KeyHash(), base64.StdEncoding.EncodeToString(b))
}

// Sign signs a note's text.
func (s *Signer) Sign(text []byte) ([]byte, error) {
	if s.kind != KindWitness {
		return ed25519.Sign(s.private, text), nil
	}
	at := uint64(s.clock().Unix())
	return joinCosignature(at, ed25519.Sign(s.private, cosigned(text, at))), nil
}

// SignStatement signs what is no note: a log entry, whose tag keeps it apart
// from every checkpoint. It never fails.
func (s *Signer) SignStatement(message []byte) ([]byte, error) {
	return ed25519.Sign(s.private, message), nil
}
