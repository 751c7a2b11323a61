package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/queue"
)

const (
	// perSecond messages may take shareAtMost of one core, in percent, where
	// they come burst at a time, as from so many programs.
	perSecond   = 100
	burst       = 10
	shareAtMost = 2.0
	// queueTurns of queueTurn each, in turn with the floor.
	queueTurns = 4
	queueTurn  = 3 * time.Second
)

// queueShare measures the share of one core, in percent, that 100 messages a
// second take from being taken in until they are acknowledged, beside the share
// of as many rows that SQLite alone inserts and deletes, each in a transaction.
// The smaller the better. Each message is on the disk when its program is
// answered: those that come at once share a commit. One at a time, syncing the
// disk a hundred times a second takes more than the bound by itself: that is
// shown, and has no bound.
func queueShare(dir string) (one measured, err error) {
	f, err := openFloor(dir)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, f.db.Close()) }()
	db, closing, err := openStore(dir, queue.Schema)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	q := queue.New(db, time.Now, rand.Reader)
	for _, size := range []int{1, burst} {
		r, err := queueRatio(f, q, size)
		if err != nil {
			return one, err
		}
		fmt.Printf("queue, %d messages/s, %2d at once: %5.2f %% of one core, SQLite alone %.2f %% for an insert and a delete each, %.2f times as much\n",
			perSecond, size, r.Value, r.Floor, r.Ratio)
		one = measured{name: "queue", ratio: r, held: r.Value <= shareAtMost}
	}
	fmt.Printf("queue: value and floor are percent of one core, %d at once; at most %.0f\n", burst, shareAtMost)
	least, err := takenIn(f, q)
	one.held = one.held && least >= kvAtLeast
	return one, err
}

// takenIn is the least ratio of messages that are taken in to rows that SQLite
// alone writes, by one client and by 64: each is on the disk when it is answered.
func takenIn(f *floor, q *queue.Queue) (least float64, err error) {
	ours := func(int64) error {
		_, _, err := q.Enqueue(context.Background(), queue.Job{Queue: "written", Body: value})
		return err
	}
	for _, clients := range []int{1, 64} {
		r, err := compare(clients, ours, func(n int64) error { return f.write(name(n)) })
		if err != nil {
			return 0, err
		}
		fmt.Printf("queue, %2d clients: %8.0f messages taken in/s, SQLite alone %8.0f rows, %.2f times as many (at least %.1f)\n",
			clients, r.Value, r.Floor, r.Ratio, kvAtLeast)
		if least == 0 || r.Ratio < least {
			least = r.Ratio
		}
	}
	return least, nil
}

func queueRatio(f *floor, q *queue.Queue, size int) (r ratio, err error) {
	for range queueTurns {
		theirs, err := share(size, func(n int64) error { return errors.Join(f.write(name(n)), f.remove(name(n))) })
		if err != nil {
			return r, fmt.Errorf("SQLite: %w", err)
		}
		ours, err := consumed(q, size)
		if err != nil {
			return r, fmt.Errorf("the queue: %w", err)
		}
		r.Floor += theirs / queueTurns
		r.Value += ours / queueTurns
	}
	r.Ratio = r.Value / r.Floor
	return r, nil
}

// consumed is the share of a turn in which a consumer of this program gets what
// is taken in.
func consumed(q *queue.Queue, size int) (float64, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var taken, done atomic.Int64
	ended := make(chan error, 1)
	go func() {
		ended <- q.Consume(ctx, queue.Consumer{Queue: "bench", Parallel: 2 * burst, Lease: time.Minute, Handle: func(context.Context, queue.Message) error {
			done.Add(1)
			return nil
		}})
	}()
	percent, err := share(size, func(int64) error {
		taken.Add(1)
		_, _, err := q.Enqueue(ctx, queue.Job{Queue: "bench", Body: value})
		return err
	})
	cancel()
	if err = errors.Join(err, <-ended); err != nil {
		return 0, err
	}
	// The last may still have been on their way.
	if taken.Load()-done.Load() > int64(size) {
		return 0, fmt.Errorf("of %d messages %d were worked on", taken.Load(), done.Load())
	}
	return percent, nil
}

// share is what percentage of one core this process takes while it does
// something perSecond times a second, so many of them at once.
func share(size int, do func(n int64) error) (float64, error) {
	tick := time.NewTicker(time.Duration(size) * time.Second / perSecond)
	defer tick.Stop()
	began := time.Now()
	before, err := cpu()
	if err != nil {
		return 0, err
	}
	failed := make([]error, size)
	for n := int64(0); n < int64(queueTurn.Seconds()*perSecond); n += int64(size) {
		<-tick.C
		var all sync.WaitGroup
		for i := range size {
			all.Go(func() { failed[i] = do(n + int64(i)) })
		}
		all.Wait()
		if err := errors.Join(failed...); err != nil {
			return 0, err
		}
	}
	after, err := cpu()
	if err != nil {
		return 0, err
	}
	return 100 * float64(after-before) / float64(time.Since(began)), nil
}

// cpu is the time that this process has had.
func cpu() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("reading the time used: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
