// Package stream answers with values as they come: a JSON object a line, or a
// server-sent event each.
//
// Invariants: a value is sent at once and whole; what is said while nothing
// comes means nothing to a reader of either form.
package stream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The media types of the two forms (ndjson.org; HTML standard, section 9.2).
const (
	Lines  = "application/x-ndjson"
	Events = "text/event-stream"
)

// Writer writes one answer.
type Writer struct {
	w      io.Writer
	flush  func() error
	events bool
}

// Begin begins the answer, in events where the caller's Accept has them.
func Begin(ctx huma.Context, accept string) *Writer {
	_, w := humago.Unwrap(ctx)
	s := &Writer{w: ctx.BodyWriter(), flush: http.NewResponseController(w).Flush, events: strings.Contains(accept, Events)}
	kind := Lines
	if s.events {
		kind = Events
	}
	ctx.SetHeader("Content-Type", kind)
	ctx.SetHeader("Cache-Control", "no-store")
	ctx.SetStatus(http.StatusOK)
	return s
}

// Value sends a value. The error is that it cannot be encoded, or that the
// reader is gone.
func (s *Writer) Value(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a value: %w", err)
	}
	if s.events {
		return s.write("data: " + string(b) + "\n\n")
	}
	return s.write(string(b) + "\n")
}

// Idle says that nothing has come and that the answer goes on.
func (s *Writer) Idle() error {
	if s.events {
		return s.write(": still here\n\n")
	}
	return s.write("\n")
}

func (s *Writer) write(text string) error {
	if _, err := io.WriteString(s.w, text); err != nil {
		return fmt.Errorf("passing a value on: %w", err)
	}
	return s.flush()
}
