package main

import (
	"crypto"
	"errors"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// logged is a release in a log that two witnesses cosign, and who asks for it.
type logged struct {
	tb      testing.TB
	log     *logtest.Log
	key     logtest.ReleaseKey
	release logtest.Release
	index   int64
	policy  release.LogPolicy
	now     time.Time
}

func newLogged(tb testing.TB) *logged {
	w := &logged{tb: tb, log: logtest.New(tb, 2), key: logtest.NewReleaseKey(tb)}
	w.log.Add(logtest.NewRelease(tb, w.key, 1).Entry)
	w.release = logtest.NewRelease(tb, w.key, 2)
	w.index = w.log.Add(w.release.Entry)
	w.policy, w.now = w.log.Policy(), w.log.Time.Add(time.Second)
	return w
}

func (w *logged) verify(document []byte) outcome {
	_, err := release.VerifyLogged(w.release.Manifest, w.release.Bundle, document, []crypto.PublicKey{w.key.Public()}, w.policy, w.now)
	return outcome{accepted: err == nil, err: err}
}

// shownBy is the release under a head that these have signed.
func (w *logged) shownBy(signers ...note.Signer) []byte {
	signed, err := checkpoint.Sign(w.log.Head(), signers...)
	if err != nil {
		w.tb.Fatal(err)
	}
	return w.log.DocumentOf(signed, w.index)
}

func (w *logged) withdrawal() []byte {
	return w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
		Manifest: w.release.Digest, Reason: logentry.ReasonVulnerable,
	}})
}

// onLog are the attacks on what vouches for a release.
func onLog(tb testing.TB) ([]attack, error) {
	opaque := func(says string) reason { return reason{kind: attest.ErrTransparency, says: says} }
	var all []attack
	for _, c := range []struct {
		name   string
		reason reason
		shown  func(*logged) []byte
	}{
		{"release in no log", opaque("without a proof"), func(*logged) []byte { return nil }},
		{"missing witness", opaque("1 of 2 witnesses"), func(w *logged) []byte { return w.shownBy(w.log.Signer, w.log.Witnesses[0]) }},
		{"witness of the operator's", opaque("1 of 2 witnesses"), func(w *logged) []byte {
			return w.shownBy(w.log.Signer, w.log.Witnesses[0], w.log.NewSigner(checkpoint.KindWitness, w.log.Witnesses[1].Name()))
		}},
		{"unsigned checkpoint", opaque("checkpoint is not signed by"), func(w *logged) []byte { return w.shownBy(w.log.Witnesses[0], w.log.Witnesses[1]) }},
		{"checkpoint of another log", opaque("checkpoint.origin"), func(w *logged) []byte {
			w.log.Signer = w.log.NewSigner(checkpoint.KindLog, "other.example")
			return w.log.Document(w.index)
		}},
		{"stale cosignature", opaque("stale"), func(w *logged) []byte {
			w.now = w.now.Add(time.Hour)
			return w.log.Document(w.index)
		}},
		{"clock set back", opaque("stale"), func(w *logged) []byte {
			w.policy.TimeFloor, w.now = w.log.Time.Add(2*time.Hour), w.log.Time
			return w.log.Document(w.index)
		}},
		{"fork", opaque("proof.path does not lead"), func(w *logged) []byte {
			other := w.log.Fork()
			for range 2 {
				other.Add([]byte("another history"))
			}
			return w.log.DocumentOf(other.Checkpoint(), w.index)
		}},
		{"index of another entry", opaque("is of release"), func(w *logged) []byte { return w.log.Document(w.index - 1) }},
		{"withdrawn", opaque("withdrawn"), func(w *logged) []byte { return w.log.Document(w.index, w.log.Add(w.withdrawal())) }},
		{"withdrawn, and seen before", opaque("withdrawn"), func(w *logged) []byte {
			w.policy.Memory.Withdrawn = []attest.ReleaseDigest{w.release.Digest}
			return w.log.Document(w.index)
		}},
		{"logged by a stranger", reason{kind: attest.ErrSignature}, func(w *logged) []byte {
			e := logtest.NewReleaseKey(w.tb).Entry(logentry.Body{Kind: logentry.KindRelease, Release: &w.release.Statement})
			return w.log.Document(w.log.Add(e))
		}},
		{"logged with a higher epoch", opaque("epoch 3"), func(w *logged) []byte {
			s := w.release.Statement
			s.Epoch++
			return w.log.Document(w.log.Add(w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &s})))
		}},
		{"bundle of a stranger", reason{kind: attest.ErrSignature}, func(w *logged) []byte {
			w.release.Bundle = logtest.NewBundle(w.tb, logtest.NewReleaseKey(w.tb), w.release.Manifest)
			return w.log.Document(w.index)
		}},
		{"manifest altered", reason{kind: attest.ErrSignature}, func(w *logged) []byte {
			w.release.Manifest = append(w.release.Manifest[:len(w.release.Manifest)-1:len(w.release.Manifest)-1], ' ')
			return w.log.Document(w.index)
		}},
		{"key rotated by a stranger", reason{kind: attest.ErrSignature}, func(w *logged) []byte {
			thief := logtest.NewReleaseKey(w.tb)
			body := logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: w.key.DER(), New: thief.DER()}}
			n := w.log.Add(logtest.SignEntry(w.tb, body, w.key.DER(), thief.SignMessage))
			w.release = logtest.NewRelease(w.tb, thief, 4)
			return w.log.Document(w.log.Add(w.release.Entry), n)
		}},
		{"policy that leaves the quorum unsaid", reason{kind: attest.ErrPolicy}, func(w *logged) []byte {
			w.policy.Quorum = 0
			return w.log.Document(w.index)
		}},
	} {
		w, twin := newLogged(tb), newLogged(tb)
		all = append(all, attack{name: c.name, reason: c.reason, bad: w.verify(c.shown(w)), good: twin.verify(twin.log.Document(twin.index))})
	}
	if len(all) == 0 {
		return nil, errors.New("no case")
	}
	return all, nil
}
