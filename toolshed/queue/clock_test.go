package queue

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that is set forward, or a machine that slept, keeps nobody waiting
// for long: not who works on what was delayed, nor who gets what a lease held,
// nor what is scheduled.
func TestClockIsSet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		var offset atomic.Int64
		q.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		running(t, q)
		q.put(t, Job{Queue: "leased"})
		if got, err := q.Receive(t.Context(), "leased", 1, 10*time.Hour); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if _, err := q.PutCron(t.Context(), Cron{Name: "c", Spec: "0 10 * * *", Job: Job{Queue: "cron"}}); err != nil {
			t.Fatal(err)
		}
		q.put(t, Job{Queue: "delayed", DueAt: q.now().Add(10 * time.Hour)})
		ctx, cancel := context.WithCancel(t.Context())
		came := make(chan string, 3)
		var consumers sync.WaitGroup
		for _, name := range []string{"leased", "cron", "delayed"} {
			consumers.Go(func() {
				err := q.Consume(ctx, Consumer{Queue: name, Parallel: 1, Lease: 10 * time.Hour, Handle: func(context.Context, Message) error {
					came <- name
					return nil
				}})
				if err != nil {
					t.Error(err)
				}
			})
		}
		defer consumers.Wait()
		defer cancel()
		synctest.Wait()
		offset.Store(int64(11 * time.Hour))
		pass(2*time.Minute + time.Second)
		synctest.Wait()
		if len(came) != 3 {
			t.Errorf("%d of 3 came", len(came))
		}
	})
}

// A clock that is set back delivers nothing twice: a lease lasts the longer.
func TestClockIsSetBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		var offset atomic.Int64
		q.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		running(t, q)
		q.put(t, Job{})
		m, ok := q.take(t, 0)
		if !ok {
			t.Fatal("there is none")
		}
		offset.Store(int64(-time.Hour))
		if _, ok := q.take(t, 10*time.Minute); ok {
			t.Error("delivered while the lease holds")
		}
		if err := q.Ack(t.Context(), "q", m.ID, m.Receipt); err != nil {
			t.Error(err)
		}
		if _, ok := q.take(t, 2*time.Hour); ok {
			t.Error("delivered after it was acknowledged")
		}
	})
}

// Schedules are in UTC, wherever the machine is and whoever says what time it
// is.
func TestSchedulesAreInUTC(t *testing.T) {
	here := time.Local
	time.Local = time.FixedZone("here", 5*3600+1800)
	defer func() { time.Local = here }()
	for _, zone := range []*time.Location{time.UTC, time.Local, time.FixedZone("there", -8*3600)} {
		now := time.Date(2027, 3, 1, 4, 29, 0, 0, time.UTC).In(zone)
		next, err := parseSpec("30 4 * * *", now)
		if want := time.Date(2027, 3, 1, 4, 30, 0, 0, time.UTC); err != nil || !next.Equal(want) {
			t.Errorf("from %s: %s, %v", now, next, err)
		}
	}
}

// An idempotency key is known for as long as was said, and then forgotten.
func TestKeysAreKnownForAWeek(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		first := q.put(t, Job{Key: "k"})
		pass(keyLife - time.Second)
		if id, duplicate, err := q.Enqueue(t.Context(), Job{Queue: "q", Key: "k"}); err != nil || !duplicate || id != first {
			t.Errorf("within the week: %d, %t, %v", id, duplicate, err)
		}
		pass(time.Second)
		if id, duplicate, err := q.Enqueue(t.Context(), Job{Queue: "q", Key: "k"}); err != nil || duplicate || id == first {
			t.Errorf("after it: %d, %t, %v", id, duplicate, err)
		}
	})
}
