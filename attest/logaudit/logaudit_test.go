package logaudit_test

import (
	"context"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// world is a log, who audits it, and what is in it.
type world struct {
	t       *testing.T
	log     *logtest.Log
	key     logtest.ReleaseKey
	records [][]byte
	policy  logaudit.Policy
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, log: logtest.New(t, 2), key: logtest.NewReleaseKey(t)}
	w.policy = logaudit.Policy{
		Log: w.log.Signer.Key, ReleaseKeys: []crypto.PublicKey{w.key.Public()}, Quorum: 2, MaxAge: time.Hour, Now: w.log.Time,
		Witnesses: []checkpoint.Key{w.log.Witnesses[0].Key, w.log.Witnesses[1].Key},
	}
	for epoch := range uint64(3) {
		w.add(logtest.NewRelease(t, w.key, epoch+1).Entry)
	}
	return w
}

func (w *world) add(record []byte) {
	w.log.Add(record)
	w.records = append(w.records, record)
}

// fetch serves the log as tiles.
func (w *world) fetch(_ context.Context, path string) ([]byte, error) {
	if path == logtiles.CheckpointPath {
		return w.log.Checkpoint(), nil
	}
	var bundle []byte
	for _, r := range w.records {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(r))), r...)
	}
	if path != logtiles.EntriesPath(0, len(w.records)) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return bundle, nil
}

func (w *world) replay() *logaudit.Report {
	w.t.Helper()
	r, err := logaudit.Replay(w.t.Context(), w.fetch, w.policy)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) head() logaudit.Head {
	w.t.Helper()
	h := w.log.Head()
	return logaudit.Head{Origin: h.Origin, Size: h.Size, Root: attest.Digest(h.Root)}
}

func TestGoodLog(t *testing.T) {
	w := newWorld(t)
	w.policy.Seen = append(w.policy.Seen, w.head(), logaudit.Head{Origin: logtest.Origin, Root: attest.Sum(nil)})
	first := logtest.NewRelease(t, w.key, 4)
	w.add(first.Entry)
	old := w.log.Witnesses[0]
	w.log.Witnesses[0] = w.log.NewSigner(checkpoint.KindWitness, old.Name())
	w.add(logtest.SignEntry(t, rotation(logentry.UseWitness, old.String(), w.log.Witnesses[0].String()), []byte(old.String()), old.SignStatement))
	next := w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
	w.add(logtest.SignEntry(t, rotation(logentry.UseLog, w.log.Signer.String(), next.String()), []byte(w.log.Signer.String()), w.log.Signer.SignStatement))
	w.log.Signer = next
	rotated := logtest.NewReleaseKey(t)
	w.add(w.key.Entry(rotation(logentry.UseRelease, string(w.key.DER()), string(rotated.DER()))))
	w.add(logtest.NewRelease(t, rotated, 5).Entry)
	w.policy.InUse, w.policy.Stated = append(w.policy.InUse, first.Digest), map[attest.ReleaseDigest]logentry.Release{first.Digest: first.Statement}
	r := w.replay()
	if len(r.Findings) != 0 || len(r.Releases) != 5 || r.Rotations != 3 || r.Head.Size != 8 {
		t.Errorf("report %+v", r)
	}
}

func rotation(use logentry.Use, from, to string) logentry.Body {
	return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: use, Old: []byte(from), New: []byte(to)}}
}

