package release

import (
	"crypto"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// keyring is what a client accepts after the rotations that it knows of.
type keyring struct {
	releases  []releaseKey
	log       checkpoint.Key
	witnesses []Witness
	// learned are the rotations that the machine showed and that applied.
	learned []Rotated
}

// releaseKey signs what stands before index until in the log.
type releaseKey struct {
	public crypto.PublicKey
	der    []byte
	until  int64
}

// newKeyring starts from what the policy names and applies what was learned.
func newKeyring(keys []crypto.PublicKey, p LogPolicy) (*keyring, error) {
	if len(keys) == 0 {
		return nil, incomplete("no release key")
	}
	r := &keyring{log: p.Log, witnesses: slices.Clone(p.Witnesses)}
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("%w: release key: %w", attest.ErrPolicy, err)
		}
		der, err := logentry.MarshalKey(key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", attest.ErrPolicy, err)
		}
		r.releases = append(r.releases, releaseKey{public: key, der: der, until: math.MaxInt64})
	}
	for _, rotated := range p.Memory.Rotations {
		if _, err := r.rotate(rotated); err != nil {
			return nil, fmt.Errorf("%w: remembered rotation: %w", attest.ErrPolicy, err)
		}
	}
	return r, nil
}

// rotate applies one rotation that is known to be signed by the old key. It
// says whether the old key is one of this ring's that it was new to.
func (r *keyring) rotate(rotated Rotated) (applied bool, err error) {
	switch rotated.Use {
	case logentry.UseRelease:
		return r.rotateRelease(rotated)
	case logentry.UseLog:
		if r.log.String() != string(rotated.Old) {
			return false, nil
		}
		return r.rotateLog(rotated)
	case logentry.UseWitness:
		return r.rotateWitness(rotated)
	}
	return false, fmt.Errorf("a rotation of %s", rotated.Use)
}

func (r *keyring) rotateRelease(rotated Rotated) (bool, error) {
	n := slices.IndexFunc(r.releases, func(k releaseKey) bool { return string(k.der) == string(rotated.Old) })
	if n < 0 {
		return false, nil
	}
	if r.releases[n].until != math.MaxInt64 {
		known := slices.ContainsFunc(r.releases, func(k releaseKey) bool { return string(k.der) == string(rotated.New) })
		if known {
			return false, nil
		}
		return false, opaque("the release key was rotated already at index %d of the log, and again at %d", r.releases[n].until, rotated.Index)
	}
	public, err := logentry.ParseReleaseKey(rotated.New)
	if err != nil {
		return false, err
	}
	r.releases[n].until = rotated.Index
	r.releases = append(r.releases, releaseKey{public: public, der: rotated.New, until: math.MaxInt64})
	return true, nil
}

func (r *keyring) rotateLog(rotated Rotated) (bool, error) {
	key, err := checkpoint.ParseKey(checkpoint.KindLog, string(rotated.New))
	if err != nil {
		return false, err
	}
	if r.taken(key) {
		return false, opaque("the log rotates to the key of a witness")
	}
	r.log = key
	return true, nil
}

// taken reports whether the log or a witness has a key already: one that
// rotates to it would have its holder count twice.
func (r *keyring) taken(key checkpoint.Key) bool {
	return string(r.log.Public()) == string(key.Public()) ||
		slices.ContainsFunc(r.witnesses, func(w Witness) bool { return string(w.Key.Public()) == string(key.Public()) })
}

func (r *keyring) rotateWitness(rotated Rotated) (bool, error) {
	n := slices.IndexFunc(r.witnesses, func(w Witness) bool { return w.Key.String() == string(rotated.Old) })
	if n < 0 {
		return false, nil
	}
	key, err := checkpoint.ParseKey(checkpoint.KindWitness, string(rotated.New))
	if err != nil {
		return false, err
	}
	if r.taken(key) {
		return false, opaque("witness %s rotates to the key of another or of the log", key.Name())
	}
	r.witnesses[n].Key = key
	return true, nil
}

// show applies a rotation that the machine shows.
func (r *keyring) show(e *logentry.Entry, index int64) error {
	if err := e.VerifyRotation(); err != nil {
		return opaque("the rotation at index %d: %w", index, err)
	}
	rotated := Rotated{Use: e.Body.Rotation.Use, Old: e.Body.Rotation.Old, New: e.Body.Rotation.New, Index: index}
	applied, err := r.rotate(rotated)
	if applied {
		r.learned = append(r.learned, rotated)
	}
	return err
}

func (r *keyring) witnessKeys() []checkpoint.Key {
	keys := make([]checkpoint.Key, len(r.witnesses))
	for n, w := range r.witnesses {
		keys[n] = w.Key
	}
	return keys
}

// verifyRelease is Verify with whichever of the keys signed the bundle.
func (r *keyring) verifyRelease(manifest, bundle []byte) (*Manifest, attest.ReleaseDigest, releaseKey, error) {
	var last error
	for _, key := range r.releases {
		m, digest, err := Verify(manifest, bundle, key.public)
		if err == nil {
			return m, digest, key, nil
		}
		if last = err; !errors.Is(err, attest.ErrSignature) {
			break
		}
	}
	return nil, attest.ReleaseDigest{}, releaseKey{}, last
}

// signed says whether one of the release keys signed an entry while it was in
// use.
func (r *keyring) signed(e *logentry.Entry, index int64) error {
	for _, key := range r.releases {
		if e.Verify(key.public) != nil {
			continue
		}
		if index >= key.until {
			return opaque("the entry at index %d is signed by a key that was rotated away at %d", index, key.until)
		}
		return nil
	}
	return opaque("the entry at index %d: %w by a release key", index, attest.ErrSignature)
}
