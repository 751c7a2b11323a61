package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A consumer in this program works on many at once, keeps their leases, tries
// again what failed or panicked, and tells what ended before it returns.
func TestConsume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		for i := range 50 {
			q.put(t, Job{Body: []byte(fmt.Sprint(i))})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var at, most, done atomic.Int32
		ended := make(chan error)
		go func() {
			ended <- q.Consume(ctx, Consumer{Queue: "q", Parallel: 4, Lease: 3 * time.Second, Handle: func(ctx context.Context, m Message) error {
				most.Store(max(most.Load(), at.Add(1)))
				defer at.Add(-1)
				pass(10 * time.Millisecond)
				switch {
				case string(m.Body) == "7" && m.Attempt == 1:
					panic("seven")
				case string(m.Body) == "8" && m.Attempt == 1:
					return errors.New("eight")
				case string(m.Body) == "9":
					// Longer than its lease.
					pass(20 * time.Second)
				}
				if m.Attempt > 2 || m.Attempt == 2 && string(m.Body) != "7" && string(m.Body) != "8" {
					t.Errorf("%s: attempt %d", m.Body, m.Attempt)
				}
				done.Add(1)
				return ctx.Err()
			}})
		}()
		pass(time.Minute)
		synctest.Wait()
		if done.Load() != 50 || most.Load() != 4 {
			t.Errorf("%d done, %d at once", done.Load(), most.Load())
		}
		q.put(t, Job{Body: []byte("last")})
		pass(15 * time.Millisecond)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if all, err := q.Queues(context.Background()); err != nil || len(all) != 0 {
			t.Errorf("left: %+v, %v", all, err)
		}
	})
}

// Who lost a lease while working is told to stop, and goes on with the next.
func TestConsumerLosesALease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		id := q.put(t, Job{Body: []byte("first")})
		q.put(t, Job{Body: []byte("second")})
		ctx, cancel := context.WithCancel(t.Context())
		began, stopped, ended := make(chan struct{}), make(chan struct{}), make(chan error)
		second := false
		go func() {
			ended <- q.Consume(ctx, Consumer{Queue: "q", Parallel: 1, Lease: 3 * time.Second, Handle: func(ctx context.Context, m Message) error {
				if second = string(m.Body) == "second"; second {
					return nil
				}
				close(began)
				<-ctx.Done()
				close(stopped)
				return ctx.Err()
			}})
		}()
		<-began
		if err := q.Delete(t.Context(), "q", id); err != nil {
			t.Fatal(err)
		}
		select {
		case <-stopped:
		case <-time.After(3 * time.Second):
			t.Error("it works on")
		}
		pass(time.Second)
		if !second {
			t.Error("it does not go on")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if all, err := q.Queues(context.Background()); err != nil || len(all) != 0 {
			t.Errorf("left: %+v, %v", all, err)
		}
	})
}

// A stream has no more without an answer than it may, and goes on once there is
// one.
func TestStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := opened(t)
		running(t, q)
		for i := range 5 {
			q.put(t, Job{Body: []byte(fmt.Sprint(i))})
		}
		ctx, cancel := context.WithCancel(t.Context())
		got, ended := make(chan Message, 10), make(chan error)
		go func() {
			ended <- q.Stream(ctx, "q", 2, 10*time.Second, func(m Message) error { got <- m; return nil }, func() error { return nil })
		}()
		var bodies []string
		for range 5 {
			synctest.Wait()
			if len(got) > 2 {
				t.Errorf("%d at once", len(got))
			}
			m := <-got
			bodies = append(bodies, string(m.Body))
			if err := q.Ack(t.Context(), "q", m.ID, m.Receipt); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(bodies, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("%q", bodies)
		}
		q.put(t, Job{Body: []byte("late"), DueAt: time.Now().Add(time.Hour)})
		if m := <-got; string(m.Body) != "late" {
			t.Errorf("%s", m.Body)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
