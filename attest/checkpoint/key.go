package checkpoint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// Kind says what a key signs: the type byte of a verifier key (C2SP
// signed-note, "Verifier keys").
type Kind byte

// The kinds of key.
const (
	// KindLog signs checkpoints with Ed25519.
	KindLog Kind = 0x01
	// KindWitness signs timestamped cosignatures, version 1, with Ed25519
	// (C2SP tlog-cosignature).
	KindWitness Kind = 0x04
)

// maxName caps a key's name, in bytes.
const maxName = 128

// Key verifies what a log or a witness signs. Its text is a C2SP verifier key:
// name, key id and public key, joined by plus signs. Keys are comparable.
type Key struct {
	name   string
	kind   Kind
	public [ed25519.PublicKeySize]byte
}

// NewKey names a public key. The error is attest.ErrMalformed.
func NewKey(kind Kind, name string, public ed25519.PublicKey) (Key, error) {
	switch {
	case !validName(name):
		return Key{}, malformed("key name %.80q is not 1 to %d printable ascii characters without space and plus", name, maxName)
	case len(public) != ed25519.PublicKeySize:
		return Key{}, malformed("key %s has %d bytes, want %d", name, len(public), ed25519.PublicKeySize)
	}
	return Key{name: name, kind: kind, public: [ed25519.PublicKeySize]byte(public)}, nil
}

// ParseKey reads a verifier key of the given kind in its only spelling. The
// error is attest.ErrMalformed.
func ParseKey(kind Kind, text string) (Key, error) {
	name, rest, _ := strings.Cut(text, "+")
	_, encoded, _ := strings.Cut(rest, "+")
	if len(encoded) > base64.StdEncoding.EncodedLen(1+ed25519.PublicKeySize) {
		return Key{}, malformed("verifier key %.80q is too long", text)
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) == 0 {
		return Key{}, malformed("verifier key %.80q is not NAME+ID+KEY", text)
	}
	if Kind(b[0]) != kind {
		return Key{}, malformed("verifier key %.80q is of type %d, want %d", name, b[0], kind)
	}
	k, err := NewKey(kind, name, b[1:])
	if err != nil {
		return Key{}, err
	}
	if k.String() != text {
		return Key{}, malformed("verifier key %.80q has another key id or spelling, want %s", text, k)
	}
	return k, nil
}

func validName(name string) bool {
	return name != "" && len(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '+' })
}

// Name is the log's origin or the witness's name.
func (k Key) Name() string { return k.name }

// KeyHash is the key id: the first four bytes of SHA-256 over name, newline,
// type and key, big-endian.
func (k Key) KeyHash() uint32 {
	h := sha256.Sum256(append(append([]byte(k.name), '\n', byte(k.kind)), k.public[:]...))
	return binary.BigEndian.Uint32(h[:])
}

// Public is the key itself.
func (k Key) Public() ed25519.PublicKey { return k.public[:] }

// IsZero reports whether k is unset.
func (k Key) IsZero() bool { return k == Key{} }

// String is the verifier key's text.
func (k Key) String() string {
	b := append([]byte{byte(k.kind)}, k.public[:]...)
	return fmt.Sprintf("%s+%08x+%s", k.name, k.KeyHash(), base64.StdEncoding.EncodeToString(b))
}

// MarshalText writes the verifier key.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Verify reports whether sig is this key's over a note's text, as
// note.Verifier wants it.
func (k Key) Verify(text, sig []byte) bool {
	if k.kind == KindWitness {
		at, signature, ok := splitCosignature(sig)
		return ok && ed25519.Verify(k.public[:], cosigned(text, at), signature)
	}
	return ed25519.Verify(k.public[:], text, sig)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}
