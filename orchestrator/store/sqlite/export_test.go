package sqlite

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// counted is what tests see of the commits of a store.
type counted struct {
	mu      sync.Mutex
	commits int
	hints   []string
}

var counts sync.Map // *Store to *counted

func (s *Store) counted() *counted {
	c, counting := counts.LoadOrStore(s, &counted{})
	if !counting {
		before := s.writer.committed
		s.writer.committed = func(hints []orchestrator.InstanceID) {
			n := c.(*counted)
			n.mu.Lock()
			n.commits++
			for _, id := range hints {
				n.hints = append(n.hints, string(id))
			}
			n.mu.Unlock()
			before(hints)
		}
	}
	return c.(*counted)
}

// Commits is how many commits there were since it was first asked for.
func (s *Store) Commits() int {
	c := s.counted()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// Hinted is what was enqueued in them, in order.
func (s *Store) Hinted() []string {
	c := s.counted()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.hints)
	return c.hints
}

// MaxBatch is how many transactions share a commit at the most.
const MaxBatch = maxBatch

// Synchronous is how the writing connection syncs.
func (s *Store) Synchronous(ctx context.Context) (mode int) {
	if err := s.writer.conn.raw.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&mode); err != nil {
		return -1
	}
	return mode
}

// AwaitWaiting returns when somebody waits for the turn that the caller has.
func (s *Store) AwaitWaiting(ctx context.Context) {
	for s.writer.waiting.Load() == 0 && ctx.Err() == nil {
		runtime.Gosched()
	}
}