// renamed is the same public key with another name.
func renamed(t *testing.T, key checkpoint.Key, kind checkpoint.Kind, name string) checkpoint.Key {
	t.Helper()
	other, err := checkpoint.NewKey(kind, name, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return other
}

func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*testing.T, *world)
		want  logaudit.Problem
	}{
		"fork": {func(_ *testing.T, w *world) {
			other := w.log.Fork()
			for range 3 {
				other.Add([]byte("another history"))
			}
			w.policy.Copies = append(w.policy.Copies, logaudit.Copy{Name: "other", Signed: other.Checkpoint()})
		}, logaudit.Fork},
		"smaller": {func(_ *testing.T, w *world) {
			h := w.head()
			h.Size++
			w.policy.Seen = append(w.policy.Seen, h)
		}, logaudit.Rollback},
		"older epoch": {func(t *testing.T, w *world) { w.add(logtest.NewRelease(t, w.key, 2).Entry) }, logaudit.Rollback},
		"entry of a stranger": {func(t *testing.T, w *world) {
			w.add(logtest.NewRelease(t, logtest.NewReleaseKey(t), 4).Entry)
		}, logaudit.Foreign},
		"entry of a key that was rotated": {func(t *testing.T, w *world) {
			w.add(w.key.Entry(rotation(logentry.UseRelease, string(w.key.DER()), string(logtest.NewReleaseKey(t).DER()))))
			w.add(logtest.NewRelease(t, w.key, 4).Entry)
		}, logaudit.Foreign},
		"rotation of another key": {func(t *testing.T, w *world) {
			own := logtest.NewReleaseKey(t)
			w.add(own.Entry(rotation(logentry.UseRelease, string(own.DER()), string(logtest.NewReleaseKey(t).DER()))))
		}, logaudit.Foreign},
		"rotation by a stranger": {func(t *testing.T, w *world) {
			thief := logtest.NewReleaseKey(t)
			w.add(logtest.SignEntry(t, rotation(logentry.UseRelease, string(w.key.DER()), string(thief.DER())), w.key.DER(), thief.SignMessage))
		}, logaudit.Foreign},
		"head of another log": {func(_ *testing.T, w *world) {
			h := w.head()
			h.Origin = "other.example"
			w.policy.Seen = append(w.policy.Seen, h)
		}, logaudit.Fork},
		"rotation of another log's key": {func(t *testing.T, w *world) {
			own := w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
			next := w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
			w.add(logtest.SignEntry(t, rotation(logentry.UseLog, own.String(), next.String()), []byte(own.String()), own.SignStatement))
		}, logaudit.Foreign},
		"withdrawal of what was never logged": {func(_ *testing.T, w *world) {
			w.add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
				Manifest: attest.ReleaseDigest{9}, Reason: logentry.ReasonFaulty,
			}}))
		}, logaudit.Foreign},
		"no entry": {func(_ *testing.T, w *world) { w.add([]byte("nonsense")) }, logaudit.Foreign},
		"never logged": {func(t *testing.T, w *world) {
			w.policy.InUse = append(w.policy.InUse, logtest.NewRelease(t, w.key, 9).Digest)
		}, logaudit.Unlogged},
		"logged with another epoch": {func(t *testing.T, w *world) {
			r := logtest.NewRelease(t, w.key, 4)
			lying := r.Statement
			lying.Epoch++
			w.add(w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &lying}))
			w.policy.InUse, w.policy.Stated = append(w.policy.InUse, r.Digest), map[attest.ReleaseDigest]logentry.Release{r.Digest: r.Statement}
		}, logaudit.Unlogged},
		"withdrawn in use": {func(t *testing.T, w *world) {
			r := logtest.NewRelease(t, w.key, 4)
			w.add(r.Entry)
			w.add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonFaulty}}))
			w.policy.InUse = append(w.policy.InUse, r.Digest)
		}, logaudit.Withdrawn},
		"rotation of the log by a stranger": {func(t *testing.T, w *world) {
			own, thief := w.log.Signer, w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
			w.add(logtest.SignEntry(t, rotation(logentry.UseLog, own.String(), thief.String()), []byte(own.String()), thief.SignStatement))
		}, logaudit.Foreign},
		"rotation of a witness to the key of another": {func(t *testing.T, w *world) {
			from, to := w.log.Witnesses[0], renamed(t, w.log.Witnesses[1].Key, checkpoint.KindWitness, w.log.Witnesses[0].Name())
			w.add(logtest.SignEntry(t, rotation(logentry.UseWitness, from.String(), to.String()), []byte(from.String()), from.SignStatement))
		}, logaudit.Foreign},
		"rotation of the log to the key of a witness": {func(t *testing.T, w *world) {
			own, to := w.log.Signer, renamed(t, w.log.Witnesses[1].Key, checkpoint.KindLog, logtest.Origin)
			w.add(logtest.SignEntry(t, rotation(logentry.UseLog, own.String(), to.String()), []byte(own.String()), own.SignStatement))
		}, logaudit.Foreign},
		"missing witness": {func(_ *testing.T, w *world) { w.log.Witnesses = w.log.Witnesses[:1] }, logaudit.Unwitnessed},
		"from the future": {func(_ *testing.T, w *world) { w.policy.Now = w.log.Time.Add(-2 * time.Hour) }, logaudit.Unwitnessed},
		"stale":           {func(_ *testing.T, w *world) { w.policy.Now = w.log.Time.Add(2 * time.Hour) }, logaudit.Unwitnessed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.spoil(t, w)
			r := w.replay()
			if len(r.Findings) != 1 || r.Findings[0].Problem != c.want {
				t.Errorf("findings %+v, want %s", r.Findings, c.want)
			}
		})
	}
}

