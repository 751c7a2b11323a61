package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Consumer works on a queue inside this program.
type Consumer struct {
	Queue string
	// Parallel bounds the deliveries at once.
	Parallel int
	// Lease is how long a delivery outlives this process; while it runs, the
	// lease is extended.
	Lease time.Duration
	// Handle does the work. An error has the message tried again. Its context
	// ends with the consumer's, and when the lease was lost.
	Handle func(ctx context.Context, m Message) error
}

// ackWithin is how long an acknowledgement may wait for a commit that is made
// anyway.
const ackWithin = 250 * time.Millisecond

// Consume works until ctx ends, and returns once what is under way has ended:
// Handle has to heed its context. Failures of the store end it.
func (q *Queue) Consume(ctx context.Context, c Consumer) error {
	if err := checkReceive(c.Queue, c.Parallel, c.Lease); err != nil {
		return err
	}
	changed, leave := q.waiters.join(c.Queue)
	defer leave()
	w := &working{q: q, c: c, done: make(chan outcome, c.Parallel), running: map[int64]*delivery{}}
	err := w.loop(ctx, changed)
	return errors.Join(err, w.end())
}

// delivery is one message that is worked on.
type delivery struct {
	receipt string
	stop    context.CancelFunc
}

// working is a consumer at work.
type working struct {
	q       *Queue
	c       Consumer
	done    chan outcome
	running map[int64]*delivery
	// finished wait for a commit.
	finished []outcome
}

func (w *working) loop(ctx context.Context, changed <-chan struct{}) error {
	beat := time.NewTicker(w.c.Lease / 3)
	defer beat.Stop()
	flush := time.NewTimer(ackWithin)
	defer flush.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		claim := false
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			claim = true
		case <-due.C:
			claim = true
		case <-flush.C:
			claim = len(w.finished) > 0
		case <-beat.C:
			if err := w.extend(ctx); err != nil {
				return w.unlessOver(err)
			}
		case o := <-w.done:
			claim = w.ended(o)
			flush.Reset(ackWithin)
		}
		if !claim || len(w.running) == w.c.Parallel {
			continue
		}
		next, err := w.claim(ctx)
		if err != nil {
			return w.unlessOver(err)
		}
		if !next.IsZero() {
			due.Reset(w.q.until(next))
		}
	}
}

// claim tells what has finished, starts what there is room for, and answers when
// there may be more.
func (w *working) claim(ctx context.Context) (next time.Time, err error) {
	claimed, next, err := w.q.step(ctx, w.c.Queue, w.finished, w.c.Parallel-len(w.running), w.c.Lease)
	if err != nil {
		return next, err
	}
	w.finished = nil
	for _, m := range claimed {
		w.start(ctx, m)
	}
	return next, nil
}

// unlessOver is why it ends, unless it is because its context did.
func (w *working) unlessOver(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("consuming %s: %w", w.c.Queue, err)
}

func (w *working) start(ctx context.Context, m Message) {
	ctx, stop := context.WithCancel(ctx)
	w.running[m.ID] = &delivery{receipt: m.Receipt, stop: stop}
	go func() {
		w.done <- outcome{id: m.ID, receipt: m.Receipt, err: handle(ctx, w.c, m), delay: -1}
	}()
}

// handle turns a panic into a failure: one message must not end the others.
func handle(ctx context.Context, c Consumer, m Message) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the consumer panicked")
		}
	}()
	return c.Handle(ctx, m)
}

// ended notes an outcome, and reports whether somebody waits for its place.
func (w *working) ended(o outcome) bool {
	full := len(w.running) == w.c.Parallel
	w.running[o.id].stop()
	delete(w.running, o.id)
	w.finished = append(w.finished, o)
	return full || len(w.finished) >= MaxReceive
}

// extend keeps the leases of what is under way, and stops what lost its own.
func (w *working) extend(ctx context.Context) error {
	for id, d := range w.running {
		_, err := w.q.Extend(ctx, w.c.Queue, id, d.receipt, w.c.Lease)
		if errors.Is(err, ErrLost) {
			d.stop()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end waits for what is under way, and tells what became of it.
func (w *working) end() error {
	for _, d := range w.running {
		d.stop()
	}
	for len(w.running) > 0 {
		w.ended(<-w.done)
	}
	if len(w.finished) == 0 {
		return nil
	}
	_, _, err := w.q.step(context.Background(), w.c.Queue, w.finished, 0, w.c.Lease)
	return err
}
