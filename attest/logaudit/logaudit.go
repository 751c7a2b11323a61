// Package logaudit replays a transparency log from its first entry and says
// what is wrong with it.
//
// Invariants: every entry is read and hashed, so that the root that the log
// signed is the auditor's own finding; what was seen of the log before has to
// fit; a log that cannot be read whole is an error, one that is read and is not
// as it should be a finding, and no finding is dropped.
package logaudit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
)

// MaxEntries caps the log that is replayed.
const MaxEntries = 1 << 24

// Problem is the kind of a finding.
type Problem string

// The problems.
const (
	// Fork is a head that does not fit another of the same log.
	Fork Problem = "fork"
	// Rollback is a log that has become smaller, or a release whose epoch is
	// below that of one before it.
	Rollback Problem = "rollback"
	// Foreign is an entry that no accepted key signed, or that does not parse.
	Foreign Problem = "foreign-entry"
	// Unlogged is a release in use that the log does not have.
	Unlogged Problem = "never-logged"
	// Withdrawn is a release in use that was withdrawn.
	Withdrawn Problem = "withdrawn-in-use"
	// Unwitnessed is a head that too few witnesses have cosigned, or too long
	// ago.
	Unwitnessed Problem = "unwitnessed"
)

// Finding is one thing that is wrong.
type Finding struct {
	Problem Problem `json:"problem"`
	Reason  string  `json:"reason"`
}

// Head is what was seen of a log.
type Head struct {
	Origin string        `json:"origin"`
	Size   int64         `json:"size"`
	Root   attest.Digest `json:"root"`
}

func headOf(c checkpoint.Checkpoint) Head {
	return Head{Origin: c.Origin, Size: c.Size, Root: attest.Digest(c.Root)}
}

// Policy is what the auditor knows beforehand.
type Policy struct {
	// Log and ReleaseKeys are the first of their keys: rotations are followed.
	Log         checkpoint.Key
	ReleaseKeys []crypto.PublicKey
	// Witnesses have to have cosigned, Quorum of them within MaxAge; none are
	// asked for where Quorum is zero.
	Witnesses []checkpoint.Key
	Quorum    int
	MaxAge    time.Duration
	// Seen are heads of the log from before, Copies what others were shown.
	Seen   []Head
	Copies []Copy
	// InUse are the releases that run somewhere, Stated is what the log has to say of
	// those whose manifest is at hand.
	InUse  []attest.ReleaseDigest
	Stated map[attest.ReleaseDigest]logentry.Release
	Now    time.Time
}

// check fails closed.
func (p Policy) check() error {
	switch {
	case p.Log.IsZero() || len(p.ReleaseKeys) == 0:
		return fmt.Errorf("%w: no log, or no release key", attest.ErrPolicy)
	case p.Quorum < 0 || p.Quorum > len(p.Witnesses):
		return fmt.Errorf("%w: %d of %d witnesses are asked for", attest.ErrPolicy, p.Quorum, len(p.Witnesses))
	case p.Quorum > 0 && p.MaxAge <= 0:
		return fmt.Errorf("%w: cosignatures have no maximum age", attest.ErrPolicy)
	}
	for n, w := range p.Witnesses {
		if taken(w, p.Log, p.Witnesses[:n]) {
			return fmt.Errorf("%w: witness %s has the key of another or of the log", attest.ErrPolicy, w.Name())
		}
	}
	return nil
}

// Release is one that the log has.
type Release struct {
	logentry.Release
	Index     int64
	Withdrawn bool
}

// Report is what an audit found.
type Report struct {
	Head Head
	// Releases are in the log's order.
	Releases  []Release
	Rotations int
	// AuditHeads are a control plane's, as they stand there: whose key has to
	// have signed them is for whoever audits its results to know.
	AuditHeads []auditlog.Logged
	Findings   []Finding
	// Fits says that every head that was seen before is of this same log.
	Fits bool
}

// Replay reads the whole log. Errors are fetch's, attest.ErrMalformed,
// attest.ErrPolicy and attest.ErrTransparency, for a log of which nothing can
// be said: it does not sign what it serves. They are also those of a copy that
// the log has not signed with the key that the auditor starts from or any that
// it was rotated to: it shows nothing of the log.
func Replay(ctx context.Context, fetch logtiles.Fetch, p Policy) (*Report, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	signed, err := fetch(ctx, logtiles.CheckpointPath)
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.Parse(signed)
	if err != nil {
		return nil, err
	}
	if c.Size > MaxEntries {
		return nil, fmt.Errorf("%w: the log has %d entries, at most %d are read", attest.ErrMalformed, c.Size, MaxEntries)
	}
	a := &auditor{policy: p, log: p.Log, logs: []checkpoint.Key{p.Log}, keys: slices.Clone(p.ReleaseKeys), witnesses: slices.Clone(p.Witnesses), roots: map[int64]tlog.Hash{}}
	a.report.Head = headOf(c)
	if err := a.readCopies(); err != nil {
		return nil, err
	}
	if err := a.replay(ctx, fetch, c); err != nil {
		return nil, err
	}
	if err := a.ownCopies(); err != nil {
		return nil, err
	}
	opened, err := checkpoint.Open(signed, a.log, a.witnesses)
	if err != nil {
		return nil, err
	}
	a.witnessed(opened)
	a.compare()
	a.inUse()
	return &a.report, nil
}

