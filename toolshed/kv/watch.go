package kv

import "sync"

// watchers are those who wait for keys to change.
type watchers struct {
	// mu guards byKey.
	mu    sync.Mutex
	byKey map[string]map[*Watcher]struct{}
}

// Watcher waits for changes of some keys.
type Watcher struct {
	all     *watchers
	keys    [][]byte
	changed chan struct{}
}

// Watch watches encoded keys from now on. The watcher has to be closed.
func (s *Store) Watch(keys ...[]byte) *Watcher {
	w := &Watcher{all: &s.watchers, keys: keys, changed: make(chan struct{}, 1)}
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.all.byKey == nil {
		w.all.byKey = map[string]map[*Watcher]struct{}{}
	}
	for _, k := range keys {
		if w.all.byKey[string(k)] == nil {
			w.all.byKey[string(k)] = map[*Watcher]struct{}{}
		}
		w.all.byKey[string(k)][w] = struct{}{}
	}
	return w
}

// Changed receives once some of the keys have changed since it last did.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends it.
func (w *Watcher) Close() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	for _, k := range w.keys {
		delete(w.all.byKey[string(k)], w)
		if len(w.all.byKey[string(k)]) == 0 {
			delete(w.all.byKey, string(k))
		}
	}
}

func (all *watchers) wake(keys [][]byte) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, k := range keys {
		for w := range all.byKey[string(k)] {
			signal(w.changed)
		}
	}
}
