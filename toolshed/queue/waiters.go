package queue

import "sync"

// waiters are those who wait for a queue to change.
type waiters struct {
	// mu guards byQueue.
	mu      sync.Mutex
	byQueue map[string]map[chan struct{}]struct{}
}

// join is told of changes from now on, until leave.
func (w *waiters) join(queue string) (changed chan struct{}, leave func()) {
	changed = make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byQueue == nil {
		w.byQueue = map[string]map[chan struct{}]struct{}{}
	}
	if w.byQueue[queue] == nil {
		w.byQueue[queue] = map[chan struct{}]struct{}{}
	}
	w.byQueue[queue][changed] = struct{}{}
	return changed, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.byQueue[queue], changed)
		if len(w.byQueue[queue]) == 0 {
			delete(w.byQueue, queue)
		}
	}
}

func (w *waiters) wake(queue string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.byQueue[queue] {
		signal(c)
	}
}
