package toolshed

import "net/http"

// host is an origin of its own beside the root's.
type host struct {
	is      func(*http.Request) bool
	handler http.Handler
}

// byHost answers a request for another origin there, and for nothing of the
// root's: what a page of one origin may do on another the browser decides by
// the host.
func (r *Root) byHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for _, h := range r.hosts {
			if h.is(req) {
				h.handler.ServeHTTP(w, req)
				return
			}
		}
		next.ServeHTTP(w, req)
	})
}
