package pace_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/pace"
)

func TestLimitsAreThoseThatAreDocumented(t *testing.T) {
	for action, want := range map[string]pace.Limit{
		"RunInstances": {5, 2}, "StartInstances": {5, 2}, "TerminateInstances": {100, 5},
		"DescribeInstances": {100, 20}, "GetConsoleOutput": {100, 20}, "CreateTags": {50, 5}, "StopInstances": {50, 5},
	} {
		if got := pace.LimitOf(action); got != want {
			t.Errorf("%s has %+v, want %+v", action, got, want)
		}
	}
}

// Eight instances at once: four fifths of a burst of five, and then of two a
// second.
func TestPacesWhatIsMoreThanTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(1, 10*time.Second)
		began := time.Now()
		for range 8 {
			if err := p.Wait(t.Context(), "RunInstances"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 2500*time.Millisecond {
			t.Errorf("eight took %s, want 2.5s", took)
		}
		// Another action's bucket is still full.
		if err := p.Wait(t.Context(), "StartInstances"); err != nil || time.Since(began) != 2500*time.Millisecond {
			t.Errorf("another action waited: %v", err)
		}
	})
}

func TestTooLongAWaitIsThrottledAndTakesNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(0.25, time.Second) // a burst of 1, one in 2.5 s
		if err := p.Wait(t.Context(), "RunInstances"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			err := p.Wait(t.Context(), "RunInstances")
			var e *providers.Error
			if !errors.As(err, &e) || e.Code != providers.CodeThrottled || e.RetryAfter != 2500*time.Millisecond {
				t.Fatalf("got %v", err)
			}
		}
	})
}

func TestACallerThatGivesUpWaitsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pace.New(0.2, time.Minute)
		_ = p.Wait(t.Context(), "RunInstances")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- p.Wait(ctx, "RunInstances") }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
