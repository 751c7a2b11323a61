package llm

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/stream"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// CacheHeader is cache for those who speak OpenAI's protocol.
const CacheHeader = "Shed-Cache"

// registerCompat puts what OpenAI's clients ask on the API's place.
func (h handlers) registerCompat(m *mount.Mount) {
	const base = "/api/ai/llm/v1"
	schemas := m.API.OpenAPI().Components.Schemas
	object := func() *huma.MediaType {
		return &huma.MediaType{Schema: &huma.Schema{Type: "object", AdditionalProperties: true}}
	}
	huma.Register(m.API, mount.Lasting(huma.Operation{
		OperationID: "llm-completions", Method: http.MethodPost, Path: base + "/chat/completions", Tags: []string{"llm"},
		Summary: "Ask a language model by OpenAI's protocol", Security: auth.Needs(ScopeChat),
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": object()}, Required: true}, SkipValidateBody: true,
		Responses: map[string]*huma.Response{
			"200": {Description: "A chat completion, or its chunks as server-sent events", Content: map[string]*huma.MediaType{
				"application/json": object(), "text/event-stream": {Schema: &huma.Schema{Type: "string"}},
			}},
			"default": {Description: "A refusal, in OpenAI's form but for the toolshed's own", Content: map[string]*huma.MediaType{
				"application/json":  {Schema: schemas.Schema(reflect.TypeFor[wireError](), true, "")},
				problem.ContentType: {Schema: schemas.Schema(reflect.TypeFor[problem.Problem](), true, "Problem")},
			}},
		},
	}), h.completions)
	huma.Register(m.API, huma.Operation{
		OperationID: "llm-completions-models", Method: http.MethodGet, Path: base + "/models", Tags: []string{"llm"},
		Summary: "List the models by OpenAI's protocol", Security: auth.Needs(ScopeRead),
	}, h.compatModels)
}

type completionsInput struct {
	Cache   string `header:"Shed-Cache" doc:"as cache in the API's own form"`
	RawBody []byte `contentType:"application/json"`
}

func (h handlers) completions(_ context.Context, in *completionsInput) (*huma.StreamResponse, error) {
	r, wire, err := parseWire(in.RawBody)
	var keep time.Duration
	if err == nil {
		keep, err = parseKeep(CacheHeader, in.Cache)
	}
	if err == nil {
		err = r.Check()
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		switch {
		case err != nil:
			writeWireError(ctx, err)
		case wire.Stream:
			h.streamCompletion(ctx, r, wire, keep)
		default:
			h.completion(ctx, r, keep)
		}
	}}, nil
}

func (h handlers) blank(ctx huma.Context, object, model string) completion {
	return completion{
		ID: "chatcmpl-" + mount.RequestID(ctx.Context()), Object: object, Created: h.service.now().Unix(), Model: model,
		Choices: []completionChoice{},
	}
}

func (h handlers) completion(ctx huma.Context, r Request, keep time.Duration) {
	said, err := h.service.Chat(ctx.Context(), r, keep, nil)
	if err != nil {
		writeWireError(ctx, err)
		return
	}
	c := h.blank(ctx, "chat.completion", r.Model)
	c.Choices, c.Usage = append(c.Choices, whole(&said.Answer)), usageOf(said.Usage)
	ctx.SetHeader("Content-Type", "application/json")
	// A caller who is gone cannot be told.
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(c)
}

func (h handlers) streamCompletion(ctx huma.Context, r Request, wire wireRequest, keep time.Duration) {
	events := stream.Of(ctx, true)
	chunk := h.blank(ctx, "chat.completion.chunk", r.Model)
	role := string(Assistant)
	said, err := h.service.Chat(ctx.Context(), r, keep, func(e Event) error {
		choice, ok := part(e)
		if !ok {
			return nil
		}
		// The first chunk says who speaks.
		choice.Delta.Role, role = role, ""
		next := chunk
		next.Choices = []completionChoice{choice}
		return events.Value(next)
	})
	if err != nil {
		if !events.Begun() {
			writeWireError(ctx, err)
			return
		}
		_ = events.Value(wireErrorOf(err))
		return
	}
	if wire.StreamOptions.IncludeUsage {
		last := chunk
		last.Usage = usageOf(said.Usage)
		_ = events.Value(last)
	}
	_ = events.Text("[DONE]")
}

// wireError is an error in OpenAI's form.
type wireError struct {
	Error struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    string `json:"code"`
	} `json:"error"`
}

func wireErrorOf(err error) (e wireError) {
	p := problemOf(err)
	e.Error.Message, e.Error.Code, e.Error.Type = p.Detail, p.Code, "server_error"
	if p.Status < 500 {
		e.Error.Type = "invalid_request_error"
	}
	return e
}

func writeWireError(ctx huma.Context, err error) {
	ctx.SetHeader("Content-Type", "application/json")
	if after := upstream.RetryAfter(err); after != "" {
		ctx.SetHeader("Retry-After", after)
	}
	ctx.SetStatus(problemOf(err).Status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(wireErrorOf(err))
}

type compatModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type compatModelsOutput struct {
	Body struct {
		Object string        `json:"object"`
		Data   []compatModel `json:"data"`
	}
}

func (h handlers) compatModels(ctx context.Context, _ *struct{}) (*compatModelsOutput, error) {
	all, _ := h.service.router.Models(ctx)
	out := &compatModelsOutput{}
	out.Body.Object, out.Body.Data = "list", []compatModel{}
	for _, m := range all {
		out.Body.Data = append(out.Body.Data, compatModel{ID: m.ID, Object: "model", OwnedBy: cmp.Or(m.OwnedBy, m.Provider)})
	}
	return out, nil
}
