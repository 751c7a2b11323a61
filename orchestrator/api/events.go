package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// eventBatch is how many events are read at once.
const eventBatch = 500

type eventsInput struct {
	After    int64  `query:"after" doc:"the last event seen" minimum:"0"`
	Instance string `query:"instance" doc:"of one instance only" pattern:"^([a-z2-7]{26})?$"`
	Follow   bool   `query:"follow" doc:"go on until the client leaves"`
}

func (s *Server) events(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/events",
		Summary: "read the history, one JSON object a line",
	}, s.listEvents)
}

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/jsonl")
		w := flushing(c)
		if _, err := w.Write(nil); err != nil {
			return
		}
		if err := s.stream(ctx, json.NewEncoder(w), *in); err != nil && ctx.Err() == nil {
			s.Logger.Error("streaming events", zap.Error(err))
		}
	}}, nil
}

func (s *Server) stream(ctx context.Context, out *json.Encoder, in eventsInput) error {
	after := in.After
	for {
		// Taken before reading, so that no commit falls in between.
		changed := s.Watch.Changed()
		var batch []orchestrator.Event
		err := s.Store.View(ctx, func(v store.Reader) (err error) {
			batch, err = v.Events(after, orchestrator.InstanceID(in.Instance), eventBatch)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range batch {
			if err := out.Encode(viewEvent(e)); err != nil {
				return nil //nolint:nilerr // the client has left
			}
			after = e.ID
		}
		if len(batch) == eventBatch {
			continue
		}
		if !in.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
