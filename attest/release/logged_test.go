package release_test

import (
	"bytes"
	"crypto"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// world is a log with a release between two others, and who trusts what.
type world struct {
	log     *logtest.Log
	key     logtest.ReleaseKey
	release logtest.Release
	index   int64
	policy  release.LogPolicy
	now     time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{log: logtest.New(t, 2), key: logtest.NewReleaseKey(t)}
	w.log.Add(logtest.NewRelease(t, w.key, 1).Entry)
	w.release = logtest.NewRelease(t, w.key, 2)
	w.index = w.log.Add(w.release.Entry)
	w.log.Add(logtest.NewRelease(t, w.key, 3).Entry)
	w.policy, w.now = w.log.Policy(), w.log.Time.Add(14*time.Second)
	return w
}

func (w *world) verify(document []byte) (release.Logged, error) {
	return release.VerifyLogged(w.release.Manifest, w.release.Bundle, document, []crypto.PublicKey{w.key.Public()}, w.policy, w.now)
}

func TestLoggedReleaseIsAccepted(t *testing.T) {
	w := newWorld(t)
	got, err := w.verify(w.log.Document(w.index))
	if err != nil {
		t.Fatal(err)
	}
	const want = "log.test.example size 3, 2 of 2 witnesses (dev), cosigned 14s ago"
	if line := got.Transparency(w.log.Time.Truncate(time.Second).Add(14 * time.Second)); line != want {
		t.Errorf("transparency %q, want %q", line, want)
	}
	if got.Digest != w.release.Digest || got.Index != w.index || !got.NotAfter.Equal(got.At.Add(time.Hour)) || got.Learned.Time != got.At {
		t.Errorf("logged %+v", got)
	}
	if _, err := release.VerifyLogged(w.release.Manifest, w.release.Bundle, nil, []crypto.PublicKey{w.key.Public()},
		release.LogPolicy{NotRequired: true}, w.now); err != nil {
		t.Errorf("where no log is required: %v", err)
	}
}

// signed is the log's head signed by some.
func (w *world) signed(t *testing.T, head checkpoint.Checkpoint, signers ...note.Signer) []byte {
	t.Helper()
	b, err := checkpoint.Sign(head, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each refusal has its accepted twin in TestLoggedReleaseIsAccepted: one thing
// alone differs.
func TestLoggedReleaseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		attack func(*testing.T, *world) []byte
		want   error
	}{
		"no proof": {func(*testing.T, *world) []byte { return nil }, attest.ErrTransparency},
		"missing witness": {func(t *testing.T, w *world) []byte {
			return w.log.DocumentOf(w.signed(t, w.log.Head(), w.log.Signer, w.log.Witnesses[0]), w.index)
		}, attest.ErrTransparency},
		"one witness twice": {func(t *testing.T, w *world) []byte {
			b := w.signed(t, w.log.Head(), w.log.Signer, w.log.Witnesses[0])
			line, err := checkpoint.Cosign(w.log.Head(), w.log.Witnesses[0])
			if err != nil {
				t.Fatal(err)
			}
			return w.log.DocumentOf(append(b, line...), w.index)
		}, attest.ErrTransparency},
		"another's witness": {func(t *testing.T, w *world) []byte {
			other := w.log.NewSigner(checkpoint.KindWitness, w.log.Witnesses[1].Name())
			return w.log.DocumentOf(w.signed(t, w.log.Head(), w.log.Signer, w.log.Witnesses[0], other), w.index)
		}, attest.ErrTransparency},
		"unsigned checkpoint": {func(t *testing.T, w *world) []byte {
			return w.log.DocumentOf(w.signed(t, w.log.Head(), w.log.Witnesses[0], w.log.Witnesses[1]), w.index)
		}, attest.ErrTransparency},
		"checkpoint of a stranger": {func(_ *testing.T, w *world) []byte {
			w.log.Signer = w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
			return w.log.Document(w.index)
		}, attest.ErrTransparency},
		"wrong origin": {func(_ *testing.T, w *world) []byte {
			w.log.Signer = w.log.NewSigner(checkpoint.KindLog, "other.example")
			return w.log.Document(w.index)
		}, attest.ErrTransparency},
		"stale cosignature": {func(_ *testing.T, w *world) []byte {
			w.now = w.now.Add(time.Hour)
			return w.log.Document(w.index)
		}, attest.ErrTransparency},
		"clock set back": {func(_ *testing.T, w *world) []byte {
			w.policy.TimeFloor, w.now = w.log.Time.Add(2*time.Hour), w.log.Time
			return w.log.Document(w.index)
		}, attest.ErrTransparency},
		"index of another leaf": {func(_ *testing.T, w *world) []byte {
			return w.log.Document(w.index - 1)
		}, attest.ErrTransparency},
		"path of another leaf": {func(t *testing.T, w *world) []byte {
			p := w.log.Proof(w.index-1, w.log.Checkpoint())
			p.Record = w.release.Entry
			return document(t, p)
		}, attest.ErrTransparency},
		"index out of the tree": {func(t *testing.T, w *world) []byte {
			p := w.log.Proof(w.index, w.log.Checkpoint())
			p.Index = 3
			return document(t, p)
		}, attest.ErrTransparency},
		"fork": {func(_ *testing.T, w *world) []byte {
			// The witnesses saw the log without the release at this size.
			other := w.log.Fork()
			for range 3 {
				other.Add([]byte("another history"))
			}
			return w.log.DocumentOf(other.Checkpoint(), w.index)
		}, attest.ErrTransparency},
		"tampered cosignature": {func(_ *testing.T, w *world) []byte {
			b := w.log.Checkpoint()
			// Still base64, of another signature.
			if at := len(b) - 10; b[at] == 'A' {
				b[at] = 'B'
			} else {
				b[at] = 'A'
			}
			return w.log.DocumentOf(b, w.index)
		}, attest.ErrTransparency},
		"too large": {func(*testing.T, *world) []byte {
			return make([]byte, logproof.MaxDocumentBytes+1)
		}, attest.ErrMalformed},
		"withdrawn": {func(_ *testing.T, w *world) []byte {
			n := w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
				Manifest: w.release.Digest, Reason: logentry.ReasonVulnerable,
			}}))
			return w.log.Document(w.index, n)
		}, attest.ErrTransparency},
		"withdrawn before": {func(_ *testing.T, w *world) []byte {
			w.policy.Memory.Withdrawn = []attest.ReleaseDigest{w.release.Digest}
			return w.log.Document(w.index)
		}, attest.ErrTransparency},
		"withdrawn by a stranger": {func(t *testing.T, w *world) []byte {
			n := w.log.Add(logtest.NewReleaseKey(t).Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
				Manifest: attest.ReleaseDigest{1}, Reason: logentry.ReasonVulnerable,
			}}))
			return w.log.Document(w.index, n)
		}, attest.ErrSignature},
		"logged by a stranger": {func(t *testing.T, w *world) []byte {
			n := w.log.Add(logtest.NewReleaseKey(t).Entry(logentry.Body{Kind: logentry.KindRelease, Release: &w.release.Statement}))
			return w.log.Document(n)
		}, attest.ErrSignature},
		"logged with another epoch": {func(_ *testing.T, w *world) []byte {
			s := w.release.Statement
			s.Epoch++
			return w.log.Document(w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &s})))
		}, attest.ErrTransparency},
		"logged with another version": {func(_ *testing.T, w *world) []byte {
			s := w.release.Statement
			s.Version += "a"
			return w.log.Document(w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &s})))
		}, attest.ErrTransparency},
		"an entry of another kind in its place": {func(_ *testing.T, w *world) []byte {
			return w.log.Document(w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
				Manifest: attest.ReleaseDigest{1}, Reason: logentry.ReasonFaulty,
			}})))
		}, attest.ErrTransparency},
		"no entry in its place": {func(_ *testing.T, w *world) []byte {
			return w.log.Document(w.log.Add([]byte("nonsense")))
		}, attest.ErrMalformed},
		"nonsense beside it": {func(_ *testing.T, w *world) []byte {
			return w.log.Document(w.index, w.log.Add([]byte("nonsense")))
		}, attest.ErrMalformed},
		"another release beside it": {func(_ *testing.T, w *world) []byte {
			return w.log.Document(w.index, w.index+1)
		}, attest.ErrMalformed},
		"logged for another architecture": {func(_ *testing.T, w *world) []byte {
			s := w.release.Statement
			s.Architecture += "a"
			return w.log.Document(w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &s})))
		}, attest.ErrTransparency},
		"bundle of a stranger": {func(t *testing.T, w *world) []byte {
			w.release.Bundle = logtest.NewBundle(t, logtest.NewReleaseKey(t), w.release.Manifest)
			return w.log.Document(w.index)
		}, attest.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.verify(c.attack(t, w)); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func document(t *testing.T, p *logproof.Proof) []byte {
	t.Helper()
	b, err := logproof.Document{Release: p.Encode()}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A withdrawal that was seen is learned even where the release is refused.
func TestWithdrawalIsLearned(t *testing.T) {
	w := newWorld(t)
	n := w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
		Manifest: w.release.Digest, Reason: logentry.ReasonFaulty,
	}}))
	got, err := w.verify(w.log.Document(w.index, n))
	if !errors.Is(err, attest.ErrTransparency) || !slices.Contains(got.Learned.Withdrawn, w.release.Digest) {
		t.Errorf("learned %v, error %v", got.Learned.Withdrawn, err)
	}
	w.policy = release.LogPolicy{NotRequired: true, Memory: got.Learned}
	if _, err := w.verify(nil); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a client that asks no log has forgotten: %v", err)
	}
}

