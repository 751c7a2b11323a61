package supervise

import (
	"slices"
	"sync"

	"github.com/toolshed-cloud/shed/attest/channel"
)

// MaxOutputBytes is how much of the payload's output is kept.
const MaxOutputBytes = channel.MaxOutputBytes

// ring keeps the end of what is written to it.
type ring struct {
	// mu guards kept and next.
	mu sync.Mutex
	// kept grows up to MaxOutputBytes; from then on next is where its oldest
	// byte stands, which the next one replaces.
	kept []byte
	next int
}

// Write never fails: what does not fit pushes the oldest out.
func (r *ring) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(b)
	b = b[max(0, n-MaxOutputBytes):]
	fits := min(len(b), MaxOutputBytes-len(r.kept))
	r.kept = append(r.kept, b[:fits]...)
	for b = b[fits:]; len(b) > 0; {
		copied := copy(r.kept[r.next:], b)
		b = b[copied:]
		r.next = (r.next + copied) % MaxOutputBytes
	}
	return n, nil
}

func (r *ring) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.kept[r.next:], r.kept[:r.next])
}
