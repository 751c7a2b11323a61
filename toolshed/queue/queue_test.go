package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// opened is a queue on a store of its own, in a bubble with a clock of its own.
func opened(t *testing.T) *Queue {
	t.Helper()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return New(db, time.Now, rand.Reader)
}

// kept is who is given what is dead.
type kept struct{ messages []Message }

func (k *kept) Undelivered(_ context.Context, m Message) error {
	k.messages = append(k.messages, m)
	return nil
}

// running has the upkeep run until the test ends.
func running(t *testing.T, q *Queue) *kept {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done, dead := make(chan struct{}), &kept{}
	go func() {
		defer close(done)
		q.Run(ctx, dead, func(err error) { t.Error(err) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return dead
}

func (q *Queue) put(t *testing.T, j Job) int64 {
	t.Helper()
	if j.Queue == "" {
		j.Queue = "q"
	}
	id, _, err := q.Enqueue(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// take receives one message, waiting for so long.
func (q *Queue) take(t *testing.T, wait time.Duration) (m Message, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	got, err := q.Receive(ctx, "q", 1, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		return m, false
	}
	return got[0], true
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// pass lets the bubble's clock go on.
func pass(d time.Duration) { <-time.After(d) }

func TestDelayAndPriority(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		now := time.Now()
		q.put(t, Job{Body: []byte("later"), Priority: 9, DueAt: now.Add(time.Minute)})
		q.put(t, Job{Body: []byte("low")})
		q.put(t, Job{Body: []byte("high"), Priority: 5})
		q.put(t, Job{Queue: "other", Body: []byte("other")})
		for _, want := range []string{"high", "low", "later"} {
			m, ok := q.take(t, time.Hour)
			if !ok || string(m.Body) != want || m.Attempt != 1 {
				t.Errorf("%s attempt %d, want %s", m.Body, m.Attempt, want)
			}
		}
		if waited := time.Since(now); waited < time.Minute || waited > time.Minute+time.Second {
			t.Errorf("the last came after %s", waited)
		}
		if _, ok := q.take(t, 0); ok {
			t.Error("there is more")
		}
	})
}

// A message fails as often as its schedule allows, with its delays, and is then
// dead; tried again it is new.
func TestRetriesAndDeath(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		dead := running(t, q)
		id := q.put(t, Job{Body: []byte("m"), Backoff: []time.Duration{time.Second, time.Minute}, Undelivered: [][]byte{{1}}})
		for attempt, delay := range []time.Duration{0, time.Second, time.Minute} {
			began := time.Now()
			m, ok := q.take(t, time.Hour)
			if waited := time.Since(began); !ok || m.Attempt != attempt+1 || waited < delay || waited > delay+time.Second {
				t.Fatalf("attempt %d after %s: %+v", attempt+1, waited, m)
			}
			if err := q.Nack(t.Context(), "q", m.ID, m.Receipt, "no\xff"+strings.Repeat("x", 1000), -1); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		m, err := q.Get(t.Context(), "q", id)
		if err != nil || m.State != Dead || !strings.HasPrefix(m.Error, "no\uFFFD") || len(m.Error) > MaxErrorBytes {
			t.Errorf("%+v, %v", m, err)
		}
		if len(dead.messages) != 1 || string(dead.messages[0].Body) != "m" {
			t.Errorf("handed over: %+v", dead.messages)
		}
		if err := q.Retry(t.Context(), "q", id); err != nil {
			t.Fatal(err)
		}
		if m, ok := q.take(t, 0); !ok || m.Attempt != 1 {
			t.Errorf("tried again: %+v", m)
		}
		if err := q.Retry(t.Context(), "q", id); !errors.Is(err, ErrInvalid) {
			t.Errorf("trying again what is worked on: %v", err)
		}
	})
}

// A receipt is good until its lease ends, and ends one delivery.
func TestLeases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		q.put(t, Job{Body: []byte("m"), Backoff: []time.Duration{0, 0, 0}})
		first, _ := q.take(t, 0)
		for range 3 {
			pass(9 * time.Second)
			if _, err := q.Extend(t.Context(), "q", first.ID, first.Receipt, 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		second, ok := q.take(t, 11*time.Second)
		if !ok || second.Attempt != 2 || second.Receipt == first.Receipt {
			t.Fatalf("after the lease: %+v", second)
		}
		_, lost := q.Extend(t.Context(), "q", first.ID, first.Receipt, 10*time.Second)
		for name, err := range map[string]error{
			"extend":      lost,
			"ack":         q.Ack(t.Context(), "q", first.ID, first.Receipt),
			"nack":        q.Nack(t.Context(), "q", first.ID, first.Receipt, "", -1),
			"other queue": q.Ack(t.Context(), "r", second.ID, second.Receipt),
		} {
			if !errors.Is(err, ErrLost) {
				t.Errorf("%s with a receipt that is not good: %v", name, err)
			}
		}
		if err := q.Ack(t.Context(), "q", second.ID, second.Receipt); err != nil {
			t.Error(err)
		}
		if err := q.Ack(t.Context(), "q", second.ID, second.Receipt); !errors.Is(err, ErrLost) {
			t.Errorf("acknowledged twice: %v", err)
		}
	})
}

// A delivery that has ended has no receipt, however it did.
func TestReceiptsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		for range 2 {
			q.put(t, Job{})
		}
		given, _ := q.take(t, 0)
		if err := q.Nack(t.Context(), "q", given.ID, given.Receipt, "no", time.Hour); err != nil {
			t.Fatal(err)
		}
		forgotten, _ := q.take(t, 0)
		pass(11 * time.Second)
		for _, m := range []Message{given, forgotten} {
			if got, err := q.Get(t.Context(), "q", m.ID); err != nil || got.State != Waiting || got.Receipt != "" || m.Receipt == "" {
				t.Errorf("%+v, %v", got, err)
			}
		}
	})
}

