package sandbox

import "github.com/tetratelabs/wazero/experimental"

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
		grown := make([]byte, size, min(size+uint64(len(m.bytes))/2, uint64(m.most)))
		copy(grown, m.bytes)
		m.bytes = grown
	}
	m.bytes = m.bytes[:size]
	m.peak = max(m.peak, int64(size))
	return m.bytes
}

// Free lets go of it.
func (m *memory) Free() { m.bytes = nil }
