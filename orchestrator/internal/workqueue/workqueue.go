// Package workqueue hands out keys to look at, one worker to a key.
//
// Invariants: a key is looked at by one worker at a time, and a key that was
// added during its look is looked at once more after it; adding a key that is
// in line already changes nothing but its place; what is urgent goes before
// what is not; a key that is due later costs one timer and nothing else.
package workqueue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest/backoff"
)

// Never is the answer of a look that needs no other.
const Never time.Duration = -1

const (
	retryFirst = time.Second
	retryMax   = 30 * time.Second
)

// ErrPanic is wrapped by the error of a look that panicked.
var ErrPanic = errors.New("panic")

// Look is what a worker does with a key. It answers after how long the key
// wants to be looked at again, or Never; after an error it is looked at again
// in any case, after a pause that grows.
type Look[K comparable] func(context.Context, K) (again time.Duration, err error)

// lane is where a key stands in line.
type lane int

const (
	none lane = iota
	ordinary
	urgent
)

// entry is a key that is in line, under a look or due later.
type entry struct {
	lane     lane
	running  bool
	failures int
	// timer adds the key when it is due; nil where it is not due later.
	timer *time.Timer
}

// Queue is a line of keys. The zero value is not ready: use New.
type Queue[K comparable] struct {
	mu sync.Mutex
	// mu guards all of these. A key that has moved to another lane leaves its
	// old place in lines, which is skipped.
	entries map[K]*entry
	lines   [urgent + 1][]K
	// added wakes workers, and addedUrgent those that are kept for what is
	// urgent, of which so many wait.
	added, addedUrgent *sync.Cond
	reserveWaits       int
}

// New makes an empty queue.
func New[K comparable]() *Queue[K] {
	q := &Queue[K]{entries: make(map[K]*entry)}
	q.added, q.addedUrgent = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	return q
}

// Add puts keys at the end of the line.
func (q *Queue[K]) Add(keys ...K) { q.add(ordinary, keys) }

// Urge puts keys before all that were only added.
func (q *Queue[K]) Urge(keys ...K) { q.add(urgent, keys) }

func (q *Queue[K]) add(l lane, keys []K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range keys {
		q.put(k, l)
	}
}

// put is called with q.mu held.
func (q *Queue[K]) put(k K, l lane) {
	e := q.entries[k]
	if e == nil {
		e = &entry{}
		q.entries[k] = e
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if e.lane >= l {
		return
	}
	e.lane = l
	if !e.running {
		q.push(k, l)
	}
}

func (q *Queue[K]) push(k K, l lane) {
	q.lines[l] = append(q.lines[l], k)
	if l == urgent && q.reserveWaits > 0 {
		q.reserveWaits--
		q.addedUrgent.Signal()
		return
	}
	q.added.Signal()
}

// Work looks at keys with so many workers until ctx ends, and returns when the
// last look has. A quarter of the workers is kept for what is urgent. A look
// under way then has patience to end by itself before its context is
// cancelled.
func (q *Queue[K]) Work(ctx context.Context, workers int, patience time.Duration, look Look[K]) {
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		q.added.Broadcast()
		q.addedUrgent.Broadcast()
		q.mu.Unlock()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-within.Done():
		}
	})
	defer stop()
	var all sync.WaitGroup
	for n := range workers {
		reserve := n < workers/4
		all.Go(func() {
			for {
				k, ok := q.take(ctx, reserve)
				if !ok {
					return
				}
				again, err := guarded(within, k, look)
				q.done(k, again, err)
			}
		})
	}
	all.Wait()
}

// guarded makes a panic an error: one bad key must not end the others' looks.
func guarded[K comparable](ctx context.Context, k K, look Look[K]) (again time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
		}
	}()
	return look(ctx, k)
}

// take waits for a key, which is urgent where reserve is set; ok is false once
// ctx has ended.
func (q *Queue[K]) take(ctx context.Context, reserve bool) (k K, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return k, false
		}
		if k, ok = q.pop(urgent); ok {
			return k, true
		}
		if reserve {
			q.reserveWaits++
			q.addedUrgent.Wait()
			continue
		}
		if k, ok = q.pop(ordinary); ok {
			return k, true
		}
		q.added.Wait()
	}
}

func (q *Queue[K]) pop(l lane) (k K, ok bool) {
	for len(q.lines[l]) > 0 {
		k, q.lines[l] = q.lines[l][0], q.lines[l][1:]
		if e := q.entries[k]; e != nil && e.lane == l && !e.running {
			e.lane, e.running = none, true
			return k, true
		}
	}
	q.lines[l] = nil
	return k, false
}

func (q *Queue[K]) done(k K, again time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[k]
	e.running = false
	if err != nil {
		e.failures++
		again = backoff.Pause(e.failures, retryFirst, retryMax)
	} else {
		e.failures = 0
	}
	switch {
	case e.lane != none:
		q.push(k, e.lane)
	case again == 0:
		q.put(k, ordinary)
	case again > 0:
		q.later(k, e, again)
	default:
		delete(q.entries, k)
	}
}

func (q *Queue[K]) later(k K, e *entry, in time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(in, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		// One that could not be stopped in time has nothing to do any more.
		if e.timer == timer {
			q.put(k, ordinary)
		}
	})
	e.timer = timer
}
