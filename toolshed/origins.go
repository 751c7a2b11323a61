package toolshed

import (
	"net"
	"net/http"
	"strings"
)

// origin serves content that is the owner's but not the toolshed's on hosts of
// its own, NAME.KIND.…, so that no page of it shares an origin with the API or
// with another's.
func (r *Root) origin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if name, of := r.ofOrigin(req.Host); of != nil {
			of(name).ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// ofOrigin is what a host names, and who serves it; nil for nobody.
func (r *Root) ofOrigin(host string) (name string, of func(string) http.Handler) {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	name, rest, _ := strings.Cut(strings.ToLower(host), ".")
	kind, _, _ := strings.Cut(rest, ".")
	if name == "" || kind == rest {
		return "", nil
	}
	return name, r.origins[kind]
}

// route is the program's own name for what a request asks, for the log.
func (r *Root) route(req *http.Request) string {
	if _, of := r.ofOrigin(req.Host); of != nil {
		return "origin"
	}
	_, pattern := r.mux.Handler(req)
	return pattern
}
