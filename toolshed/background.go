package toolshed

import (
	"context"
	"sync"

	"go.uber.org/zap"
)

// background runs something until the root stops. Close waits for its end.
func (r *Root) background(run func(context.Context)) {
	var running sync.WaitGroup
	running.Go(func() { run(r.site.Stopping) })
	r.closers = append(r.closers, func() error { running.Wait(); return nil })
}

// complain logs what failed in the background of an API, and nothing of its
// data: errors name no key and no value.
func (r *Root) complain(api string) func(error) {
	return func(err error) { r.Log.Error("in the background", zap.String("api", api), zap.Error(err)) }
}
