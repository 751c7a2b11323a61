package auditlog

import (
	"crypto"
	"fmt"
	"iter"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// Problem is the kind of a finding.
type Problem string

// The problems.
const (
	// Changed is an entry that does not make the hash that is kept for it.
	Changed Problem = "changed"
	// Missing is an entry whose index is not the next: one was taken out, or
	// some stand in another order.
	Missing Problem = "missing"
	// Foreign is a result, or a head in the log, that the control plane's key
	// has not signed.
	Foreign Problem = "foreign"
	// Truncated is a chain that ends before a head of it that stands in the
	// log, or before the end that was stated.
	Truncated Problem = "truncated"
	// Fork is a head in the log that is not on the chain.
	Fork Problem = "fork"
	// Rollback is a head in the log behind one with more entries.
	Rollback Problem = "rollback"
)

// Finding is one thing that is wrong.
type Finding struct {
	Problem Problem `json:"problem"`
	Reason  string  `json:"reason"`
}

// Logged is a head as it stands in the transparency log.
type Logged struct {
	// Index is the log's.
	Index int64
	Entry *logentry.Entry
}

// Report is what an audit of a chain found.
type Report struct {
	// Head is the end of the chain as it was computed.
	Head Head `json:"head"`
	// Accepted counts the entries whose result accepts the machine.
	Accepted int `json:"accepted"`
	// Heads counts the heads of the log that were compared, and Covered the
	// entries up to the last that fits.
	Heads   int    `json:"heads"`
	Covered uint64 `json:"covered"`
	// Last is when the last entry was recorded; zero where there is none.
	Last     time.Time `json:"last,omitzero"`
	Findings []Finding `json:"findings"`
}

// Verify recomputes a chain, checks each result with the control plane's key,
// and compares the chain with the end that was stated for it and with its heads
// in the log, in the log's order. Errors are those of the records, and
// attest.ErrPolicy for a key that signs no results.
func Verify(records iter.Seq2[*Record, error], stated Head, key crypto.PublicKey, logged []Logged) (*Report, error) {
	if _, err := ear.KeyID(key); err != nil {
		return nil, err
	}
	a := &auditor{key: key, report: Report{Findings: []Finding{}}, wanted: map[uint64]attest.Digest{}}
	heads := a.readHeads(logged)
	for record, err := range records {
		if err != nil {
			return nil, err
		}
		if err := a.entry(record); err != nil {
			return nil, err
		}
	}
	if end := (Head{a.report.Head.Count, a.kept}); end != stated {
		a.find(Truncated, "the chain ends with entry %d and hash %s, and was stated to end with %d and %s",
			end.Count, end.Hash, stated.Count, stated.Hash)
	}
	a.compare(heads)
	return &a.report, nil
}

// auditor carries one audit.
type auditor struct {
	key    crypto.PublicKey
	report Report
	// kept is the hash that was kept for the last entry, from which the next
	// one's is computed: a changed entry is then found once.
	kept attest.Digest
	// wanted holds the hash at each count that a head in the log names; it is
	// zero until the chain gets there.
	wanted map[uint64]attest.Digest
}

func (a *auditor) find(problem Problem, format string, args ...any) {
	a.report.Findings = append(a.report.Findings, Finding{Problem: problem, Reason: fmt.Sprintf(format, args...)})
}

// head is one of the log's that the key has signed.
type head struct {
	index int64
	logentry.AuditHead
}

func (a *auditor) readHeads(logged []Logged) []head {
	var heads []head
	for _, l := range logged {
		if l.Entry.Body.AuditHead == nil {
			continue
		}
		if err := l.Entry.Verify(a.key); err != nil {
			a.find(Foreign, "the log's index %d: an audit head that the control plane's key has not signed", l.Index)
			continue
		}
		heads = append(heads, head{l.Index, *l.Entry.Body.AuditHead})
		a.wanted[l.Entry.Body.AuditHead.Count] = attest.Digest{}
	}
	return heads
}

// entry takes the next record. What is wrong with it is a finding; the error is
// attest.ErrMalformed for one that is no record at all.
func (a *auditor) entry(r *Record) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.Index != a.report.Head.Count {
		a.find(Missing, "entry %d stands where entry %d has to", r.Index, a.report.Head.Count)
	}
	hash, err := r.hash(a.kept)
	if err != nil {
		return err
	}
	if hash != r.Hash {
		a.find(Changed, "entry %d of instance %s makes hash %s with those before it, and %s is kept", r.Index, r.Instance, hash, r.Hash)
	}
	a.result(r)
	a.kept = r.Hash
	a.report.Head = Head{Count: a.report.Head.Count + 1, Hash: hash}
	a.report.Last = r.Time()
	if _, ok := a.wanted[a.report.Head.Count]; ok {
		a.wanted[a.report.Head.Count] = hash
	}
	return nil
}

func (a *auditor) result(r *Record) {
	claims, err := ear.Verify(r.EAR, a.key, ear.ControlPlane)
	switch {
	case err != nil:
		a.find(Foreign, "entry %d of instance %s: %v", r.Index, r.Instance, err)
	case !claims.Time().Equal(r.Time().Truncate(time.Second)):
		a.find(Changed, "entry %d of instance %s was recorded at %s and issued at %s",
			r.Index, r.Instance, r.Time().Format(time.RFC3339), claims.Time().Format(time.RFC3339))
	case claims.Submods.Machine.Shed.Accepted:
		a.report.Accepted++
	}
}

// compare holds the heads that stand in the log against the chain.
func (a *auditor) compare(heads []head) {
	var most uint64
	for _, h := range heads {
		a.report.Heads++
		if h.Count < most {
			a.find(Rollback, "the log's index %d has a head of %d entries, behind one of %d", h.index, h.Count, most)
		}
		most = max(most, h.Count)
		switch {
		case h.Count > a.report.Head.Count:
			a.find(Truncated, "the log's index %d has a head of %d entries, and the chain ends after %d", h.index, h.Count, a.report.Head.Count)
		case a.wanted[h.Count] != h.Head:
			a.find(Fork, "the log's index %d has head %s at %d entries, and the chain has %s", h.index, h.Head, h.Count, a.wanted[h.Count])
		default:
			a.report.Covered = max(a.report.Covered, h.Count)
		}
	}
}