// A majority of witnesses moves the clock, one alone does not.
func TestWitnessOfTheFutureMovesNothing(t *testing.T) {
	w := newWorld(t)
	w.policy.Quorum = 1
	signed := w.signed(t, w.log.Head(), w.log.Signer, w.log.Witnesses[0])
	w.log.Time = w.log.Time.Add(24 * 365 * time.Hour)
	line, err := checkpoint.Cosign(w.log.Head(), w.log.Witnesses[1])
	if err != nil {
		t.Fatal(err)
	}
	w.policy.Quorum = 2
	got, err := w.verify(w.log.DocumentOf(append(signed, line...), w.index))
	if err != nil || got.Learned.Time.After(w.now) {
		t.Errorf("learned %v, error %v", got.Learned.Time, err)
	}
}

func rotation(use logentry.Use, from, to []byte) logentry.Body {
	return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: use, Old: from, New: to}}
}

func TestRotatedReleaseKey(t *testing.T) {
	w := newWorld(t)
	next := logtest.NewReleaseKey(t)
	rotated := w.log.Add(w.key.Entry(rotation(logentry.UseRelease, w.key.DER(), next.DER())))
	old := w.release
	w.release = logtest.NewRelease(t, next, 4)
	index := w.log.Add(w.release.Entry)
	if _, err := w.verify(w.log.Document(index)); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("without the rotation: %v", err)
	}
	got, err := w.verify(w.log.Document(index, rotated))
	if err != nil {
		t.Fatal(err)
	}
	w.policy.Memory = w.policy.Memory.Merge(got.Learned)
	if _, err := w.verify(w.log.Document(index)); err != nil {
		t.Errorf("once learned: %v", err)
	}
	// What the old key signed before is fine, what it signs now is not.
	w.release = old
	if _, err := w.verify(w.log.Document(w.index)); err != nil {
		t.Errorf("signed before the rotation: %v", err)
	}
	w.release = logtest.NewRelease(t, w.key, 5)
	if _, err := w.verify(w.log.Document(w.log.Add(w.release.Entry))); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("signed after the rotation: %v", err)
	}
	// Where no log is asked nobody can tell before from after.
	unasked := w.policy
	w.policy = release.LogPolicy{NotRequired: true, Memory: w.policy.Memory}
	if _, err := w.verify(nil); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("signed by the old key, without a log: %v", err)
	}
	w.policy = unasked
	// Whoever stole the old key cannot rotate once more.
	thief := logtest.NewReleaseKey(t)
	again := w.log.Add(w.key.Entry(rotation(logentry.UseRelease, w.key.DER(), thief.DER())))
	w.release = logtest.NewRelease(t, thief, 6)
	if _, err := w.verify(w.log.Document(w.log.Add(w.release.Entry), again)); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("rotated twice: %v", err)
	}
}

