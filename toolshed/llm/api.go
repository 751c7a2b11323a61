package llm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/stream"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// The scopes of this API.
const (
	ScopeChat auth.Scope = "llm:chat"
	ScopeRead auth.Scope = "llm:read"
)

// Limits is what this API takes: images come in the body.
var Limits = mount.Limits{BodyBytes: 32 << 20, InFlight: 16, Lasting: 32}

// Register puts the service on an API's place.
func Register(m *mount.Mount, s *Service) {
	m.Report(s)
	h := handlers{service: s}
	h.registerPage(m)
	failures := []int{
		http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}
	huma.Register(m.API, mount.Lasting(huma.Operation{
		OperationID: "llm-chat", Method: http.MethodPost, Path: "/api/ai/llm/chat", Tags: []string{"llm"}, Security: auth.Needs(ScopeChat),
		Summary: "Ask a language model; with stream: true the answer comes in parts, a JSON object a line", Errors: failures,
		Responses: map[string]*huma.Response{"200": {
			Description: "The answer, or its parts",
			Content: map[string]*huma.MediaType{
				"application/json":     {Schema: m.API.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[chatAnswer](), true, "")},
				"application/x-ndjson": {Schema: m.API.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[chatPart](), true, "")},
			},
		}},
	}), h.chat)
	huma.Register(m.API, huma.Operation{
		OperationID: "llm-models", Method: http.MethodGet, Path: "/api/ai/llm/models", Tags: []string{"llm"}, Security: auth.Needs(ScopeRead),
		Summary: "List the models, and the providers that do not answer",
	}, h.models)
	huma.Register(m.API, huma.Operation{
		OperationID: "llm-spent", Method: http.MethodGet, Path: "/api/ai/llm/spent", Tags: []string{"llm"}, Security: auth.Needs(ScopeRead),
		Summary: "What was spent, by day and model", RejectUnknownQueryParameters: true,
	}, h.spent)
	h.registerCompat(m)
}

type handlers struct{ service *Service }

type chatInput struct {
	Body chatRequest
}

// chatRequest is a chat in this API's own form.
type chatRequest struct {
	Model       string          `json:"model" minLength:"1" maxLength:"256" doc:"an alias, or PROVIDER/MODEL"`
	System      string          `json:"system,omitempty" doc:"what stands before all messages"`
	Messages    []wireMessage   `json:"messages" minItems:"1"`
	Tools       []Tool          `json:"tools,omitempty"`
	ToolChoice  string          `json:"tool_choice,omitempty" doc:"auto, none, required, or a tool's name"`
	Schema      json.RawMessage `json:"schema,omitempty" doc:"a JSON schema that the answer is to be of"`
	MaxTokens   int             `json:"max_tokens,omitempty" minimum:"1"`
	Temperature *float64        `json:"temperature,omitempty" minimum:"0"`
	TopP        *float64        `json:"top_p,omitempty" minimum:"0" maximum:"1"`
	Stop        []string        `json:"stop,omitempty" maxItems:"16"`
	Seed        *int64          `json:"seed,omitempty"`
	Stream      bool            `json:"stream,omitempty"`
	Cache       string          `json:"cache,omitempty" doc:"how long to keep the answer for the same request, and how old an answer may be, as in 24h"`
}

// request is the request in its inner form. The error is a *upstream.RequestError.
func (c *chatRequest) request() (r Request, keep time.Duration, err error) {
	r = Request{
		Model: c.Model, Tools: c.Tools, MaxTokens: c.MaxTokens, Temperature: c.Temperature, TopP: c.TopP, Stop: c.Stop, Seed: c.Seed,
	}
	if c.System != "" {
		r.Messages = append(r.Messages, Message{Role: System, Parts: []Part{{Text: c.System}}})
	}
	for i, m := range c.Messages {
		message, err := m.message("messages[" + strconv.Itoa(i) + "]")
		if err != nil {
			return r, 0, err
		}
		r.Messages = append(r.Messages, message)
	}
	r.Choice = Choice(c.ToolChoice)
	switch c.ToolChoice {
	case "auto", "none", "required":
		r.Choice = Choice(":" + c.ToolChoice)
	}
	if present(c.Schema) {
		r.Output = &Output{Name: "answer", Schema: c.Schema}
	}
	keep, err = parseKeep("cache", c.Cache)
	return r, keep, err
}

// maxKeep is how long an answer may be kept.
const maxKeep = 90 * 24 * time.Hour

func parseKeep(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxKeep {
		return 0, upstream.Refuse(field, "is %.32q, want a duration of at most %s, as in 24h", text, maxKeep)
	}
	return d, nil
}

// chatAnswer is an answer in this API's own form.
type chatAnswer struct {
	Model     string          `json:"model" doc:"who answered: PROVIDER/MODEL"`
	Text      string          `json:"text"`
	JSON      json.RawMessage `json:"json,omitempty" doc:"the text as JSON, where a schema was asked for"`
	Reasoning string          `json:"reasoning,omitempty"`
	ToolCalls []ToolCall      `json:"tool_calls,omitempty"`
	Finish    Finish          `json:"finish" enum:"stop,length,tool_calls,content_filter"`
	Usage     Usage           `json:"usage"`
	Cost      float64         `json:"cost" doc:"in the currency of the configured prices"`
	Kept      bool            `json:"kept,omitempty" doc:"this is an earlier answer to the same request"`
}

