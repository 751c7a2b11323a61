package toolshed

import (
	"net/http"
	"sync/atomic"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// seal keeps what is written from being acknowledged while a restored backup is
// about to take its place.
type seal struct{ closed atomic.Bool }

// close seals, and answers how to open again.
func (s *seal) close() (open func()) {
	s.closed.Store(true)
	return func() { s.closed.Store(false) }
}

// restorePath is the one that seals.
const restorePath = "/api/restore"

// keep refuses what would change something once it is sealed. A request that was
// under way by then is answered so too: nobody is told that something is kept
// which the restored backup replaces.
func (s *seal) keep(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions || r.URL.Path == restorePath:
			next.ServeHTTP(w, r)
		case s.closed.Load():
			refuseRestoring(w, "a backup is being restored: nothing was changed")
		default:
			answer := &sealed{ResponseWriter: w, seal: s}
			next.ServeHTTP(answer, r)
			if !answer.begun {
				answer.WriteHeader(http.StatusOK)
			}
		}
	})
}

func refuseRestoring(w http.ResponseWriter, detail string) {
	w.Header().Set("Retry-After", "1")
	problem.New(http.StatusServiceUnavailable, "restoring", detail).Write(w)
}

// sealed is an answer that is another once the seal is closed before it begins.
type sealed struct {
	http.ResponseWriter
	seal *seal
	// begun says that the answer has, and replaced that it is the other one.
	begun, replaced bool
}

func (s *sealed) WriteHeader(status int) {
	if s.begin(); !s.replaced {
		s.begun = status >= http.StatusOK
		s.ResponseWriter.WriteHeader(status)
	}
}

func (s *sealed) begin() {
	if s.begun || !s.seal.closed.Load() {
		return
	}
	s.begun, s.replaced = true, true
	for name := range s.Header() {
		if name != requestIDHeader {
			s.Header().Del(name)
		}
	}
	refuseRestoring(s.ResponseWriter, "a backup is being restored, which may replace what was asked for")
}

func (s *sealed) Write(b []byte) (int, error) {
	if s.begin(); s.replaced {
		return len(b), nil
	}
	s.begun = true
	return s.ResponseWriter.Write(b)
}

// FlushError begins the answer too.
func (s *sealed) FlushError() error {
	s.begin()
	s.begun = true
	return http.NewResponseController(s.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach what it needs.
func (s *sealed) Unwrap() http.ResponseWriter { return s.ResponseWriter }
