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
	"time"

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
	// Patience bounds how long the reader has to take what is written; 0 is for
	// ever.
	Patience time.Duration

	w       http.ResponseWriter
	control *http.ResponseController
	events  bool
	begun   bool
}

// New is an answer that begins with the first thing that it sends: until then
// another can be given.
func New(w http.ResponseWriter, events bool) *Writer {
	return &Writer{w: w, control: http.NewResponseController(w), events: events}
}

// Begin begins the answer, in events where the caller's Accept has them.
func Begin(ctx huma.Context, accept string) *Writer {
	s := Of(ctx, strings.Contains(accept, Events))
	s.begin()
	return s
}

// Of is New for a typed operation.
func Of(ctx huma.Context, events bool) *Writer {
	_, w := humago.Unwrap(ctx)
	return New(w, events)
}

// Begun reports whether the answer has.
func (s *Writer) Begun() bool { return s.begun }

func (s *Writer) begin() {
	if s.begun {
		return
	}
	s.begun = true
	h := s.w.Header()
	h.Set("Content-Type", Lines)
	if s.events {
		h.Set("Content-Type", Events)
	}
	h.Set("Cache-Control", "no-store")
	// Some proxies keep what passes until there is more of it.
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
}

// Value sends a value. The error is that it cannot be encoded, or that the
// reader is gone.
func (s *Writer) Value(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding a value: %w", err)
	}
	return s.Text(string(b))
}

// Text sends what is a line already.
func (s *Writer) Text(line string) error {
	if s.events {
		return s.write("data: " + line + "\n\n")
	}
	return s.write(line + "\n")
}

// Event sends a value as an event with a name, and with an id where it has one,
// from which a reader can go on. The answer is one of events.
func (s *Writer) Event(id, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding an event: %w", err)
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	return s.write(fmt.Sprintf("%sevent: %s\ndata: %s\n\n", id, name, b))
}

// Retry says how long a reader of events waits before it comes again.
func (s *Writer) Retry(after time.Duration) error {
	return s.write(fmt.Sprintf("retry: %d\n\n", after.Milliseconds()))
}

// Idle says that nothing has come and that the answer goes on.
func (s *Writer) Idle() error {
	if s.events {
		return s.write(": still here\n\n")
	}
	return s.write("\n")
}

func (s *Writer) write(text string) error {
	s.begin()
	if s.Patience > 0 {
		// Where there are no deadlines, as in a test's recorder, there is nobody to
		// wait for either.
		_ = s.control.SetWriteDeadline(time.Now().Add(s.Patience))
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		return fmt.Errorf("passing a value on: %w", err)
	}
	return s.control.Flush()
}
