package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/mount"
)

// The media types of a stream.
const (
	mediaLines  = "application/x-ndjson"
	mediaEvents = "text/event-stream"
)

func streamOperation() huma.Operation {
	op := mount.Lasting(operation(ScopeWork, "queue-stream", http.MethodGet, base+"/{queue}/stream",
		"Lease messages as they come: an object a line, or a server-sent event, for each"))
	op.Responses = map[string]*huma.Response{"200": {
		Description: "the messages, at most max of them without an answer at once",
		Content:     map[string]*huma.MediaType{mediaLines: {}, mediaEvents: {}},
	}}
	return op
}

type streamInput struct {
	Queue  string `path:"queue" maxLength:"64"`
	Max    int    `query:"max" minimum:"1" maximum:"100" default:"1" doc:"how many may be without an answer at once"`
	Lease  string `query:"lease" doc:"how long the receipts are good, as 30s, which it is where it is missing"`
	Accept string `header:"Accept" doc:"text/event-stream for server-sent events"`
}

func (h handlers) stream(_ context.Context, in *streamInput) (*huma.StreamResponse, error) {
	lease, err := duration("lease", in.Lease, defaultLease)
	if err == nil {
		err = refusal(checkReceive(in.Queue, in.Max, lease))
	}
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		f := feed{w: ctx.BodyWriter(), flush: http.NewResponseController(w).Flush, events: strings.Contains(in.Accept, mediaEvents)}
		ctx.SetHeader("Content-Type", f.contentType())
		ctx.SetHeader("Cache-Control", "no-store")
		ctx.SetStatus(http.StatusOK)
		// Whoever is gone cannot be told; what they were given comes again.
		_ = h.kept.Stream(r.Context(), in.Queue, in.Max, lease, f.message, f.idle)
	}}, nil
}

// feed writes messages as lines or as server-sent events.
type feed struct {
	w      io.Writer
	flush  func() error
	events bool
}

func (f feed) contentType() string {
	if f.events {
		return mediaEvents
	}
	return mediaLines
}

func (f feed) message(m Message) error {
	b, err := json.Marshal(messageJSON(m, true))
	if err != nil {
		return fmt.Errorf("encoding a message: %w", err)
	}
	if f.events {
		return f.write("data: " + string(b) + "\n\n")
	}
	return f.write(string(b) + "\n")
}

func (f feed) idle() error {
	if f.events {
		return f.write(": still here\n\n")
	}
	return f.write("\n")
}

func (f feed) write(text string) error {
	if _, err := io.WriteString(f.w, text); err != nil {
		return fmt.Errorf("passing a message on: %w", err)
	}
	return f.flush()
}
