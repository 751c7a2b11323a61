package enrol

import (
	"context"
	"net/http"

	"github.com/toolshed-cloud/shed/providers"
)

// Turns is how many machines have a turn to fetch, or wait for one.
func (s *Server) Turns() int {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	return len(s.files.inside)
}

// Holding is how many answers are held.
func (s *Server) Holding() int {
	s.held.mu.Lock()
	defer s.held.mu.Unlock()
	return len(s.held.ends)
}

// Routes answers machines.
func (s *Server) Routes() http.Handler { return s.routes() }

// Held has what Server holds answers by.
type Held struct{ *held }

func NewHeld() Held { return Held{newHeld()} }

func (h Held) Count() uint64 { return h.count() }

func (h Held) Wake(id providers.MachineID) { h.wake(id) }

func (h Held) Wait(ctx context.Context, id providers.MachineID, since uint64) bool {
	return h.wait(ctx, id, since)
}
