package toolshed

import (
	"net"
	"net/http"
	"strings"
)

// originOf is who answers for a request to another origin than the root's; nil
// where it is none of theirs.
type originOf func(*http.Request) http.Handler

// origin serves content that is the owner's but not the toolshed's on hosts of
// its own, so that no page of it shares an origin with the API or with another
// page: what a page may do on another the browser decides by the host.
func (r *Root) origin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if h := r.ofOrigin(req); h != nil {
			h.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

func (r *Root) ofOrigin(req *http.Request) http.Handler {
	for _, of := range r.origins {
		if h := of(req); h != nil {
			return h
		}
	}
	return nil
}

// ofKind answers for hosts NAME.KIND.….
func ofKind(kind string, serve func(name string) http.Handler) originOf {
	return func(req *http.Request) http.Handler {
		host := req.Host
		if bare, _, err := net.SplitHostPort(host); err == nil {
			host = bare
		}
		name, rest, _ := strings.Cut(strings.ToLower(host), ".")
		if is, _, more := strings.Cut(rest, "."); name == "" || is != kind || !more {
			return nil
		}
		return serve(name)
	}
}

// route is the program's own name for what a request asks, for the log.
func (r *Root) route(req *http.Request) string {
	if r.ofOrigin(req) != nil {
		return "origin"
	}
	_, pattern := r.mux.Handler(req)
	return pattern
}
