package toolshed

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/live"
)

// Publisher passes on what an API has to say on its feed. It never waits, and
// what cannot be passed on is lost: a feed tells of what is kept elsewhere.
type Publisher func(data any)

// openLive comes before the APIs that publish.
func (r *Root) openLive(context.Context) error {
	var epoch [6]byte
	if _, err := io.ReadFull(r.Random, epoch[:]); err != nil {
		return fmt.Errorf("drawing the epoch of events: %w", err)
	}
	r.live = live.NewHub(r.Now, hex.EncodeToString(epoch[:]))
	live.Register(r.mount("live", live.Limits), r.live)
	return nil
}

// publisher is for one API, whose name the feed has. Who listens to it needs
// that API's scope to read.
func (r *Root) publisher(api string) Publisher {
	return func(data any) {
		b, err := json.Marshal(data)
		if err == nil {
			_, err = r.live.Publish(live.FeedPrefix+api, b)
		}
		if err != nil {
			r.Log.Warn("an event was not passed on", zap.String("api", api), zap.Error(err))
		}
	}
}

// forgetter has the feed of an API forget what it told.
func (r *Root) forgetter(api string) func() {
	return func() { r.live.Forget(live.FeedPrefix + api) }
}