func TestIdempotency(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		first := q.put(t, Job{Body: []byte("m"), Key: "k"})
		id, duplicate, err := q.Enqueue(t.Context(), Job{Queue: "q", Body: []byte("m"), Key: "k"})
		if id != first || !duplicate || err != nil {
			t.Errorf("%d, %t, %v", id, duplicate, err)
		}
		if _, _, err := q.Enqueue(t.Context(), Job{Queue: "q", Body: []byte("n"), Key: "k"}); !errors.Is(err, ErrKeyReused) {
			t.Errorf("another message: %v", err)
		}
		m, _ := q.take(t, 0)
		if err := q.Ack(t.Context(), "q", m.ID, m.Receipt); err != nil {
			t.Fatal(err)
		}
		if id, duplicate, _ := q.Enqueue(t.Context(), Job{Queue: "q", Body: []byte("m"), Key: "k"}); id != first || !duplicate {
			t.Errorf("after it was done: %d, %t", id, duplicate)
		}
		pass(keyLife + time.Second)
		if id, duplicate, err := q.Enqueue(t.Context(), Job{Queue: "q", Body: []byte("m"), Key: "k"}); id == first || duplicate || err != nil {
			t.Errorf("a week later: %d, %t, %v", id, duplicate, err)
		}
	})
}

func TestCron(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		// The bubble's clock begins on a Saturday at midnight.
		if _, err := q.PutCron(t.Context(), Cron{Name: "c", Spec: "30 4 * * mon-fri", Job: Job{Queue: "q", Body: []byte("tick")}}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"2000-01-03T04:30:00Z", "2000-01-04T04:30:00Z"} {
			m, ok := q.take(t, 100*time.Hour)
			if at := time.Now().UTC().Truncate(time.Second).Format(time.RFC3339); !ok || string(m.Body) != "tick" || at != want {
				t.Errorf("%s at %s, want %s", m.Body, at, want)
			}
			if err := q.Ack(t.Context(), "q", m.ID, m.Receipt); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.DeleteCron(t.Context(), "c"); err != nil {
			t.Error(err)
		}
		if _, ok := q.take(t, 200*time.Hour); ok {
			t.Error("an ended schedule goes on")
		}
		for _, spec := range []string{"", "* * * *", "* * * * * *", "61 * * * *", "TZ=0 * * * *", "@daily", "* * 30 2 *", "*/0 * * * *", strings.Repeat("1,", 200) + "1 * * * *"} {
			if _, err := q.PutCron(t.Context(), Cron{Name: "c", Spec: spec, Job: Job{Queue: "q"}}); !errors.Is(err, ErrInvalid) {
				t.Errorf("%.30q: %v", spec, err)
			}
		}
	})
}

// What was missed while nothing ran comes once.
func TestCronMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		if _, err := q.PutCron(t.Context(), Cron{Name: "c", Spec: "* * * * *", Job: Job{Queue: "q"}}); err != nil {
			t.Fatal(err)
		}
		pass(10*time.Minute + 10*time.Second)
		running(t, q)
		synctest.Wait()
		if all, _, err := q.List(t.Context(), "q", Waiting, 0, 10); err != nil || len(all) != 1 {
			t.Errorf("%d messages, %v", len(all), err)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		for name, j := range map[string]Job{
			"name":        {Queue: "A"},
			"type":        {Queue: "q", ContentType: "///"},
			"body":        {Queue: "q", Body: make([]byte, MaxBodyBytes+1)},
			"priority":    {Queue: "q", Priority: 10},
			"delay":       {Queue: "q", DueAt: time.Now().Add(2 * MaxDelay)},
			"backoff":     {Queue: "q", Backoff: make([]time.Duration, MaxBackoffs+1)},
			"a delay":     {Queue: "q", Backoff: []time.Duration{-1}},
			"key":         {Queue: "q", Key: strings.Repeat("k", MaxKeyBytes+1)},
			"undelivered": {Queue: "q", Undelivered: make([][]byte, maxUndelivered+1)},
		} {
			if _, _, err := q.Enqueue(t.Context(), j); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// No text is a schedule that cannot be asked for the next time.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"* * * * *", "30 4 * * mon-fri", "*/5 0-3 1,15 JAN ?", "TZ=0", "@every 1s", "0 0 31 2 *"} {
		f.Add(s)
	}
	now := time.Date(2026, 3, 29, 1, 59, 59, 0, time.UTC)
	f.Fuzz(func(t *testing.T, spec string) {
		next, err := parseSpec(spec, now)
		if err == nil && (!next.After(now) || next.Second() != 0) {
			t.Errorf("%q: %s", spec, next)
		}
	})
}

func FuzzParseBackoff(f *testing.F) {
	for _, s := range []string{"", "none", "1s,10s,1m", ",", "-1s", "1h,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseBackoff(text)
		if err != nil {
			return
		}
		for _, d := range all {
			if d < 0 {
				t.Errorf("%q: %s", text, d)
			}
		}
	})
}