// A copy counts that any of the log's keys has signed, before a rotation and
// after it; one of another key shows nothing of the log.
func TestCopies(t *testing.T) {
	w := newWorld(t)
	w.policy.Quorum, w.log.Witnesses = 0, nil
	copied := func() {
		w.policy.Copies = append(w.policy.Copies, logaudit.Copy{Name: "copy", Signed: w.log.Checkpoint()})
	}
	copied()
	old, next := w.log.Signer, w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
	w.add(logtest.SignEntry(t, rotation(logentry.UseLog, old.String(), next.String()), []byte(old.String()), old.SignStatement))
	w.log.Signer = next
	copied()
	if r := w.replay(); len(r.Findings) != 0 || !r.Fits {
		t.Errorf("report %+v", r)
	}
	for name, c := range map[string]struct {
		signed func() []byte
		want   error
	}{
		"of another key": {func() []byte {
			w.log.Signer = w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
			defer func() { w.log.Signer = next }()
			return w.log.Checkpoint()
		}, attest.ErrTransparency},
		"nonsense": {func() []byte { return []byte("nonsense") }, attest.ErrMalformed},
	} {
		p := w.policy
		p.Copies = []logaudit.Copy{{Name: name, Signed: c.signed()}}
		if _, err := logaudit.Replay(t.Context(), w.fetch, p); !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An epoch that went back is no new floor.
func TestEachOlderEpochIsFound(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	w.add(logtest.NewRelease(t, w.key, 2).Entry)
	w.add(logtest.NewRelease(t, w.key, 3).Entry)
	if r := w.replay(); len(r.Findings) != 2 || r.Findings[1].Problem != logaudit.Rollback {
		t.Errorf("findings %+v", r.Findings)
	}
}

// A log that does not sign what it serves is no log at all.
func TestReplayRefuses(t *testing.T) {
	w := newWorld(t)
	w.records[0], w.records[1] = w.records[1], w.records[0]
	if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("reordered entries: %v", err)
	}
	w = newWorld(t)
	w.log.Signer = w.log.NewSigner(checkpoint.KindLog, logtest.Origin)
	if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("another key: %v", err)
	}
	w = newWorld(t)
	w.records = slices.Delete(w.records, 0, 1)
	if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing bundle: %v", err)
	}
	w.policy.Quorum = 3
	if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("more witnesses than there are: %v", err)
	}
	w.policy.Quorum, w.policy.ReleaseKeys = 2, nil
	if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("no release key: %v", err)
	}
}

// What would leave a check of the witnesses out is refused, and not taken for one
// that passed.
func TestPoliciesThatAskNothing(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *world){
		"no log":                 func(_ *testing.T, w *world) { w.policy.Log = checkpoint.Key{} },
		"quorum below zero":      func(_ *testing.T, w *world) { w.policy.Quorum = -1 },
		"no age of cosignatures": func(_ *testing.T, w *world) { w.policy.MaxAge = 0 },
		"a witness twice":        func(_ *testing.T, w *world) { w.policy.Witnesses[1] = w.policy.Witnesses[0] },
		"a witness under two names": func(t *testing.T, w *world) {
			w.policy.Witnesses[1] = renamed(t, w.policy.Witnesses[0], checkpoint.KindWitness, "other")
		},
		"the log for its own witness": func(t *testing.T, w *world) {
			w.policy.Witnesses[0] = renamed(t, w.policy.Log, checkpoint.KindWitness, "other")
		},
	} {
		w := newWorld(t)
		spoil(t, w)
		if _, err := logaudit.Replay(t.Context(), w.fetch, w.policy); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A log that says it is larger than any is not read.
func TestReplayOfAnEndlessLog(t *testing.T) {
	w := newWorld(t)
	signed, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: logtest.Origin, Size: logaudit.MaxEntries + 1}, w.log.Signer)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(_ context.Context, path string) ([]byte, error) {
		if path != logtiles.CheckpointPath {
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		return signed, nil
	}
	if _, err := logaudit.Replay(t.Context(), fetch, w.policy); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("error %v, want %v", err, attest.ErrMalformed)
	}
}

// A log that is not there, or has no head, is an error and no finding.
func TestReplayWithoutAHead(t *testing.T) {
	w := newWorld(t)
	failing := errors.New("unreachable")
	if _, err := logaudit.Replay(t.Context(), func(context.Context, string) ([]byte, error) { return nil, failing }, w.policy); !errors.Is(err, failing) {
		t.Errorf("a log that is not there: %v", err)
	}
	if _, err := logaudit.Replay(t.Context(), func(context.Context, string) ([]byte, error) { return []byte("nonsense"), nil }, w.policy); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a log without a head: %v", err)
	}
}