func answerOf(said *Said, r Request) *chatAnswer {
	a := &chatAnswer{
		Model: said.Target.String(), Text: said.Text, Reasoning: said.Reasoning, ToolCalls: said.ToolCalls,
		Finish: said.Finish, Usage: said.Usage, Cost: float64(said.Cost) / 1e6, Kept: said.Kept,
	}
	if r.Output != nil && json.Valid([]byte(said.Text)) {
		a.JSON = json.RawMessage(said.Text)
	}
	return a
}

// chatPart is one line of a streamed answer: one field is set.
type chatPart struct {
	Text      string           `json:"text,omitempty"`
	Reasoning string           `json:"reasoning,omitempty"`
	Tool      *chatToolPart    `json:"tool,omitempty"`
	Done      *chatAnswer      `json:"done,omitempty" doc:"the last line: the whole answer"`
	Error     *problem.Problem `json:"error,omitempty" doc:"the last line, in place of done"`
}

type chatToolPart struct {
	Index     int    `json:"index"`
	ID        string `json:"id,omitempty"`
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments,omitempty"`
}

func (h handlers) chat(_ context.Context, in *chatInput) (*huma.StreamResponse, error) {
	r, keep, err := in.Body.request()
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		return nil, problemOf(err)
	}
	if in.Body.Stream {
		return &huma.StreamResponse{Body: func(ctx huma.Context) { h.stream(ctx, r, keep) }}, nil
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		said, err := h.service.Chat(ctx.Context(), r, keep, nil)
		if err != nil {
			writeProblem(ctx, err)
			return
		}
		ctx.SetHeader("Content-Type", "application/json")
		// A caller who is gone cannot be told.
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(answerOf(said, r))
	}}, nil
}

// stream writes an answer as it comes, a line each. What fails before the first
// line is a status, what fails after it a last line.
func (h handlers) stream(ctx huma.Context, r Request, keep time.Duration) {
	lines := stream.Of(ctx, false)
	said, err := h.service.Chat(ctx.Context(), r, keep, func(e Event) error {
		part := chatPart{Text: e.Text, Reasoning: e.Reasoning}
		switch {
		case e.Tool != nil:
			part.Tool = &chatToolPart{Index: e.Tool.Index, ID: e.Tool.ID, Name: e.Tool.Name, Arguments: e.Tool.Arguments}
		case e.Text == "" && e.Reasoning == "":
			return nil
		}
		return lines.Value(part)
	})
	switch {
	case err != nil && !lines.Begun():
		writeProblem(ctx, err)
	case err != nil:
		_ = lines.Value(chatPart{Error: problemOf(err)})
	default:
		_ = lines.Value(chatPart{Done: answerOf(said, r)})
	}
}

type modelsOutput struct {
	Body struct {
		Models []Found           `json:"models"`
		Failed map[string]string `json:"failed,omitempty" doc:"the providers that did not answer, with why"`
	}
}

func (h handlers) models(ctx context.Context, _ *struct{}) (*modelsOutput, error) {
	all, failed := h.service.router.Models(ctx)
	out := &modelsOutput{}
	out.Body.Models = append([]Found{}, all...)
	for name, err := range failed {
		if out.Body.Failed == nil {
			out.Body.Failed = map[string]string{}
		}
		out.Body.Failed[name] = err.Error()
	}
	return out, nil
}

type spentInput struct {
	Days int `query:"days" minimum:"1" maximum:"3660" default:"31"`
}

type spentOutput struct {
	Body struct {
		Spent []Spent `json:"spent"`
	}
}

func (h handlers) spent(ctx context.Context, in *spentInput) (*spentOutput, error) {
	all, err := h.service.Accounts(ctx, h.service.now().AddDate(0, 0, 1-in.Days))
	if err != nil {
		return nil, problem.Of(http.StatusInternalServerError, err.Error())
	}
	out := &spentOutput{}
	out.Body.Spent = append([]Spent{}, all...)
	return out, nil
}

// problemOf says whose fault it is.
func problemOf(err error) *problem.Problem {
	if p := upstream.ProblemOf(err, "provider"); p != nil {
		return p
	}
	switch {
	case errors.Is(err, ErrNoModel):
		return problem.New(http.StatusNotFound, "no-model", "model: "+err.Error())
	case errors.Is(err, context.Canceled):
		return problem.New(http.StatusServiceUnavailable, "cancelled", "the request was given up")
	}
	return problem.Of(http.StatusInternalServerError, "answering failed: "+err.Error())
}

func writeProblem(ctx huma.Context, err error) {
	p := problemOf(err)
	ctx.SetHeader("Content-Type", problem.ContentType)
	if after := upstream.RetryAfter(err); after != "" {
		ctx.SetHeader("Retry-After", after)
	}
	ctx.SetStatus(p.Status)
	// A caller who is gone cannot be told.
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(p)
}
