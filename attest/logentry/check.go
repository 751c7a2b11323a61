package logentry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: log entry: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}

func (e *Entry) check() error {
	if n := len(e.Signature); n == 0 || n > maxSignature {
		return malformed("signature has %d bytes, want 1 to %d", n, maxSignature)
	}
	return e.Body.check()
}

// check wants the one statement that the kind names.
func (b Body) check() error {
	if b.Version != Version {
		return malformed("version %d, want %d", b.Version, Version)
	}
	there := map[Kind]bool{
		KindRelease: b.Release != nil, KindWithdrawal: b.Withdrawal != nil,
		KindRotation: b.Rotation != nil, KindAuditHead: b.AuditHead != nil,
	}
	if !there[b.Kind] {
		return malformed("%s is unknown or without its statement", b.Kind)
	}
	for kind, ok := range there {
		if ok && kind != b.Kind {
			return malformed("%s with a statement of kind %s", b.Kind, kind)
		}
	}
	switch b.Kind {
	case KindRelease:
		return b.Release.check()
	case KindWithdrawal:
		return b.Withdrawal.check()
	case KindRotation:
		return b.Rotation.check()
	default:
		return b.AuditHead.check()
	}
}

func (r *Release) check() error {
	switch {
	case r.Manifest.IsZero():
		return malformed("release.manifest is unset")
	case !isText(r.Version):
		return malformed("release.version %.80q is not 1 to %d printable ascii characters", r.Version, maxText)
	case !isText(r.Architecture):
		return malformed("release.architecture %.80q is not 1 to %d printable ascii characters", r.Architecture, maxText)
	case r.Epoch == 0:
		return malformed("release.epoch is 0, and epochs start at 1")
	}
	return nil
}

func (w *Withdrawal) check() error {
	switch {
	case w.Manifest.IsZero():
		return malformed("withdrawal.manifest is unset")
	case w.Reason < ReasonVulnerable || w.Reason > ReasonSuperseded:
		return malformed("withdrawal.reason %d is unknown", w.Reason)
	}
	return nil
}

func (a *AuditHead) check() error {
	if a.Head.IsZero() {
		return malformed("audit_head.head is unset")
	}
	return nil
}

func (r *Rotation) check() error {
	if len(r.Old) > maxKey || len(r.New) > maxKey {
		return malformed("rotation has keys of %d and %d bytes, at most %d", len(r.Old), len(r.New), maxKey)
	}
	if bytes.Equal(r.Old, r.New) {
		return malformed("rotation.new is rotation.old")
	}
	if r.Use == UseRelease {
		if _, err := ParseReleaseKey(r.Old); err != nil {
			return malformed("rotation.old: %w", err)
		}
		if _, err := ParseReleaseKey(r.New); err != nil {
			return malformed("rotation.new: %w", err)
		}
		return nil
	}
	kind, err := r.Use.kind()
	if err != nil {
		return err
	}
	from, err := checkpoint.ParseKey(kind, string(r.Old))
	if err != nil {
		return malformed("rotation.old: %w", err)
	}
	to, err := checkpoint.ParseKey(kind, string(r.New))
	if err != nil {
		return malformed("rotation.new: %w", err)
	}
	if from.Name() != to.Name() {
		return malformed("rotation.new is named %s and rotation.old %s", to.Name(), from.Name())
	}
	return nil
}

func (u Use) kind() (checkpoint.Kind, error) {
	switch u {
	case UseLog:
		return checkpoint.KindLog, nil
	case UseWitness:
		return checkpoint.KindWitness, nil
	}
	return 0, malformed("rotation.use %d is unknown", uint8(u))
}

// VerifyRotation checks that a rotation is signed by the key that it takes out
// of use. Errors are attest.ErrMalformed for another kind of entry and
// attest.ErrSignature.
func (e *Entry) VerifyRotation() error {
	r := e.Body.Rotation
	if r == nil {
		return malformed("%s is no rotation", e.Body.Kind)
	}
	if r.Use == UseRelease {
		old, err := ParseReleaseKey(r.Old)
		if err != nil {
			return err
		}
		return e.Verify(old)
	}
	kind, err := r.Use.kind()
	if err != nil {
		return err
	}
	old, err := checkpoint.ParseKey(kind, string(r.Old))
	if err != nil {
		return err
	}
	return e.Verify(old.Public())
}

// ParseReleaseKey reads what MarshalKey wrote: an ECDSA P-256 or Ed25519 key.
// The error is attest.ErrMalformed.
func ParseReleaseKey(der []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, malformed("release key: %w", err)
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return nil, malformed("release key is on %s, want P-256", key.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return nil, malformed("release key is a %T, want ECDSA P-256 or Ed25519", key)
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, der) {
		return nil, malformed("release key is not in its only spelling")
	}
	return key, nil
}

func isText(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
