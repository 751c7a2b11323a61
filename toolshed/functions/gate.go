package functions

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate counts the calls under way, of each function and of all, and those of
// the last minute.
type gate struct {
	most int
	// mu guards the rest.
	mu    sync.Mutex
	all   int
	doors map[string]*door
}

type door struct {
	inside  int
	limiter *rate.Limiter
	// perMinute is what the limiter was made for.
	perMinute int
}

// enter takes a place. The error is ErrBusy.
func (g *gate) enter(name string, l Limits, now time.Time) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.doors[name]
	if d == nil {
		d = &door{}
		g.doors[name] = d
	}
	if d.perMinute != l.PerMinute {
		d.perMinute = l.PerMinute
		d.limiter = rate.NewLimiter(rate.Limit(l.PerMinute)/60, l.PerMinute)
	}
	switch {
	case g.all >= g.most:
		return nil, fmt.Errorf("%w: %d of all functions at once", ErrBusy, g.most)
	case d.inside >= l.Concurrent:
		return nil, fmt.Errorf("%w: %d of this one at once", ErrBusy, l.Concurrent)
	case !d.limiter.AllowN(now, 1):
		return nil, fmt.Errorf("%w: %d a minute", ErrBusy, l.PerMinute)
	}
	d.inside++
	g.all++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		d.inside--
		g.all--
	}, nil
}

func (g *gate) forget(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := g.doors[name]; d != nil && d.inside == 0 {
		delete(g.doors, name)
	}
}
