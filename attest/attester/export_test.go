package attester

import "runtime"

// WaitJoined waits until so many wait for the next quote.
func (t *TPM) WaitJoined(n int) {
	for {
		t.queue.mu.Lock()
		joined := t.queue.next != nil && len(t.queue.next.leaves) >= n
		t.queue.mu.Unlock()
		if joined {
			return
		}
		runtime.Gosched()
	}
}
