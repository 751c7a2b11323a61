package sandbox

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// maxSpare bounds the memories that are used again; what is larger is let go.
const maxSpare = 16 << 20

// spares are memories of calls that are over: zero throughout, so that the next
// call finds in them what it would find in a new one. The collector empties it.
type spares struct{ pool sync.Pool }

func (s *spares) take() []byte {
	b, _ := s.pool.Get().(*[]byte)
	if b == nil {
		return nil
	}
	return (*b)[:0]
}

// memory is the linear memory of one call.
type memory struct {
	bytes []byte
	most  int64
	// peak is the most that there was of it.
	peak int64
}

var (
	_ experimental.MemoryAllocator = (*memory)(nil)
	_ experimental.LinearMemory    = (*memory)(nil)
)

// Allocate answers itself: a module has one memory.
func (m *memory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate answers nil for more than the call may have, which the module sees
// as a memory that does not grow.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(m.most) {
		return nil
	}
	if size > uint64(cap(m.bytes)) {
		// Half as much again, so that one that grows by pages is not copied each time.
		grown := make([]byte, size, min(size+size/2, uint64(m.most)))
		copy(grown, m.bytes)
		m.bytes = grown
	}
	m.bytes = m.bytes[:size]
	m.peak = max(m.peak, int64(size))
	return m.bytes
}

// Free does nothing: who made the call gives the memory back, once nothing of
// it is running.
func (m *memory) Free() {}

// giveBack makes a spare of it.
func (m *memory) giveBack(to *spares) {
	b := m.bytes
	m.bytes = nil
	if b == nil || cap(b) > maxSpare {
		return
	}
	// A memory never shrinks, so that no byte beyond its length was written.
	clear(b)
	to.pool.Put(&b)
}
