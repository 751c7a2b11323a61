// Package backoff says how long to leave something alone that failed.
//
// Invariants: pauses double up to a bound, and no two callers that failed
// together come back together.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Pause is the time between the failure number attempt, counted from one, and
// the next try: doubling from first up to last, of which the second half is
// random (Marc Brooker, "Exponential Backoff And Jitter", 2015: equal jitter).
func Pause(attempt int, first, last time.Duration) time.Duration {
	pause := last
	doublings := max(attempt-1, 0)
	// Bits that were pushed out do not come back.
	if grown := first << doublings; grown>>doublings == first && grown < last {
		pause = grown
	}
	half := pause / 2
	return half + rand.N(pause-half+1)
}
