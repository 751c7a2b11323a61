package enrol

import (
	"context"
	"net/http"
	"sync"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/providers"
)

// held has the answers that wait until there is something to say in them: one for
// each machine at most.
type held struct {
	mu sync.Mutex
	// wakes counts what was said, so that none is missed between reading a row and
	// waiting; ends has what ends each wait. Guarded by mu.
	wakes uint64
	ends  map[providers.MachineID]chan bool
}

func newHeld() *held { return &held{ends: make(map[providers.MachineID]chan bool)} }

// count is to be taken before the row is read.
func (h *held) count() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wakes
}

// wake says that there may be something to say to a machine.
func (h *held) wake(id providers.MachineID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakes++
	h.end(id, true)
}

// end ends the machine's wait, where there is one. Callers hold mu.
func (h *held) end(id providers.MachineID, woken bool) {
	if c, ok := h.ends[id]; ok {
		c <- woken
		delete(h.ends, id)
	}
}

// wait returns true once there may be something to say that was not there at since,
// and false with ctx's end, or where the machine has asked once more meanwhile.
func (h *held) wait(ctx context.Context, id providers.MachineID, since uint64) bool {
	h.mu.Lock()
	if h.wakes != since {
		h.mu.Unlock()
		return true
	}
	h.end(id, false)
	c := make(chan bool, 1)
	h.ends[id] = c
	h.mu.Unlock()
	select {
	case woken := <-c:
		return woken
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ends[id] == c {
		delete(h.ends, id)
	}
	return false
}

// Wake has a machine hear at once of what was written for it, where it is this
// process that holds an answer to it. Any other hears of it with its next heartbeat.
func (s *Server) Wake(id providers.MachineID) { s.held.wake(id) }

// hold answers a heartbeat in which nothing is new once there is something to say,
// or when the next one is due.
func (s *Server) hold(r *http.Request, in api.Heartbeat, since uint64) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.HeartbeatEvery)
	defer cancel()
	for s.held.wait(ctx, providers.MachineID(in.Machine), since) {
		since = s.held.count()
		i, err := s.enrolled(r, in.Machine)
		if err != nil {
			return nil, err
		}
		if answer := s.tell(r, i, in); answer != nil {
			return answer, nil
		}
	}
	return nil, nil
}
