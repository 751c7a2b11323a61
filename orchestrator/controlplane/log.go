package controlplane

import (
	"bytes"
	"context"
	"log/slog"

	"go.uber.org/zap"
)

// queueLogger gives the queue, which speaks slog, a way into our log. What it
// says below a warning is for its own makers.
func queueLogger(l *zap.Logger) *slog.Logger { return slog.New(slogToZap{l.Named("queue")}) }

type slogToZap struct{ log *zap.Logger }

var _ slog.Handler = slogToZap{}

// Enabled implements slog.Handler.
func (slogToZap) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler.
func (h slogToZap) Handle(_ context.Context, r slog.Record) error {
	fields := make([]zap.Field, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		fields = append(fields, zap.Any(a.Key, a.Value.Any()))
		return true
	})
	if r.Level >= slog.LevelError {
		h.log.Error(r.Message, fields...)
		return nil
	}
	h.log.Warn(r.Message, fields...)
	return nil
}

// WithAttrs implements slog.Handler.
func (h slogToZap) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make([]zap.Field, 0, len(attrs))
	for _, a := range attrs {
		fields = append(fields, zap.Any(a.Key, a.Value.Any()))
	}
	return slogToZap{h.log.With(fields...)}
}

// WithGroup implements slog.Handler.
func (h slogToZap) WithGroup(name string) slog.Handler {
	return slogToZap{h.log.With(zap.Namespace(name))}
}

// zapWriter takes what the HTTP servers say of broken connections.
type zapWriter struct{ log *zap.Logger }

func (w zapWriter) Write(b []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(b)))
	return len(b), nil
}
