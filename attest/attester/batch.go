package attester

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// queue gathers those who ask while a quote is under way: the next quote
// answers all of them (design promise 8).
type queue struct {
	// mu guards next and quoting.
	mu sync.Mutex
	// next is the batch that is being gathered; nil where nobody waits.
	next *batch
	// quoting says that a quote is under way, after which next has its turn.
	quoting bool
}

// batch is the leaves that one quote answers, and then its answer.
type batch struct {
	leaves []attest.Digest
	// answered is closed once what follows is set.
	answered chan struct{}
	tree     evidence.Tree
	tpm      evidence.TPM
	reports  []evidence.Report
	err      error
}

// maxLeaves bounds a batch as the depth of its paths is bounded.
const maxLeaves = 1 << evidence.MaxPath

// errFull says that more ask at once than one tree holds.
var errFull = errors.New("too many ask for evidence at once")

// Evidence quotes the registers for one nonce on one connection, together with
// all who ask meanwhile. It waits for the quote that is under way and its own.
// Errors are the TPM's and the reporters'.
func (t *TPM) Evidence(s Subject) ([]byte, error) {
	if s.Endorsements == nil {
		s.Endorsements = t.endorsements
	}
	b, index, err := t.join(s.Channel.Leaf(s.Nonce, s.Config, s.Claim))
	if err != nil {
		return nil, err
	}
	<-b.answered
	if b.err != nil {
		return nil, b.err
	}
	e := evidence.Evidence{
		Version: evidence.Version, Binding: evidence.BindingExporter, Role: s.Channel.Role,
		Nonce: s.Nonce, SPKI: s.Channel.SPKI, Config: s.Config, Claim: s.Claim,
		TPM: b.tpm, Batch: b.tree.Place(index), Reports: b.reports,
		ReferenceValues: s.ReferenceValues, EventLog: t.EventLog, Endorsements: s.Endorsements,
	}
	return e.Encode()
}

// join adds a leaf to the batch that is being gathered, and sees to it that
// somebody answers it.
func (t *TPM) join(leaf attest.Digest) (*batch, uint32, error) {
	q := &t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = &batch{answered: make(chan struct{})}
	}
	index := len(q.next.leaves)
	if index == maxLeaves {
		return nil, 0, errFull
	}
	q.next.leaves = append(q.next.leaves, leaf)
	if !q.quoting {
		q.quoting = true
		go t.answer()
	}
	return q.next, uint32(index), nil
}

// answer quotes batch after batch until nobody waits.
func (t *TPM) answer() {
	for {
		b := t.queue.take()
		if b == nil {
			return
		}
		b.tree = evidence.NewTree(b.leaves)
		b.err = t.Do(func(device transport.TPM) error { return t.sign(device, b) })
		close(b.answered)
	}
}

// take is the next batch; with none, the next who asks begins anew.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.next
	q.next = nil
	q.quoting = b != nil
	return b
}

// sign has the reports name the batch and the attestation key, and the quote
// name the reports.
func (t *TPM) sign(device transport.TPM, b *batch) error {
	data := attest.ReportData(t.AKName(), b.tree.Count(), b.tree.Root())
	for _, r := range t.Reporters {
		report, err := r.Report(data)
		if err != nil {
			return fmt.Errorf("asking for a hardware report: %w", err)
		}
		b.reports = append(b.reports, report)
	}
	values, err := readRegisters(device, tpm.Selection[:])
	if err != nil {
		return err
	}
	named := (&evidence.Evidence{Reports: b.reports}).ReportsDigest()
	b.tpm = evidence.TPM{AKPublic: t.akPublic, Registers: values}
	b.tpm.Quote, b.tpm.Signature, err = t.quote(device, attest.QuoteData(b.tree.Count(), b.tree.Root(), named))
	return err
}
