package workqueue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A key that needs no other look takes no memory, and what it was due for
// before does not come.
func TestNothingIsKeptOfWhatIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[string]()
		looks := 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			q.Work(ctx, 1, time.Second, func(context.Context, string) (time.Duration, error) {
				if looks++; looks == 1 {
					return time.Hour, nil
				}
				return Never, nil
			})
		}()
		q.Add("a")
		synctest.Wait()
		q.Urge("a")
		synctest.Wait()
		if len(q.entries) != 0 {
			t.Errorf("%d keys are kept", len(q.entries))
		}
		<-time.After(2 * time.Hour)
		cancel()
		<-ended
		if looks != 2 {
			t.Errorf("%d looks, want 2", looks)
		}
	})
}
