package workqueue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator/internal/workqueue"
)

// run works a queue with one worker and returns a function that ends it.
func run(q *workqueue.Queue[string], workers int, look workqueue.Look[string]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.Work(ctx, workers, time.Second, look)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestUrgentGoesFirstAndDoublesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		q.Add("a", "b", "c", "a", "b")
		q.Urge("d", "c", "d")
		var order []string
		stop := run(q, 1, func(_ context.Context, k string) (time.Duration, error) {
			order = append(order, k)
			return workqueue.Never, nil
		})
		synctest.Wait()
		stop()
		if want := []string{"d", "c", "a", "b"}; !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
	})
}

// A key that is added during its look is looked at again, after it and never
// beside it.
func TestAddedDuringItsLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		var mu sync.Mutex
		running, most, looks := 0, 0, 0
		q.Add("a")
		stop := run(q, 8, func(context.Context, string) (time.Duration, error) {
			mu.Lock()
			running++
			looks++
			first := looks == 1
			most = max(most, running)
			mu.Unlock()
			if first {
				q.Urge("a")
				q.Add("a")
				<-time.After(time.Minute)
			}
			mu.Lock()
			defer mu.Unlock()
			running--
			return workqueue.Never, nil
		})
		<-time.After(time.Hour)
		stop()
		if looks != 2 || most != 1 {
			t.Errorf("%d looks, %d at once", looks, most)
		}
	})
}

func TestAgainComesWhenItIsDueOrAtOnceWhereItIsUrged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		began := time.Now()
		var at []time.Duration
		stop := run(q, 1, func(context.Context, string) (time.Duration, error) {
			at = append(at, time.Since(began))
			return 10 * time.Second, nil
		})
		q.Add("a")
		<-time.After(14 * time.Second)
		q.Urge("a")
		<-time.After(15 * time.Second)
		stop()
		if want := []time.Duration{0, 10 * time.Second, 14 * time.Second, 24 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("looked at %v, want %v", at, want)
		}
	})
}

func TestFailuresAndPanicsComeAgainAfterAGrowingPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		var at []time.Time
		ended := make(chan struct{})
		stop := run(q, 1, func(context.Context, string) (time.Duration, error) {
			at = append(at, time.Now())
			switch len(at) {
			case 1:
				return workqueue.Never, errors.New("not now")
			case 2, 3:
				panic("a bug")
			}
			close(ended)
			return workqueue.Never, nil
		})
		q.Add("a")
		<-ended
		stop()
		for n, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if pause := at[n+1].Sub(at[n]); pause < most/2 || pause > most {
				t.Errorf("pause %d is %s, want %s to %s", n, pause, most/2, most)
			}
		}
	})
}

// After a look that went well the pauses begin again.
func TestPausesBeginAgainAfterSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		var at []time.Time
		ended := make(chan struct{})
		stop := run(q, 1, func(context.Context, string) (time.Duration, error) {
			at = append(at, time.Now())
			switch len(at) {
			case 5:
				return time.Minute, nil
			case 7:
				close(ended)
				return workqueue.Never, nil
			}
			return workqueue.Never, errors.New("not now")
		})
		q.Add("a")
		<-ended
		stop()
		if pause := at[6].Sub(at[5]); pause > time.Second {
			t.Errorf("the first pause after it is %s", pause)
		}
	})
}

// Looks that take long, however many, leave workers for what is urgent.
func TestUrgentFindsAWorkerWhileAllOthersAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		began := time.Now()
		var mu sync.Mutex
		at := map[string]time.Duration{}
		stop := run(q, 8, func(_ context.Context, k string) (time.Duration, error) {
			mu.Lock()
			at[k] = time.Since(began)
			mu.Unlock()
			<-time.After(time.Minute)
			return workqueue.Never, nil
		})
		for n := range 20 {
			q.Add(fmt.Sprint(n))
		}
		<-time.After(time.Second)
		q.Urge("urgent", "urgent too")
		<-time.After(time.Second)
		mu.Lock()
		for _, k := range []string{"urgent", "urgent too"} {
			if at[k] != time.Second {
				t.Errorf("%s was looked at after %s", k, at[k])
			}
		}
		if len(at) != 8 {
			t.Errorf("%d looks", len(at))
		}
		mu.Unlock()
		stop()
	})
}

// A stop waits for the looks under way, and cancels those that have no end.
func TestStopWaitsAndThenCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := workqueue.New[string]()
		q.Add("quick", "endless")
		var mu sync.Mutex
		ends := map[string]time.Duration{}
		began := time.Now()
		stop := run(q, 2, func(ctx context.Context, k string) (time.Duration, error) {
			if k == "quick" {
				<-time.After(100 * time.Millisecond)
			} else {
				<-ctx.Done()
			}
			mu.Lock()
			defer mu.Unlock()
			ends[k] = time.Since(began)
			return 0, nil
		})
		synctest.Wait()
		stop()
		if ends["quick"] != 100*time.Millisecond || ends["endless"] != time.Second {
			t.Errorf("ended after %v", ends)
		}
	})
}
