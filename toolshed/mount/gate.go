package mount

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// Limits is what an API takes.
type Limits struct {
	// BodyBytes bounds the body of an operation that says nothing else.
	BodyBytes int64
	// InFlight bounds the requests at once, and Lasting those that hold their
	// connection.
	InFlight, Lasting int
	// PerSecond bounds the requests over time, after a Burst of them.
	PerSecond float64
	Burst     int
}

// The defaults are one person's, with a program or two.
const (
	defaultBodyBytes = 1 << 20
	defaultInFlight  = 128
	defaultLasting   = 64
)

func (l Limits) withDefaults() Limits {
	l.BodyBytes = cmp.Or(l.BodyBytes, defaultBodyBytes)
	l.InFlight = cmp.Or(l.InFlight, defaultInFlight)
	l.Lasting = cmp.Or(l.Lasting, defaultLasting)
	if l.PerSecond == 0 {
		l.PerSecond = math.Inf(1)
	}
	l.Burst = max(l.Burst, int(min(l.PerSecond, defaultInFlight)), 1)
	return l
}

// busyWait is how long who finds all places taken is asked to wait.
const busyWait = time.Second

// gate counts who is in. It refuses rather than queues: a queue only hides a
// flood.
type gate struct {
	short, lasting chan struct{}
	rate           *rate.Limiter
	now            func() time.Time
}

func newGate(l Limits, now func() time.Time) *gate {
	return &gate{
		short: make(chan struct{}, l.InFlight), lasting: make(chan struct{}, l.Lasting),
		rate: rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst), now: now,
	}
}

// enter takes a place, or says how long to wait where leave is nil.
func (g *gate) enter(lasting bool) (leave func(), wait time.Duration) {
	places := g.short
	if lasting {
		places = g.lasting
	}
	select {
	case places <- struct{}{}:
	default:
		return nil, busyWait
	}
	leave = func() { <-places }
	now := g.now()
	if r := g.rate.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait = r.DelayFrom(now)
		r.CancelAt(now)
		leave()
		return nil, wait
	}
	return leave, 0
}

func refuseForNow(w http.ResponseWriter, wait time.Duration) {
	seconds := int(math.Ceil(wait.Seconds()))
	w.Header().Set("Retry-After", strconv.Itoa(max(seconds, 1)))
	problem.Of(http.StatusTooManyRequests, "this API has as much to do as it takes at once").Write(w)
}
