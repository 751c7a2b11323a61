package plugin

import (
	"context"
	"sync"
	"time"
)

// ticksPerPatience is how exactly calls are cut: a sixteenth late at most.
const ticksPerPatience = 16

// overdue cuts the calls that take longer than patience. It looks over all of
// them with one ticker: a timer for each call has the runtime wake the thread
// that waits for the network, on both sides of the wire, for a deadline that
// hardly ever comes.
type overdue struct {
	patience time.Duration

	mu sync.Mutex
	// mu guards calls: each one's end and since when it runs.
	calls map[*call]struct{}
}

type call struct {
	since time.Time
	cut   context.CancelCauseFunc
}

func newOverdue(patience time.Duration) *overdue {
	return &overdue{patience: patience, calls: map[*call]struct{}{}}
}

// begin answers the context of a call, whose cause is context.DeadlineExceeded
// once it is overdue. done is to be called when the call has ended.
func (o *overdue) begin(ctx context.Context) (_ context.Context, done func()) {
	ctx, cut := context.WithCancelCause(ctx)
	c := &call{time.Now(), cut}
	o.mu.Lock()
	o.calls[c] = struct{}{}
	o.mu.Unlock()
	return ctx, func() {
		o.mu.Lock()
		delete(o.calls, c)
		o.mu.Unlock()
		cut(nil)
	}
}

// run cuts calls until ctx ends.
func (o *overdue) run(ctx context.Context) {
	tick := time.NewTicker(max(o.patience/ticksPerPatience, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			o.cut()
		case <-ctx.Done():
			return
		}
	}
}

func (o *overdue) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.calls {
		if time.Since(c.since) >= o.patience {
			c.cut(context.DeadlineExceeded)
		}
	}
}
