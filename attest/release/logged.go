package release

import (
	"crypto"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logproof"
)

// Logged is a release and what vouches for it.
type Logged struct {
	Manifest *Manifest
	Digest   attest.ReleaseDigest
	// Key signed the release: one of those trusted, or one they were rotated to.
	Key crypto.PublicKey
	// Log is the log's origin, empty where the policy asks for none; the
	// release stands in its tree of Size entries at Index.
	Log   string
	Size  int64
	Index int64
	// Cosigned are the witnesses' words that counted, newest first, of Of
	// witnesses in the policy.
	Cosigned []Cosigned
	Of       int
	// At is when a quorum had cosigned. NotAfter is when that is too old: until
	// then the same bytes verify again. Both are zero without a log.
	At, NotAfter time.Time
	// Learned is what the caller has to remember. It is there beside an error
	// too, where the log itself vouched for it.
	Learned Memory
}

// Cosigned is one witness's word.
type Cosigned struct {
	Witness Witness
	At      time.Time
}

// Transparency says in a line what vouches for the release; "none" where no
// log was asked. The line is about the time now.
func (l Logged) Transparency(now time.Time) string {
	if l.Log == "" {
		return "none"
	}
	var labels []string
	for _, c := range l.Cosigned {
		if c.Witness.Label != "" && !slices.Contains(labels, c.Witness.Label) {
			labels = append(labels, c.Witness.Label)
		}
	}
	label := ""
	if len(labels) > 0 {
		slices.Sort(labels)
		label = " (" + strings.Join(labels, ", ") + ")"
	}
	age := max(now.Sub(l.At), 0).Truncate(time.Second)
	return fmt.Sprintf("%s size %d, %d of %d witnesses%s, cosigned %s ago", l.Log, l.Size, len(l.Cosigned), l.Of, label, age)
}

// VerifyLogged is Verify with one of several keys, and then whether the log
// vouches for the release as the policy wants it. proof is a
// logproof.Document, and not looked at where the policy asks for no log. The
// time is the later of now and the policy's floor. Errors are those of Verify
// and attest.ErrTransparency.
func VerifyLogged(manifest, bundle, proof []byte, keys []crypto.PublicKey, p LogPolicy, now time.Time) (Logged, error) {
	if err := p.check(); err != nil {
		return Logged{}, err
	}
	ring, err := newKeyring(keys, p)
	if err != nil {
		return Logged{}, err
	}
	v := &logVerifier{policy: p, ring: ring, now: later(now, later(p.TimeFloor, p.Memory.Time))}
	if p.NotRequired {
		return v.unlogged(manifest, bundle)
	}
	if len(proof) == 0 {
		return Logged{}, opaque("the release comes without a proof that %s has it", p.Log.Name())
	}
	if err := v.open(proof); err != nil {
		return Logged{Learned: v.learned}, err
	}
	return v.release(manifest, bundle)
}

// logVerifier carries one verification from step to step.
type logVerifier struct {
	policy LogPolicy
	ring   *keyring
	now    time.Time

	shown    *logproof.Parsed
	signed   *checkpoint.Signed
	cosigned []Cosigned
	at       time.Time
	learned  Memory
}

// unlogged is for a policy that asks no log. What was learned of keys and
// withdrawals holds all the same.
func (v *logVerifier) unlogged(manifest, bundle []byte) (Logged, error) {
	m, digest, key, err := v.ring.verifyRelease(manifest, bundle)
	if err != nil {
		return Logged{}, err
	}
	if slices.Contains(v.policy.Memory.Withdrawn, digest) {
		return Logged{}, withdrawn(digest)
	}
	if key.until != math.MaxInt64 {
		return Logged{}, opaque("the release is signed by a key that was rotated away, and no log is asked whether before or after")
	}
	return Logged{Manifest: m, Digest: digest, Key: key.public}, nil
}

func withdrawn(digest attest.ReleaseDigest) error {
	return opaque("release %s was withdrawn", digest)
}

// open establishes the log's head and everything that is shown beside the
// release. Rotations come first: they say whose signatures the head must have.
func (v *logVerifier) open(proof []byte) (err error) {
	if v.shown, err = logproof.ParseDocument(proof); err != nil {
		return err
	}
	entries, err := v.beside()
	if err != nil {
		return err
	}
	if v.signed, err = checkpoint.Open(v.shown.Release.Checkpoint, v.ring.log, v.ring.witnessKeys()); err != nil {
		return err
	}
	for _, p := range append([]*logproof.Proof{v.shown.Release}, v.shown.Beside...) {
		if err := p.Verify(v.signed.Checkpoint); err != nil {
			return err
		}
	}
	if err := v.quorum(); err != nil {
		return err
	}
	return v.learn(entries)
}

// beside reads the entries beside the release and applies the rotations.
func (v *logVerifier) beside() ([]*logentry.Entry, error) {
	entries := make([]*logentry.Entry, len(v.shown.Beside))
	last := int64(-1)
	for n, p := range v.shown.Beside {
		e, err := logentry.Parse(p.Record)
		if err != nil {
			return nil, fmt.Errorf("beside[%d]: %w", n, err)
		}
		if p.Index <= last {
			return nil, malformed("log proof: beside[%d] is out of the log's order", n)
		}
		last, entries[n] = p.Index, e
		switch e.Body.Kind {
		case logentry.KindRotation:
			if err := v.ring.show(e, p.Index); err != nil {
				return nil, err
			}
		case logentry.KindWithdrawal:
		default:
			return nil, malformed("log proof: beside[%d] is of kind %s", n, e.Body.Kind)
		}
	}
	return entries, nil
}