// auditor carries one replay.
type auditor struct {
	policy Policy
	// log is the log's key in use; logs are those that it had, too.
	log       checkpoint.Key
	logs      []checkpoint.Key
	keys      []crypto.PublicKey
	witnesses []checkpoint.Key
	// roots are those of the sizes that were seen before.
	roots  map[int64]tlog.Hash
	epoch  uint64
	report Report
}

func (a *auditor) find(problem Problem, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Problem: problem, Reason: fmt.Sprintf(format, args...)})
}

func (a *auditor) replay(ctx context.Context, fetch logtiles.Fetch, c checkpoint.Checkpoint) error {
	var tree logtiles.Tree
	a.note(&tree)
	for record, err := range logtiles.Entries(ctx, fetch, 0, c.Size) {
		if err != nil {
			return err
		}
		a.entry(record, tree.Size())
		tree.Add(record)
		a.note(&tree)
	}
	if tree.Root() != c.Root {
		return fmt.Errorf("%w: the entries that %s serves do not make the root that it signed at size %d", attest.ErrTransparency, c.Origin, c.Size)
	}
	return nil
}

// note keeps the root of a size that was seen before.
func (a *auditor) note(tree *logtiles.Tree) {
	for _, seen := range a.policy.Seen {
		if seen.Size == tree.Size() {
			a.roots[seen.Size] = tree.Root()
		}
	}
}

func (a *auditor) entry(record []byte, index int64) {
	e, err := logentry.Parse(record)
	if err != nil {
		a.find(Foreign, "index %d: %v", index, err)
		return
	}
	if err := a.signed(e); err != nil {
		a.find(Foreign, "index %d: %v", index, err)
		return
	}
	switch e.Body.Kind {
	case logentry.KindRelease:
		a.release(*e.Body.Release, index)
	case logentry.KindWithdrawal:
		a.withdraw(e.Body.Withdrawal, index)
	case logentry.KindRotation:
		a.rotate(e.Body.Rotation, index)
	case logentry.KindAuditHead:
		a.report.AuditHeads = append(a.report.AuditHeads, auditlog.Logged{Index: index, Entry: e})
	}
}

var errForeign = errors.New("it is signed by no accepted key")

// signed checks an entry with the keys in use at its place in the log. Audit
// heads are the control plane's word, whose key is no auditor's to know.
func (a *auditor) signed(e *logentry.Entry) error {
	switch {
	case e.Body.Kind == logentry.KindAuditHead:
		return nil
	case e.Body.Rotation != nil:
		return e.VerifyRotation()
	}
	for _, key := range a.keys {
		if e.Verify(key) == nil {
			return nil
		}
	}
	return errForeign
}

func (a *auditor) release(r logentry.Release, index int64) {
	if r.Epoch < a.epoch {
		a.find(Rollback, "index %d: release %s has epoch %d, after one with %d", index, r.Manifest, r.Epoch, a.epoch)
	}
	a.epoch = max(a.epoch, r.Epoch)
	a.report.Releases = append(a.report.Releases, Release{Release: r, Index: index})
}

func (a *auditor) withdraw(w *logentry.Withdrawal, index int64) {
	n := a.logged(w.Manifest)
	if n < 0 {
		a.find(Foreign, "index %d: release %s is withdrawn and was never logged", index, w.Manifest)
		return
	}
	a.report.Releases[n].Withdrawn = true
}

func (a *auditor) logged(d attest.ReleaseDigest) int {
	return slices.IndexFunc(a.report.Releases, func(r Release) bool { return r.Manifest == d })
}

func (a *auditor) witnessed(s *checkpoint.Signed) {
	fresh := 0
	for _, c := range s.Cosignatures {
		// One from the future would be fresh for as long as it is ahead.
		if a.policy.Now.Sub(c.At).Abs() <= a.policy.MaxAge {
			fresh++
		}
	}
	if fresh < a.policy.Quorum {
		a.find(Unwitnessed, "%d of %d witnesses have cosigned size %d within %s of now, want %d",
			fresh, len(a.witnesses), s.Size, a.policy.MaxAge, a.policy.Quorum)
	}
}

// compare holds the replay against every head that was seen.
func (a *auditor) compare() {
	before := len(a.report.Findings)
	defer func() { a.report.Fits = len(a.report.Findings) == before }()
	for _, seen := range a.policy.Seen {
		root, replayed := a.roots[seen.Size]
		switch {
		case seen.Origin != a.report.Head.Origin:
			a.find(Fork, "a head of %s was given for one of %s", seen.Origin, a.report.Head.Origin)
		case !replayed:
			a.find(Rollback, "the log has size %d, and had %d", a.report.Head.Size, seen.Size)
		case attest.Digest(root) != seen.Root:
			a.find(Fork, "at size %d the log has root %s, and had %s", seen.Size, attest.Digest(root), seen.Root)
		}
	}
}

func (a *auditor) inUse() {
	for _, digest := range a.policy.InUse {
		switch n := a.logged(digest); {
		case n < 0:
			a.find(Unlogged, "release %s is in use and does not stand in the log", digest)
		case a.report.Releases[n].Withdrawn:
			a.find(Withdrawn, "release %s is in use and was withdrawn", digest)
		case !a.states(digest):
			a.find(Unlogged, "release %s is in use, and the log says another version, epoch or architecture of it", digest)
		}
	}
}

// states reports whether some entry says of a release what it has to: no client
// takes another for its proof.
func (a *auditor) states(digest attest.ReleaseDigest) bool {
	want, known := a.policy.Stated[digest]
	return !known || slices.ContainsFunc(a.report.Releases, func(r Release) bool { return r.Release == want })
}
