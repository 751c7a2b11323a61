package sdk

import (
	"context"
	"sync"

	"github.com/toolshed-cloud/shed/providers"
)

// mostHints caps the hints that one watcher has not taken yet; more are dropped,
// as the contract allows.
const mostHints = 1024

// Hints pass changes on to whoever watches. The zero value is ready.
type Hints struct {
	mu sync.Mutex
	// mu guards watchers.
	watchers map[*watcher]struct{}
}

// watcher is one Watch.
type watcher struct {
	installation providers.InstallationID
	hints        chan providers.MachineID
}

// Tell tells those who watch the installation of a machine. It never waits.
func (h *Hints) Tell(installation providers.InstallationID, id providers.MachineID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if w.installation != installation {
			continue
		}
		select {
		case w.hints <- id:
		default:
		}
	}
}

// Watch calls changed with what Tell says of the installation until ctx ends.
func (h *Hints) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) {
	w := &watcher{installation, make(chan providers.MachineID, mostHints)}
	h.mu.Lock()
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}()
	for {
		select {
		case id := <-w.hints:
			changed(id)
		case <-ctx.Done():
			return
		}
	}
}
