package mount

import (
	"context"
	"net/http"
	"sync/atomic"
)

// Traffic is what went through an API's routes since the start, of requests that
// have ended.
type Traffic struct {
	Requests, Received, Sent int64
}

// traffic is one that is added to.
type traffic struct{ requests, received, sent atomic.Int64 }

// Count adds a request with the bytes of its body and of its answer's.
func (m *Mount) Count(received, sent int64) {
	m.traffic.requests.Add(1)
	m.traffic.received.Add(received)
	m.traffic.sent.Add(sent)
}

// Traffic is what was counted.
func (m *Mount) Traffic() Traffic {
	return Traffic{Requests: m.traffic.requests.Load(), Received: m.traffic.received.Load(), Sent: m.traffic.sent.Load()}
}

// Seen is whose a request turned out to be.
type Seen struct {
	// Mount is nil for nobody's, or where the caller might not.
	Mount *Mount
}

type seenKey struct{}

// Watch has a request say, once it was answered, whose it was.
func Watch(r *http.Request) (*http.Request, *Seen) {
	s := &Seen{}
	return r.WithContext(context.WithValue(r.Context(), seenKey{}, s)), s
}

// Owning marks what a handler off the API's routes answers as the API's.
func (m *Mount) Owning(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.see(r)
		next.ServeHTTP(w, r)
	})
}

// see marks a request as this API's where it is not another's.
func (m *Mount) see(r *http.Request) {
	if s, _ := r.Context().Value(seenKey{}).(*Seen); s != nil && s.Mount == nil {
		s.Mount = m
	}
}
