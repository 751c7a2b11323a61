// Package bundle is evidence together with what is needed to judge it, and the
// one way in which it is judged: on a live connection, or later from a file
// with no network.
//
// Invariants: deterministic CBOR with an integer version, capped before it is
// parsed, an unknown version or field refused. What the saver alone can know,
// the connection, the time and how the key was activated, is only ever reported
// as the saver's word: a file cannot show that a session is live.
package bundle

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Version is the only version of a bundle.
const Version = 1

// The caps, in bytes.
const (
	// MaxBytes caps a whole bundle: evidence has up to evidence.MaxBytes.
	MaxBytes = 2 << 20
	// MaxMachine caps the machine's URL.
	MaxMachine = 512
	// MaxSPKI caps a connection's key.
	MaxSPKI = 1 << 10
)

// Activation is how the saver says they know that the attestation key lives
// beside the endorsement key.
type Activation uint8

// The kinds of activation.
const (
	// NotActivated is that they do not know.
	NotActivated Activation = 0
	// ActivatedHere is that the machine proved it to them on this connection.
	ActivatedHere Activation = 1
	// ActivatedBefore is that it did so before, and they have the key pinned.
	ActivatedBefore Activation = 2
)

// Bundle is what one verification was made from.
type Bundle struct {
	// SavedAt is the saver's time, to the second; Machine the URL that they
	// reached. Both are their word.
	SavedAt time.Time
	Machine string
	// Channel is the connection as the saver derived it, Nonce what they drew.
	Channel attest.Channel
	Nonce   attest.Nonce
	// Activation is the saver's word too.
	Activation Activation
	// Evidence is as the machine handed it out: endorsements, release, its
	// signature and the log's proof are in it.
	Evidence []byte
	// RevocationLists are those that the saver had beside the evidence, DER, at
	// most chain.MaxLists.
	RevocationLists [][]byte
}

type wireBundle struct {
	Version         int          `cbor:"1,keyasint"`
	SavedAt         uint64       `cbor:"2,keyasint"`
	Machine         string       `cbor:"3,keyasint"`
	Role            attest.Role  `cbor:"4,keyasint"`
	SPKI            []byte       `cbor:"5,keyasint"`
	Exporter        []byte       `cbor:"6,keyasint"`
	Nonce           attest.Nonce `cbor:"7,keyasint"`
	Activation      Activation   `cbor:"8,keyasint"`
	Evidence        []byte       `cbor:"9,keyasint"`
	RevocationLists [][]byte     `cbor:"10,keyasint,omitempty"`
}

// Encode returns the bundle's only encoding. It fails for nothing that Decode
// returns.
func (b *Bundle) Encode() ([]byte, error) {
	if b.SavedAt.Unix() < 0 {
		return nil, fmt.Errorf("encoding bundle: it was saved before 1970")
	}
	encoded, err := canon.Marshal(wireBundle{
		Version: Version, SavedAt: uint64(b.SavedAt.Unix()), Machine: b.Machine,
		Role: b.Channel.Role, SPKI: b.Channel.SPKI, Exporter: b.Channel.Exporter[:], Nonce: b.Nonce,
		Activation: b.Activation, Evidence: b.Evidence, RevocationLists: b.RevocationLists,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding bundle: %w", err)
	}
	if len(encoded) > MaxBytes {
		return nil, fmt.Errorf("encoding bundle: it has %d bytes, at most %d", len(encoded), MaxBytes)
	}
	return encoded, nil
}

// Decode reads what Encode wrote and nothing else, at most MaxBytes. Errors are
// attest.ErrMalformed. Nothing in it is verified until Judge says so.
func Decode(encoded []byte) (*Bundle, error) {
	var w wireBundle
	if err := canon.Unmarshal("bundle", encoded, MaxBytes, &w); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", attest.ErrMalformed, err)
	}
	return &Bundle{
		SavedAt: time.Unix(int64(w.SavedAt), 0).UTC(), Machine: w.Machine,
		Channel: attest.Channel{Role: w.Role, SPKI: w.SPKI, Exporter: [32]byte(w.Exporter)}, Nonce: w.Nonce,
		Activation: w.Activation, Evidence: w.Evidence, RevocationLists: w.RevocationLists,
	}, nil
}

// latest is the year 9999, beyond which a time has no text.
const latest = 253402300799

func (w *wireBundle) check() error {
	switch {
	case w.Version != Version:
		return fmt.Errorf("version %d, want %d", w.Version, Version)
	case w.SavedAt > latest:
		return fmt.Errorf("saved_at %d is no time", w.SavedAt)
	case len(w.Machine) > MaxMachine || !printable(w.Machine):
		return fmt.Errorf("machine is no url")
	case w.Role != attest.RoleServe && w.Role != attest.RoleEnrol:
		return fmt.Errorf("role %d is unknown", w.Role)
	case len(w.SPKI) == 0 || len(w.SPKI) > MaxSPKI:
		return fmt.Errorf("spki has %d bytes, want 1 to %d", len(w.SPKI), MaxSPKI)
	case len(w.Exporter) != len(attest.Channel{}.Exporter):
		return fmt.Errorf("exporter has %d bytes", len(w.Exporter))
	case w.Activation > ActivatedBefore:
		return fmt.Errorf("activation of unknown kind %d", w.Activation)
	case len(w.Evidence) == 0 || len(w.Evidence) > evidence.MaxBytes:
		return fmt.Errorf("evidence has %d bytes, want 1 to %d", len(w.Evidence), evidence.MaxBytes)
	case len(w.RevocationLists) > chain.MaxLists:
		return fmt.Errorf("revocation_lists has %d entries, at most %d", len(w.RevocationLists), chain.MaxLists)
	}
	return nil
}

// printable keeps a terminal from what a stranger's bundle says.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ActivationOf is what a client that knows of an activation writes down.
func ActivationOf(a verifier.Activation) Activation {
	switch a {
	case verifier.ActivatedHere:
		return ActivatedHere
	case verifier.ActivatedBefore:
		return ActivatedBefore
	}
	return NotActivated
}

// Judge judges the bundle as the live session was. That the session was live,
// and how the key was activated, is the saver's word. Errors are those of
// Terms.Judge.
func (b *Bundle) Judge(t Terms) (Judged, error) {
	lists := append([]*chain.List(nil), t.Policy.RevocationLists...)
	for i, der := range b.RevocationLists {
		list, err := chain.ParseList(fmt.Sprintf("revocation_lists[%d]", i), der)
		if err != nil {
			return Judged{}, err
		}
		if !known(lists, list) {
			lists = append(lists, list)
		}
	}
	t.Policy.RevocationLists = lists
	return t.Judge(b.Given(), func(*verifier.Verified) (verifier.Activation, error) {
		if b.Activation == NotActivated {
			return verifier.NotActivated, nil
		}
		return verifier.ActivatedBySaver, nil
	})
}

func known(lists []*chain.List, list *chain.List) bool {
	for _, l := range lists {
		if string(l.Raw()) == string(list.Raw()) {
			return true
		}
	}
	return false
}

// Given is what the bundle's evidence is held against.
func (b *Bundle) Given() Given {
	return Given{Evidence: b.Evidence, Nonce: b.Nonce, Channel: b.Channel}
}
