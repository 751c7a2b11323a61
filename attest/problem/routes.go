package problem

import "net/http"

// Routes answers what a mux has no route for with problems: 404, or 405 with
// the methods that the path takes.
func Routes(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refusal, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// What the mux would say: it alone knows the methods.
		said := headerOnly{http.Header{}}
		refusal.ServeHTTP(said, r)
		if allow := said.Header().Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			New(http.StatusMethodNotAllowed, "method-not-allowed", "this path takes "+allow).Write(w)
			return
		}
		NotFound(w, r)
	})
}

// headerOnly takes an answer of which only the header is of interest.
type headerOnly struct{ header http.Header }

func (h headerOnly) Header() http.Header         { return h.header }
func (h headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headerOnly) WriteHeader(int)             {}
