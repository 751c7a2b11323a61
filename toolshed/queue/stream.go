package queue

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/stream"
)

func streamOperation() huma.Operation {
	op := mount.Lasting(operation(ScopeWork, "queue-stream", http.MethodGet, base+"/{queue}/stream",
		"Lease messages as they come: an object a line, or a server-sent event, for each"))
	op.Responses = map[string]*huma.Response{"200": {
		Description: "the messages, at most max of them without an answer at once",
		Content:     map[string]*huma.MediaType{stream.Lines: {}, stream.Events: {}},
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
		out := stream.Begin(ctx, in.Accept)
		// Whoever is gone cannot be told; what they were given comes again.
		_ = h.kept.Stream(ctx.Context(), in.Queue, in.Max, lease, func(m Message) error { return out.Value(messageJSON(m, true)) }, out.Idle)
	}}, nil
}
