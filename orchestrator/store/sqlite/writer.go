package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// maxBatch bounds how many transactions share a commit, and with that how long
// the first of them waits for it.
const maxBatch = 128

// writer runs transactions one after another on the one connection that
// writes. Whoever has its turn runs in the caller's goroutine; where others
// wait for theirs, the commit is left to the last of them, so that one sync of
// the disk holds them all.
type writer struct {
	conn  *conn
	salt  []byte
	count *commits
	// committed is told what the transactions of a commit enqueued.
	committed func(hints []orchestrator.InstanceID)

	// forgotten tells when old receipts were forgotten last. Whoever has the
	// turn uses it.
	forgotten hourly

	// turn is held by whoever uses conn and open.
	turn chan struct{}
	// waiting counts those who want the turn. Each of them takes it.
	waiting atomic.Int32
	// open is the batch whose transaction has begun and not ended; nil for none.
	open *batch
}

// batch is the transactions that share one commit.
type batch struct {
	size  int
	hints []orchestrator.InstanceID
	// done is closed once the batch is on the disk or, with err, never will be.
	done chan struct{}
	err  error
}

func newWriter(c *conn, committed func([]orchestrator.InstanceID)) *writer {
	return &writer{conn: c, committed: committed, turn: make(chan struct{}, 1)}
}

// update runs f and returns when what it did is on the disk.
func (w *writer) update(ctx context.Context, f func(*tx) error) error {
	b, err := w.take(ctx, f)
	if b != nil {
		<-b.done
	}
	if err != nil {
		return err
	}
	return b.err
}

// take runs f in its turn. Whatever comes of f, the turn is passed on: others
// may have left their commit to this one.
func (w *writer) take(ctx context.Context, f func(*tx) error) (*batch, error) {
	w.waiting.Add(1)
	w.turn <- struct{}{}
	w.waiting.Add(-1)
	defer w.pass()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	before := w.open
	b, err := w.join(f)
	if err != nil {
		// Its failure may follow from what is in the same commit.
		return before, err
	}
	return b, nil
}

// pass commits unless somebody waits who will, and gives up the turn.
func (w *writer) pass() {
	if b := w.open; b != nil && (w.waiting.Load() == 0 || b.size >= maxBatch) {
		w.open = nil
		w.commit(b)
	}
	<-w.turn
}

func (w *writer) commit(b *batch) {
	err := w.count.next(w.conn)
	if err == nil {
		err = w.conn.exec("COMMIT")
	}
	if err != nil {
		w.abort(b, fmt.Errorf("committing: %w", translate(err)))
		return
	}
	w.count.done()
	w.committed(b.hints)
	close(b.done)
}

// abort ends a batch of which nothing holds. SQLite may have ended its
// transaction already.
func (w *writer) abort(b *batch, err error) {
	_ = w.conn.exec("ROLLBACK")
	b.err = err
	close(b.done)
}

// join makes f a part of the open batch or begins one with it.
func (w *writer) join(f func(*tx) error) (_ *batch, err error) {
	b := w.open
	if b == nil {
		return w.begin(f)
	}
	if err := w.conn.exec("SAVEPOINT part"); err != nil {
		return nil, w.fail(b, err)
	}
	t := w.tx()
	whole := false
	// In a defer so that a panic in f leaves nothing either.
	defer func() {
		if !whole {
			err = errors.Join(err, w.undo(b))
		}
	}()
	if err := f(t); err != nil {
		return nil, translate(err)
	}
	if err := w.conn.exec("RELEASE part"); err != nil {
		return nil, err
	}
	whole = true
	b.size++
	b.hints = append(b.hints, t.hints...)
	return b, nil
}

// undo takes the last part back and leaves those before it, unless SQLite has
// ended the whole transaction, as it may for want of room.
func (w *writer) undo(b *batch) error {
	if err := errors.Join(w.conn.exec("ROLLBACK TO part"), w.conn.exec("RELEASE part")); err != nil {
		return w.fail(b, err)
	}
	return nil
}

func (w *writer) fail(b *batch, err error) error {
	err = fmt.Errorf("a transaction in the same commit failed: %w", translate(err))
	w.open = nil
	w.abort(b, err)
	return err
}

// begin begins a batch. Its first transaction needs no savepoint: there is
// nothing before it to keep.
func (w *writer) begin(f func(*tx) error) (_ *batch, err error) {
	if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", translate(err))
	}
	t := w.tx()
	whole := false
	defer func() {
		if !whole {
			// SQLite may have rolled it back already.
			_ = w.conn.exec("ROLLBACK")
		}
	}()
	if err := f(t); err != nil {
		return nil, translate(err)
	}
	whole = true
	w.open = &batch{size: 1, hints: t.hints, done: make(chan struct{})}
	return w.open, nil
}

func (w *writer) tx() *tx {
	return &tx{reader: reader{conn: w.conn, salt: w.salt}, forgotten: &w.forgotten}
}
