package translog

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// Document is what a machine of a release shows of the log: the release under
// the latest head, the rotations that a client may not know of, and the
// withdrawals. Errors are orchestrator.ErrNotFound for a release that does not
// stand in what is shown of the log, and the disk's.
func (l *Log) Document(ctx context.Context, digest attest.ReleaseDigest) ([]byte, error) {
	if made := l.made(digest); made != nil {
		return made, nil
	}
	h, index, beside, ok := l.wanted(digest)
	if !ok {
		return nil, fmt.Errorf("release %s in the log: %w", digest, orchestrator.ErrNotFound)
	}
	b, err := l.document(ctx, h, index, beside)
	if err == nil {
		l.remember(h, digest, b)
	}
	return b, err
}

// made is a document that was made under the head that is shown: all machines
// of a release get the same.
func (l *Log) made(digest attest.ReleaseDigest) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.documents[digest]
}

func (l *Log) remember(h head, digest attest.ReleaseDigest, document []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.changed == l.head.changed {
		l.documents[digest] = document
	}
}

func (l *Log) document(ctx context.Context, h head, index int64, beside []int64) ([]byte, error) {
	hashes := logtiles.Hashes(ctx, l.fetch, h.Checkpoint)
	first, err := l.proof(ctx, hashes, h, index)
	if err != nil {
		return nil, err
	}
	d := logproof.Document{Release: first}
	for _, n := range beside {
		p, err := l.proof(ctx, hashes, h, n)
		if err != nil {
			return nil, err
		}
		d.Beside = append(d.Beside, p)
	}
	return d.Encode()
}

// wanted are the head that is shown and what to prove under it. Where not all
// fits, the release's own withdrawal goes first, then rotations, then the
// latest of the other withdrawals.
func (l *Log) wanted(digest attest.ReleaseDigest) (h head, index int64, beside []int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h = l.head
	index, ok = l.known.releases[digest]
	if !ok || index >= h.Size {
		return h, 0, nil, false
	}
	var all []int64
	if own, withdrawn := l.known.withdrawn[digest]; withdrawn {
		all = append(all, own.index)
	}
	all = append(all, l.known.rotations...)
	for _, n := range slices.Backward(l.known.withdrawals) {
		all = append(all, n)
	}
	for _, n := range all {
		if len(beside) < logproof.MaxBeside && n < h.Size && !slices.Contains(beside, n) {
			beside = append(beside, n)
		}
	}
	slices.Sort(beside)
	return h, index, beside, true
}

func (l *Log) proof(ctx context.Context, hashes tlog.HashReader, h head, index int64) ([]byte, error) {
	record, err := l.record(ctx, h.Checkpoint, index)
	if err != nil {
		return nil, err
	}
	path, err := tlog.ProveRecord(h.Size, index, hashes)
	if err != nil {
		return nil, fmt.Errorf("proving index %d of the log: %w", index, err)
	}
	p := logproof.Proof{Record: record, Index: index, Path: path, Checkpoint: h.signed}
	return p.Encode(), nil
}

func (l *Log) record(ctx context.Context, c checkpoint.Checkpoint, index int64) ([]byte, error) {
	for record, err := range logtiles.Entries(ctx, l.fetch, index, c.Size) {
		return record, err
	}
	return nil, fmt.Errorf("index %d of the log: %w", index, orchestrator.ErrNotFound)
}

// Withdrawn says that the withdrawal of a release stands in the log, shown or not.
func (l *Log) Withdrawn(digest attest.ReleaseDigest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, withdrawn := l.known.withdrawn[digest]
	return withdrawn
}

// Status is what an operator sees of the log.
type Status struct {
	Key checkpoint.Key
	// Size is that of the head that is shown.
	Size      int64
	Witnesses int
	Quorum    int
}

// Status is the log's as it stands.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{Key: l.Keys[0].Key, Size: l.head.Size, Witnesses: len(l.Witnesses), Quorum: l.Quorum}
}