// quorum counts the cosignatures. The time at which a quorum had signed is the
// oldest of the newest ones: no fewer witnesses than that can move the clock.
func (v *logVerifier) quorum() error {
	for _, c := range v.signed.Cosignatures {
		n := slices.IndexFunc(v.ring.witnesses, func(w Witness) bool { return w.Key == c.Key })
		v.cosigned = append(v.cosigned, Cosigned{Witness: v.ring.witnesses[n], At: c.At})
	}
	slices.SortStableFunc(v.cosigned, func(a, b Cosigned) int { return b.At.Compare(a.At) })
	if len(v.cosigned) < v.policy.Quorum {
		return opaque("%d of %d witnesses have cosigned size %d of %s, want %d",
			len(v.cosigned), len(v.ring.witnesses), v.signed.Size, v.signed.Origin, v.policy.Quorum)
	}
	v.at = v.cosigned[v.policy.Quorum-1].At
	v.now = later(v.now, v.at)
	if age := v.now.Sub(v.at); age > v.policy.MaxAge {
		return opaque("the cosignatures are stale: %d witnesses last cosigned %s ago, at most %s",
			v.policy.Quorum, age.Truncate(time.Second), v.policy.MaxAge)
	}
	fresh := func(c Cosigned) bool { return v.now.Sub(c.At) <= v.policy.MaxAge }
	v.cosigned = slices.DeleteFunc(v.cosigned, func(c Cosigned) bool { return !fresh(c) })
	return nil
}

// learn keeps what the log, now that it is established, says beside the release.
func (v *logVerifier) learn(entries []*logentry.Entry) error {
	v.learned = Memory{Rotations: v.ring.learned, Time: v.at}
	for n, e := range entries {
		if e.Body.Kind != logentry.KindWithdrawal {
			continue
		}
		if err := v.ring.signed(e, v.shown.Beside[n].Index); err != nil {
			return err
		}
		v.learned.Withdrawn = append(v.learned.Withdrawn, e.Body.Withdrawal.Manifest)
	}
	return nil
}

// release verifies the release itself, and that it is the one in the log.
func (v *logVerifier) release(manifest, bundle []byte) (Logged, error) {
	failed := Logged{Learned: v.learned}
	m, digest, key, err := v.ring.verifyRelease(manifest, bundle)
	if err != nil {
		return failed, err
	}
	if slices.Contains(v.policy.Memory.Withdrawn, digest) || slices.Contains(v.learned.Withdrawn, digest) {
		return failed, withdrawn(digest)
	}
	if err := v.states(m, digest); err != nil {
		return failed, err
	}
	return Logged{
		Manifest: m, Digest: digest, Key: key.public, Log: v.signed.Origin, Size: v.signed.Size, Index: v.shown.Release.Index,
		Cosigned: v.cosigned, Of: len(v.ring.witnesses), At: v.at, NotAfter: v.at.Add(v.policy.MaxAge), Learned: v.learned,
	}, nil
}

// states wants the logged entry to be about this very release.
func (v *logVerifier) states(m *Manifest, digest attest.ReleaseDigest) error {
	index := v.shown.Release.Index
	e, err := logentry.Parse(v.shown.Release.Record)
	if err != nil {
		return err
	}
	r := e.Body.Release
	switch {
	case r == nil:
		return opaque("the entry at index %d is of kind %s, want a release", index, e.Body.Kind)
	case r.Manifest != digest:
		return opaque("the entry at index %d is of release %s, the machine shows %s", index, r.Manifest, digest)
	case *r != EntryOf(m, digest):
		return opaque("the entry at index %d says version %s, epoch %d, %s; the manifest %s, epoch %d, %s",
			index, r.Version, r.Epoch, r.Architecture, m.Version, m.Epoch, m.Architecture)
	}
	return v.ring.signed(e, index)
}

// EntryOf is what the log has to say of a release.
func EntryOf(m *Manifest, digest attest.ReleaseDigest) logentry.Release {
	return logentry.Release{Manifest: digest, Version: m.Version, Epoch: m.Epoch, Architecture: m.Architecture}
}

// SignedBy reports whether an entry about a release is of it and signed by
// key. Errors are attest.ErrMalformed, attest.ErrSignature and
// attest.ErrTransparency for another release's.
func SignedBy(entry, manifest []byte, key crypto.PublicKey) error {
	e, err := logentry.Parse(entry)
	if err != nil {
		return err
	}
	m, err := ParseManifest(manifest)
	if err != nil {
		return err
	}
	digest := attest.ReleaseDigest(attest.Sum(manifest))
	if e.Body.Release == nil || *e.Body.Release != EntryOf(m, digest) {
		return opaque("the log entry is not about release %s", digest)
	}
	return e.Verify(key)
}
