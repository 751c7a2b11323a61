package functions

import (
	"context"
	"sync"

	"go.uber.org/zap"
)

// Consumer gives the messages of queues.
type Consumer interface {
	// Consume calls handle with each message of a queue until ctx ends, and
	// then returns once none is under way. An error of handle has the message
	// given again; an error of Consume says that it gave up.
	Consume(ctx context.Context, queue string, handle func(ctx context.Context, id string, body []byte) error) error
}

// follower is one queue that is followed.
type follower struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// Follow has functions called with the messages of the queues that their
// settings name, as those are changed, until ctx ends.
func (s *Service) Follow(ctx context.Context, by Consumer) {
	followed := map[string]follower{}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		names, err := s.Queues(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("reading the queues of functions", zap.Error(err))
		}
		wanted := map[string]bool{}
		for _, name := range names {
			wanted[name] = true
		}
		for name, f := range followed {
			if f.over() {
				delete(followed, name)
			} else if err == nil && !wanted[name] {
				f.stop()
			}
		}
		for name := range wanted {
			if _, is := followed[name]; !is {
				followed[name] = s.follow(ctx, by, name, &running)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		}
	}
}

func (f follower) over() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

func (s *Service) follow(ctx context.Context, by Consumer, name string, running *sync.WaitGroup) follower {
	ctx, stop := context.WithCancel(ctx)
	f := follower{stop, make(chan struct{})}
	running.Go(func() {
		err := by.Consume(ctx, name, func(ctx context.Context, id string, body []byte) error {
			return s.Deliver(ctx, name, id, body)
		})
		gaveUp := err != nil && ctx.Err() == nil
		stop()
		close(f.ended)
		if gaveUp {
			// The next minute begins it again.
			s.Log.Error("following the queue of a function", zap.Error(err))
			return
		}
		s.tellChanged()
	})
	return f
}

// tellChanged has Follow look at the settings again.
func (s *Service) tellChanged() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