func TestRotationByAStranger(t *testing.T) {
	w := newWorld(t)
	thief := logtest.NewReleaseKey(t)
	forged := logtest.SignEntry(t, rotation(logentry.UseRelease, w.key.DER(), thief.DER()), w.key.DER(), thief.SignMessage)
	n := w.log.Add(forged)
	w.release = logtest.NewRelease(t, thief, 4)
	if _, err := w.verify(w.log.Document(w.log.Add(w.release.Entry), n)); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("signed by the new key: %v", err)
	}
	own := logtest.NewReleaseKey(t)
	n = w.log.Add(own.Entry(rotation(logentry.UseRelease, own.DER(), thief.DER())))
	if _, err := w.verify(w.log.Document(w.log.Add(w.release.Entry), n)); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("of the stranger's own key: %v", err)
	}
}

// Nobody but the log rotates its key, and nobody but a witness theirs.
func TestLogAndWitnessRotatedByAStranger(t *testing.T) {
	for name, c := range map[string]struct {
		use  logentry.Use
		kind checkpoint.Kind
		of   func(*world) *checkpoint.Signer
		put  func(*world, *checkpoint.Signer)
	}{
		"log": {logentry.UseLog, checkpoint.KindLog, func(w *world) *checkpoint.Signer { return w.log.Signer },
			func(w *world, s *checkpoint.Signer) { w.log.Signer = s }},
		"witness": {logentry.UseWitness, checkpoint.KindWitness, func(w *world) *checkpoint.Signer { return w.log.Witnesses[0] },
			func(w *world, s *checkpoint.Signer) { w.log.Witnesses[0] = s }},
	} {
		w := newWorld(t)
		old := c.of(w)
		thief := w.log.NewSigner(c.kind, old.Name())
		n := w.log.Add(logtest.SignEntry(t, rotation(c.use, []byte(old.String()), []byte(thief.String())), []byte(old.String()), thief.SignStatement))
		c.put(w, thief)
		if _, err := w.verify(w.log.Document(w.index, n)); !errors.Is(err, attest.ErrTransparency) || !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRotatedLogAndWitnessKeys(t *testing.T) {
	w := newWorld(t)
	before := w.log.Signer
	after := w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
	first := w.log.Add(logtest.SignEntry(t, rotation(logentry.UseLog, []byte(before.String()), []byte(after.String())),
		[]byte(before.String()), before.SignStatement))
	witness := w.log.Witnesses[0]
	fresh := w.log.NewSigner(checkpoint.KindWitness, witness.Name())
	second := w.log.Add(logtest.SignEntry(t, rotation(logentry.UseWitness, []byte(witness.String()), []byte(fresh.String())),
		[]byte(witness.String()), witness.SignStatement))
	w.log.Signer, w.log.Witnesses[0] = after, fresh
	if _, err := w.verify(w.log.Document(w.index)); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("without the rotations: %v", err)
	}
	got, err := w.verify(w.log.Document(w.index, first, second))
	if err != nil || len(got.Learned.Rotations) != 2 {
		t.Fatalf("learned %+v, error %v", got.Learned, err)
	}
	w.policy.Memory = got.Learned
	if _, err := w.verify(w.log.Document(w.index)); err != nil {
		t.Errorf("once learned: %v", err)
	}
	w.log.Signer = before
	if _, err := w.verify(w.log.Document(w.index)); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a checkpoint of the old key: %v", err)
	}
}

