// Package pace keeps a program below the request rates that EC2 documents, so
// that it is not refused for asking too fast.
//
// Invariants: every action has the bucket that EC2 gives it; a request that
// would have to wait longer than the longest wait is refused as THROTTLED with
// the delay, and takes no token; and one that its caller gave up waits no more.
package pace

import (
	"context"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/toolshed-cloud/shed/providers"
)

// Limit is a token bucket: how many requests at once, and how many more a
// second.
type Limit struct {
	Burst  int
	Refill float64
}

// Each action of EC2's API has a bucket of its own, of an account in a region:
// https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html
var (
	nonMutating = Limit{100, 20}
	mutating    = Limit{50, 5}
	single      = map[string]Limit{
		"RunInstances":       {5, 2},
		"StartInstances":     {5, 2},
		"TerminateInstances": {100, 5},
	}
)

// LimitOf is the documented bucket of an action.
func LimitOf(action string) Limit {
	if l, ok := single[action]; ok {
		return l
	}
	for _, prefix := range []string{"Describe", "Get", "List", "Search"} {
		if strings.HasPrefix(action, prefix) {
			return nonMutating
		}
	}
	return mutating
}

// margin is how much of a limit is used: what leaves here evenly arrives in
// bunches, and other programs of the account ask too.
const margin = 0.8

// Pacer paces one account in one region.
type Pacer struct {
	times   float64
	longest time.Duration

	mu sync.Mutex
	// buckets is guarded by mu.
	buckets map[string]*rate.Limiter
}

// New paces by the documented limits times a factor: accounts can have them
// raised. longest is how long a request waits at most.
func New(times float64, longest time.Duration) *Pacer {
	return &Pacer{times: times, longest: longest, buckets: map[string]*rate.Limiter{}}
}

func (p *Pacer) bucket(action string) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.buckets[action]
	if !ok {
		l := LimitOf(action)
		b = rate.NewLimiter(rate.Limit(l.Refill*p.times*margin), max(1, int(float64(l.Burst)*p.times*margin)))
		p.buckets[action] = b
	}
	return b
}

// Wait takes a token of the action's bucket. Errors are ctx's, and a
// *providers.Error of CodeThrottled.
func (p *Pacer) Wait(ctx context.Context, action string) error {
	taken := p.bucket(action).Reserve()
	wait := taken.Delay()
	if wait == 0 {
		return nil
	}
	if wait > p.longest {
		taken.Cancel()
		e := providers.Errorf(providers.CodeThrottled, "%s would be asked for more often than EC2 allows", action).In(providers.ScopeAccount)
		e.RetryAfter = wait
		return e
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		taken.Cancel()
		return ctx.Err()
	}
}
