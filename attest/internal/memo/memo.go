// Package memo keeps what was made of bytes, for bytes that come again.
//
// Invariants: what is kept was made of exactly these bytes; failures are never
// kept; the number of entries and the length of their keys are bounded, since
// the bytes are a stranger's.
package memo

import "sync"

// Memo keeps a bounded number of results. The zero value is ready, and
// safe for several goroutines.
type Memo[T any] struct {
	// mu guards entries and bytes.
	mu      sync.Mutex
	entries map[string]T
	// bytes is the length of all keys.
	bytes int
}

// The bounds of one memo: entries, and bytes of their keys. A client knows a few
// machines and a control plane thousands, which enrol once a boot; a stranger
// may send ever others.
const (
	limit      = 1024
	limitBytes = 8 << 20
)

// Get is what was made of key, or what make makes of it. Errors are make's.
func (m *Memo[T]) Get(key []byte, make func([]byte) (T, error)) (T, error) {
	m.mu.Lock()
	kept, ok := m.entries[string(key)]
	m.mu.Unlock()
	if ok {
		return kept, nil
	}
	made, err := make(key)
	if err != nil {
		return made, err
	}
	m.put(string(key), made)
	return made, nil
}

func (m *Memo[T]) put(key string, made T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Dropping all at once needs no order, and costs one miss an entry.
	if m.entries == nil || len(m.entries) >= limit || m.bytes+len(key) > limitBytes {
		m.entries, m.bytes = map[string]T{}, 0
	}
	if _, kept := m.entries[key]; !kept {
		m.bytes += len(key)
	}
	m.entries[key] = made
}