func TestEntriesBesideStandInTheLogsOrder(t *testing.T) {
	w := newWorld(t)
	one := logtest.NewReleaseKey(t)
	first := w.log.Add(w.key.Entry(rotation(logentry.UseRelease, w.key.DER(), one.DER())))
	second := w.log.Add(one.Entry(rotation(logentry.UseRelease, one.DER(), logtest.NewReleaseKey(t).DER())))
	for name, c := range map[string]struct {
		beside []int64
		want   error
	}{
		"in order": {[]int64{first, second}, nil}, "one twice": {[]int64{first, first}, attest.ErrMalformed},
		"out of order": {[]int64{second, first}, attest.ErrMalformed},
	} {
		if _, err := w.verify(w.log.Document(w.index, c.beside...)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// One holder never counts as two, by a rotation either.
func TestRotationToAKeyThatIsTaken(t *testing.T) {
	w := newWorld(t)
	log, one, two := w.log.Signer, w.log.Witnesses[0], w.log.Witnesses[1]
	for name, c := range map[string]struct {
		use  logentry.Use
		from *checkpoint.Signer
		kind checkpoint.Kind
		to   *checkpoint.Signer
	}{
		"a witness to another's":   {logentry.UseWitness, one, checkpoint.KindWitness, two},
		"a witness to the log's":   {logentry.UseWitness, one, checkpoint.KindWitness, log},
		"the log to one's of them": {logentry.UseLog, log, checkpoint.KindLog, one},
	} {
		to, err := checkpoint.NewKey(c.kind, c.from.Name(), c.to.Public())
		if err != nil {
			t.Fatal(err)
		}
		n := w.log.Add(logtest.SignEntry(t, rotation(c.use, []byte(c.from.String()), []byte(to.String())),
			[]byte(c.from.String()), c.from.SignStatement))
		if _, err := w.verify(w.log.Document(w.index, n)); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
		// What was learned is no other.
		p := w.policy
		p.Quorum = 1
		p.Memory.Rotations = []release.Rotated{{Use: c.use, Old: []byte(c.from.String()), New: []byte(to.String()), Index: n}}
		if _, err := release.VerifyLogged(w.release.Manifest, w.release.Bundle, w.log.Document(w.index),
			[]crypto.PublicKey{w.key.Public()}, p, w.now); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("%s, learned: %v", name, err)
		}
	}
}

func TestLogPolicyFailsClosed(t *testing.T) {
	w := newWorld(t)
	shown := w.log.Document(w.index)
	for name, change := range map[string]func(*release.LogPolicy){
		"empty":                       func(p *release.LogPolicy) { *p = release.LogPolicy{} },
		"both":                        func(p *release.LogPolicy) { p.NotRequired = true },
		"not required, and a log":     func(p *release.LogPolicy) { *p = release.LogPolicy{NotRequired: true, Log: p.Log} },
		"not required, and witnesses": func(p *release.LogPolicy) { *p = release.LogPolicy{NotRequired: true, Witnesses: p.Witnesses} },
		"not required, and a quorum":  func(p *release.LogPolicy) { *p = release.LogPolicy{NotRequired: true, Quorum: 1} },
		"not required, and an age":    func(p *release.LogPolicy) { *p = release.LogPolicy{NotRequired: true, MaxAge: time.Hour} },
		"too many witnesses": func(p *release.LogPolicy) {
			for range release.MaxWitnesses {
				p.Witnesses = append(p.Witnesses, release.Witness{Key: w.log.NewSigner(checkpoint.KindWitness, "w").Key})
			}
		},
		"a rotation of no use that is known": func(p *release.LogPolicy) { p.Memory.Rotations = []release.Rotated{{Use: 9}} },
		"a rotation of the log to no key": func(p *release.LogPolicy) {
			p.Memory.Rotations = []release.Rotated{{Use: logentry.UseLog, Old: []byte(p.Log.String()), New: []byte("key")}}
		},
		"a rotation of a witness to no key": func(p *release.LogPolicy) {
			p.Memory.Rotations = []release.Rotated{{Use: logentry.UseWitness, Old: []byte(p.Witnesses[0].Key.String()), New: []byte("key")}}
		},
		"a rotation of the release key to no key": func(p *release.LogPolicy) {
			p.Memory.Rotations = []release.Rotated{{Use: logentry.UseRelease, Old: w.key.DER(), New: []byte("key")}}
		},
		"no log":           func(p *release.LogPolicy) { p.Log = checkpoint.Key{} },
		"no witnesses":     func(p *release.LogPolicy) { p.Witnesses = nil },
		"no quorum":        func(p *release.LogPolicy) { p.Quorum = 0 },
		"too large quorum": func(p *release.LogPolicy) { p.Quorum = 3 },
		"no age":           func(p *release.LogPolicy) { p.MaxAge = 0 },
		"no floor":         func(p *release.LogPolicy) { p.TimeFloor = time.Time{} },
		"no key":           func(p *release.LogPolicy) { p.Witnesses[1].Key = checkpoint.Key{} },
		"one key twice":    func(p *release.LogPolicy) { p.Witnesses[1].Key = p.Witnesses[0].Key },
		"the log's own key": func(p *release.LogPolicy) {
			key, err := checkpoint.NewKey(checkpoint.KindWitness, "witness", p.Log.Public())
			if err != nil {
				t.Fatal(err)
			}
			p.Witnesses[1].Key = key
		},
	} {
		w.policy = w.log.Policy()
		change(&w.policy)
		if _, err := w.verify(shown); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.policy = w.log.Policy()
	if _, err := release.VerifyLogged(w.release.Manifest, w.release.Bundle, shown, nil, w.policy, w.now); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("no release key: %v", err)
	}
}

func FuzzDocument(f *testing.F) {
	w := newWorld(f)
	f.Add(w.log.Document(w.index))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := w.verify(b); err != nil && !errors.Is(err, attest.ErrRefused) {
			t.Errorf("error %v of no known kind", err)
		}
		p, err := logproof.ParseDocument(b)
		if err != nil {
			return
		}
		d := logproof.Document{Release: p.Release.Encode()}
		for _, one := range p.Beside {
			d.Beside = append(d.Beside, one.Encode())
		}
		if again, err := d.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("two spellings of one document: %v", err)
		}
	})
}

