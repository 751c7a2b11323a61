package translog

import (
	"errors"
	"net/http"
	"os"
	"strings"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/logtiles"
)

// Handler serves the log to anybody, as tiles (C2SP tlog-tiles). The checkpoint
// is the last that a quorum of witnesses has cosigned.
func (l *Log) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+logtiles.CheckpointPath, func(w http.ResponseWriter, _ *http.Request) {
		h := l.shown()
		if h.signed == nil {
			http.Error(w, ErrUnwitnessed.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(h.signed)
	})
	mux.HandleFunc("GET /tile/", l.serveTile)
	return mux
}

func (l *Log) serveTile(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	if !logtiles.IsPath(path) {
		http.NotFound(w, r)
		return
	}
	b, err := l.fetch(r.Context(), path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			l.Logger.Error("the log cannot be read", zap.Error(err))
		}
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	_, _ = w.Write(b)
}
