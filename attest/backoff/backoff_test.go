package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/backoff"
)

func TestPause(t *testing.T) {
	const first, last = 100 * time.Millisecond, 30 * time.Second
	for attempt, want := range map[int]time.Duration{
		0: first, 1: first, 2: 2 * first, 5: 16 * first, 9: 256 * first, 10: last, 40: last, 63: last, math.MaxInt: last,
	} {
		seen := map[time.Duration]bool{}
		for range 50 {
			got := backoff.Pause(attempt, first, last)
			if got < want/2 || got > want {
				t.Errorf("attempt %d: %s, want %s to %s", attempt, got, want/2, want)
			}
			seen[got] = true
		}
		if len(seen) < 10 {
			t.Errorf("attempt %d: %d pauses in 50 tries: callers come back together", attempt, len(seen))
		}
	}
	if got := backoff.Pause(3, time.Hour, time.Minute); got > time.Minute {
		t.Errorf("a bound below the first pause: %s", got)
	}
}
