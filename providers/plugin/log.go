package plugin

import (
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// hcLogger lets go-plugin write to the host's own log.
type hcLogger struct {
	zap     *zap.Logger
	name    string
	implied []any
}

var _ hclog.Logger = (*hcLogger)(nil)

// HCLogger adapts a zap logger for libraries that want hclog's.
func HCLogger(l *zap.Logger) hclog.Logger {
	return &hcLogger{zap: l.WithOptions(zap.AddCallerSkip(1))}
}

// levelOf maps hclog's levels; trace is zap's debug.
func levelOf(level hclog.Level) zapcore.Level {
	switch level {
	case hclog.Error:
		return zapcore.ErrorLevel
	case hclog.Warn:
		return zapcore.WarnLevel
	case hclog.Info, hclog.NoLevel:
		return zapcore.InfoLevel
	default:
		return zapcore.DebugLevel
	}
}

// fields pairs hclog's alternating arguments.
func fields(args []any) []zap.Field {
	out := make([]zap.Field, 0, (len(args)+1)/2)
	for len(args) > 1 {
		out = append(out, zap.Any(fmt.Sprint(args[0]), args[1]))
		args = args[2:]
	}
	if len(args) == 1 {
		out = append(out, zap.Any("extra", args[0]))
	}
	return out
}

func (l *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	if level == hclog.Off {
		return
	}
	if entry := l.zap.Check(levelOf(level), msg); entry != nil {
		entry.Write(fields(args)...)
	}
}

func (l *hcLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *hcLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *hcLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *hcLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *hcLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hcLogger) enabled(level hclog.Level) bool { return l.zap.Core().Enabled(levelOf(level)) }

func (l *hcLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *hcLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *hcLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *hcLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *hcLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *hcLogger) ImpliedArgs() []any { return l.implied }

func (l *hcLogger) With(args ...any) hclog.Logger {
	implied := append(append([]any{}, l.implied...), args...)
	return &hcLogger{zap: l.zap.With(fields(args)...), name: l.name, implied: implied}
}

func (l *hcLogger) Name() string { return l.name }

func (l *hcLogger) Named(name string) hclog.Logger {
	full := name
	if l.name != "" {
		full = l.name + "." + name
	}
	return &hcLogger{zap: l.zap.Named(name), name: full, implied: l.implied}
}

// ResetNamed differs from Named in the name reported alone: zap cannot take a
// name back.
func (l *hcLogger) ResetNamed(name string) hclog.Logger {
	return &hcLogger{zap: l.zap.Named(name), name: name, implied: l.implied}
}

// SetLevel does nothing: the host's log decides its own level.
func (l *hcLogger) SetLevel(hclog.Level) {}

func (l *hcLogger) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

func (l *hcLogger) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *hcLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

// lineWriter logs each write as one line.
type lineWriter struct{ logger *hcLogger }

func (w lineWriter) Write(b []byte) (int, error) {
	w.logger.Info(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