// What signs a release into the log is held against the very release.
func TestSignedBy(t *testing.T) {
	w := newWorld(t)
	other := logtest.NewRelease(t, w.key, 2+1)
	for name, c := range map[string]struct {
		entry, manifest []byte
		key             crypto.PublicKey
		want            error
	}{
		"good":            {w.release.Entry, w.release.Manifest, w.key.Public(), nil},
		"another key":     {w.release.Entry, w.release.Manifest, logtest.NewReleaseKey(t).Public(), attest.ErrSignature},
		"another release": {other.Entry, w.release.Manifest, w.key.Public(), attest.ErrTransparency},
		"another kind": {w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
			Manifest: w.release.Digest, Reason: logentry.ReasonFaulty,
		}}), w.release.Manifest, w.key.Public(), attest.ErrTransparency},
		"no entry":    {[]byte("nonsense"), w.release.Manifest, w.key.Public(), attest.ErrMalformed},
		"no manifest": {w.release.Entry, []byte("nonsense"), w.key.Public(), attest.ErrMalformed},
	} {
		if err := release.SignedBy(c.entry, c.manifest, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A release of a stranger's is none, where no log is asked either.
func TestUnloggedReleaseIsSignedAllTheSame(t *testing.T) {
	w := newWorld(t)
	w.policy = release.LogPolicy{NotRequired: true}
	w.key = logtest.NewReleaseKey(t)
	if _, err := w.verify(nil); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("%v", err)
	}
}

// A cosignature is good for as long as the policy says, to the second.
func TestCosignaturesAge(t *testing.T) {
	w := newWorld(t)
	shown, signed := w.log.Document(w.index), w.log.Time.Truncate(time.Second)
	for after, want := range map[time.Duration]error{0: nil, w.policy.MaxAge: nil, w.policy.MaxAge + time.Second: attest.ErrTransparency} {
		w.now = signed.Add(after)
		if got, err := w.verify(shown); !errors.Is(err, want) || err == nil && len(got.Cosigned) != 2 {
			t.Errorf("%s after: %d cosigned, %v", after, len(got.Cosigned), err)
		}
	}
}
