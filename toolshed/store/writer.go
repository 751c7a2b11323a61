package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// maxBatch bounds how many transactions share a commit, and so how long the
// first of them waits (docs/decisions/0041).
const maxBatch = 128

// writer runs transactions one after another on the one connection that
// writes, each in its caller's goroutine. Who finds others waiting leaves the
// commit to the last of them.
type writer struct {
	conn *conn
	room *room
	// log is the file of the write-ahead log.
	log string

	// turn is held by whoever uses conn, open and unsynced.
	turn chan struct{}
	// waiting counts those who want the turn; each of them takes it.
	waiting atomic.Int32
	// open is the batch that has begun and not ended; nil for none.
	open *batch
	// unsynced says that a commit on conn does not sync the disk.
	unsynced bool
}

// batch is the transactions that share one commit.
type batch struct {
	size int
	// synced is whether its commit syncs the disk.
	synced bool
	// done is closed once the batch is on the disk or, with err, never will be.
	done chan struct{}
	err  error
}

func newWriter(c *conn, r *room, log string) *writer {
	return &writer{conn: c, room: r, log: log, turn: make(chan struct{}, 1)}
}

// update runs f in a shared commit, or alone where the disk has too little room
// for that.
func (w *writer) update(ctx context.Context, f func(*Tx) error, grows, synced bool) error {
	err := w.shared(ctx, f, synced)
	if isFull(err) {
		err = w.alone(f, grows)
	}
	return err
}

func (w *writer) shared(ctx context.Context, f func(*Tx) error, synced bool) error {
	b, err := w.enter(ctx, f, synced)
	if b != nil {
		// For one that failed too: its failure may follow from what others did.
		<-b.done
	}
	if err == nil {
		err = b.err
	}
	return err
}

// enter runs f in its turn and answers the batch that it saw, if any.
func (w *writer) enter(ctx context.Context, f func(*Tx) error, synced bool) (*batch, error) {
	w.take()
	defer w.pass()
	before := w.open
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("beginning a transaction: %w", err)
	}
	if ample, err := w.room.likelyAmple(w.log); err != nil {
		return nil, err
	} else if !ample {
		return nil, ErrFull
	}
	if before != nil && synced && !before.synced {
		w.end()
		before = nil
	}
	if err := w.join(f, synced); err != nil {
		return before, err
	}
	return w.open, nil
}

func (w *writer) take() {
	w.waiting.Add(1)
	w.turn <- struct{}{}
	w.waiting.Add(-1)
}

// pass commits unless somebody waits who will, and gives up the turn.
func (w *writer) pass() {
	if w.open != nil && (w.waiting.Load() == 0 || w.open.size >= maxBatch) {
		w.end()
	}
	<-w.turn
}

// end commits the open batch.
func (w *writer) end() {
	if err := w.conn.exec("COMMIT"); err != nil {
		w.abandon(fmt.Errorf("committing: %w", err))
		return
	}
	close(w.open.done)
	w.open = nil
}

// abandon ends a batch of which nothing holds. SQLite may have ended its
// transaction already.
func (w *writer) abandon(err error) {
	_ = w.conn.exec("ROLLBACK")
	w.open.err = err
	close(w.open.done)
	w.open = nil
}

// join makes f a part of the open batch, beginning one where there is none.
// What fails or panics leaves nothing.
func (w *writer) join(f func(*Tx) error, synced bool) (err error) {
	if w.open == nil {
		if err := w.sync(synced); err != nil {
			return err
		}
		if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
			return fmt.Errorf("beginning a transaction: %w", err)
		}
		w.open = &batch{done: make(chan struct{}), synced: synced}
	}
	// The first has nothing before it to keep.
	first := w.open.size == 0
	if !first {
		if err := w.conn.exec("SAVEPOINT part"); err != nil {
			return w.lose(err)
		}
	}
	whole := false
	defer func() {
		if !whole {
			err = errors.Join(err, w.undo(first))
		}
	}()
	if err := f(&Tx{conn: w.conn, ctx: context.Background()}); err != nil {
		return err
	}
	if !first {
		if err := w.conn.exec("RELEASE part"); err != nil {
			return err
		}
	}
	whole = true
	w.open.size++
	return nil
}

// sync has the commits that follow sync the disk, or not. No transaction may be
// open. SQLite obeys when it reads the statement, so it is not kept prepared.
func (w *writer) sync(synced bool) error {
	if synced == !w.unsynced {
		return nil
	}
	mode := "PRAGMA synchronous = FULL"
	if !synced {
		mode = "PRAGMA synchronous = NORMAL"
	}
	if _, err := w.conn.raw.ExecContext(context.Background(), mode); err != nil {
		return fmt.Errorf("choosing when the disk is synced: %w", err)
	}
	w.unsynced = !synced
	return nil
}

// undo takes the last part back and leaves those before it, unless SQLite has
// ended the whole transaction, as it may for want of room.
func (w *writer) undo(first bool) error {
	if first {
		w.abandon(nil)
		return nil
	}
	if err := errors.Join(w.conn.exec("ROLLBACK TO part"), w.conn.exec("RELEASE part")); err != nil {
		return w.lose(err)
	}
	return nil
}

func (w *writer) lose(err error) error {
	err = fmt.Errorf("a transaction in the same commit failed: %w", err)
	w.abandon(err)
	return err
}

// alone runs f on a full disk, in the room that is kept: the log is emptied,
// the change made, the log emptied again. What would leave less than the kept
// room is ErrFull; what fits into the pages that deleting left free passes.
func (w *writer) alone(f func(*Tx) error, grows bool) error {
	w.take()
	defer w.pass()
	if w.open != nil {
		w.end()
	}
	if err := w.sync(true); err != nil {
		return err
	}
	return w.room.lend(func() error {
		checkpoint(w.conn)
		free, err := w.room.space()
		if err != nil {
			return err
		}
		err = transact(w.conn, func(t *Tx) error { return withinRoom(t, f, free, grows) })
		if isFull(err) {
			return fmt.Errorf("%w: %d bytes are left, of which %d are kept for deleting", ErrFull, free, keptBytes)
		}
		if err == nil {
			checkpoint(w.conn)
		}
		return err
	})
}

func withinRoom(t *Tx, f func(*Tx) error, free int64, grows bool) error {
	before, err := size(t)
	if err != nil {
		return err
	}
	if err := f(t); err != nil || !grows {
		return err
	}
	after, err := size(t)
	if err == nil && after > before && free-(after-before) < keptBytes {
		err = ErrFull
	}
	return err
}

func size(t *Tx) (bytes int64, err error) {
	err = t.QueryRow("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").Scan(&bytes)
	return bytes, err
}
