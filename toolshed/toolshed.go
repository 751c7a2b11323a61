// Package toolshed is the personal HTTP API that a machine runs for its owner.
//
// Invariants: the root routes and logs and does nothing else; each API is a
// package of its own; it knows nothing of machines, owners or proofs, so that
// any other server can take its place.
package toolshed

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// Version is the API's version, in its OpenAPI document.
const Version = "1.0.0"

// Handler routes to every API. The OpenAPI document is at /openapi.json.
func Handler(store *kv.Store, log *zap.Logger) http.Handler {
	problem.Install()
	mux := http.NewServeMux()
	config := huma.DefaultConfig("toolshed", Version)
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks = nil
	api := humago.New(mux, config)
	registerHealth(api)
	kv.Register(api, store)
	return logged(problem.Unrouted(mux), log)
}

// logged writes one line a request with nothing in it that the owner sent:
// the console is the host's to read.
func logged(next http.Handler, log *zap.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		if r.URL.Path == healthPath && rec.status == http.StatusOK {
			return
		}
		log.Info("request", zap.Int("status", rec.status), zap.Duration("took", time.Since(started)))
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach what it needs.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
