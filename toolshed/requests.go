package toolshed

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// requestIDHeader names a request, in its answer and in the log.
const requestIDHeader = "Shed-Request-Id"

var validRequestID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// named gives each request an id: the caller's own where it is well-formed.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !validRequestID.MatchString(id) {
			var b [12]byte
			rand.Read(b[:]) //nolint:errcheck // it ends the process rather than fail
			id = hex.EncodeToString(b[:])
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(mount.WithRequestID(r.Context(), id)))
	})
}

// answer is how a request ended.
type answer struct {
	// status is 0 where there was no answer.
	status int
	// api is whose it was; nil for nobody's.
	api *mount.Mount
	// received and sent are bytes of bodies.
	received, sent int64
}

// watcher is told of a request with the program's own pattern for it, and at its
// end, by what it answers, how it ended.
type watcher func(r *http.Request, pattern string) (end func(answer))

// logged writes one line a request with nothing in it that the owner sent: the
// route is the program's own pattern. A handler that panics is a 500.
func logged(next http.Handler, route func(*http.Request) string, log *zap.Logger, watchers ...watcher) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		pattern := route(r)
		body := arrive(w, r)
		rec := &recorder{ResponseWriter: w, begin: body.leave}
		defer body.leave()
		r, seen := mount.Watch(r)
		defer watch(r, pattern, watchers)(func() answer {
			return answer{status: rec.status, api: seen.Mount, received: body.read.Load(), sent: rec.sent}
		})
		fields := func() []zap.Field {
			return []zap.Field{
				zap.String("request", w.Header().Get(requestIDHeader)), zap.String("route", pattern),
				zap.Int("status", rec.status), zap.Duration("took", time.Since(started)),
			}
		}
		defer func() {
			p := recover()
			fault, _ := p.(error)
			switch {
			case p == nil:
				if r.URL.Path != healthPath || rec.status >= http.StatusBadRequest {
					log.Info("request", fields()...)
				}
			case errors.Is(fault, http.ErrAbortHandler) || rec.status != 0:
				// The answer has begun: it is cut off rather than ended.
				log.Warn("request cut off", fields()...)
				panic(http.ErrAbortHandler)
			default:
				problem.Of(http.StatusInternalServerError, "this toolshed has a fault").Write(rec)
				// What was panicked with may hold what the owner sent.
				log.Error("request panicked", append(fields(), zap.StackSkip("stack", 2))...)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// watch tells each watcher that a request begins, and answers how to tell them
// that it ended.
func watch(r *http.Request, pattern string, watchers []watcher) (end func(ended func() answer)) {
	ends := make([]func(answer), len(watchers))
	for i, begin := range watchers {
		ends[i] = begin(r, pattern)
	}
	return func(ended func() answer) {
		a := ended()
		for _, end := range ends {
			end(a)
		}
	}
}

// count adds a request to the traffic of the API whose it was.
func count(*http.Request, string) func(answer) {
	return func(a answer) {
		if a.api != nil {
			a.api.Count(a.received, a.sent)
		}
	}
}

// recorder notes the status of an answer, 0 until it begins, and its bytes.
type recorder struct {
	http.ResponseWriter
	status int
	sent   int64
	// begin is called before the answer begins, when net/http reads what is left
	// of the body.
	begin func()
}

func (r *recorder) WriteHeader(status int) {
	r.note(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) note(status int) {
	if r.status < http.StatusOK {
		r.status = status
		r.begin()
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.note(http.StatusOK)
	n, err := r.ResponseWriter.Write(b)
	r.sent += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach what it needs.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
