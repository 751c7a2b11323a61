package transcribe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// ScopeRead is the scope of this API.
const ScopeRead auth.Scope = "transcribe:read"

// Limits is what this API takes: each audio is held in memory.
var Limits = mount.Limits{BodyBytes: MaxBytes, InFlight: 4, Lasting: 4}

// Register puts engines, by their configured names, on an API's place. The
// first is the one where a request names none; it may be empty.
func Register(m *mount.Mount, engines map[string]Engine, first string) {
	h := handlers{engines: engines, first: first}
	h.registerPage(m)
	content := map[string]*huma.MediaType{}
	for _, t := range slices.Sorted(maps.Keys(Types)) {
		content[t] = &huma.MediaType{Schema: &huma.Schema{Type: "string", Format: "binary"}}
	}
	huma.Register(m.API, mount.Lasting(huma.Operation{
		OperationID: "transcribe", Method: http.MethodPost, Path: "/api/ai/transcribe", Tags: []string{"transcribe"},
		Summary: "Turn speech into text with times", Security: auth.Needs(ScopeRead), RejectUnknownQueryParameters: true,
		MaxBodyBytes: MaxBytes, SkipValidateBody: true,
		RequestBody: &huma.RequestBody{Description: fmt.Sprintf("the audio, at most %d bytes", MaxBytes), Required: true, Content: content},
		Errors: []int{
			http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		},
		Responses: map[string]*huma.Response{"200": {
			Description: "The transcript, as format says",
			Content: map[string]*huma.MediaType{
				"application/json":     {Schema: m.API.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[shown](), true, "")},
				"text/plain":           {Schema: &huma.Schema{Type: "string"}},
				"application/x-subrip": {Schema: &huma.Schema{Type: "string"}},
				"text/vtt":             {Schema: &huma.Schema{Type: "string"}},
			},
		}},
	}), h.transcribe)
	huma.Register(m.API, huma.Operation{
		OperationID: "transcribe-engines", Method: http.MethodGet, Path: "/api/ai/transcribe/engines", Tags: []string{"transcribe"},
		Summary: "List the engines", Security: auth.Needs(ScopeRead),
	}, h.list)
}

type handlers struct {
	engines map[string]Engine
	first   string
}

type input struct {
	ContentType string `header:"Content-Type"`
	Engine      string `query:"engine" maxLength:"256" doc:"ENGINE or ENGINE/MODEL; the configuration's first where it is missing"`
	Language    string `query:"language" maxLength:"16" doc:"as in en; the engine finds out where it is missing"`
	Prompt      string `query:"prompt" maxLength:"4096" doc:"words that are to be expected"`
	Format      string `query:"format" enum:"json,text,srt,vtt" default:"json"`
	RawBody     []byte
}

type shownSpan struct {
	Start      float64 `json:"start" doc:"in seconds from the beginning"`
	End        float64 `json:"end"`
	Text       string  `json:"text"`
	Confidence float64 `json:"confidence,omitempty" doc:"between 0 and 1, where it is known"`
}

type shown struct {
	Text     string      `json:"text"`
	Language string      `json:"language,omitempty"`
	Duration float64     `json:"duration" doc:"in seconds"`
	Segments []shownSpan `json:"segments"`
	Words    []shownSpan `json:"words,omitempty"`
}

func show(spans []Span) []shownSpan {
	all := make([]shownSpan, 0, len(spans))
	for _, s := range spans {
		all = append(all, shownSpan{Start: s.Start.Seconds(), End: s.End.Seconds(), Text: s.Text, Confidence: s.Confidence})
	}
	return all
}

type output struct {
	ContentType string `header:"Content-Type"`
	Body        any
}

func (h handlers) transcribe(ctx context.Context, in *input) (*output, error) {
	t, err := h.heard(ctx, in)
	if err != nil {
		return nil, err
	}
	return formatted(t, in.Format), nil
}

func (h handlers) heard(ctx context.Context, in *input) (*Transcript, error) {
	kind, _, err := mime.ParseMediaType(in.ContentType)
	if err != nil || Types[kind] == "" {
		return nil, problem.Of(http.StatusUnsupportedMediaType, "content-type: want one of "+strings.Join(slices.Sorted(maps.Keys(Types)), ", "))
	}
	if len(in.RawBody) == 0 {
		return nil, problem.Of(http.StatusUnprocessableEntity, "body: there is no audio")
	}
	name, model, _ := strings.Cut(in.Engine, "/")
	if name == "" {
		name = h.first
	}
	engine := h.engines[name]
	if engine == nil {
		return nil, problem.New(http.StatusNotFound, "no-engine", fmt.Sprintf("engine: %v: %.64q; there are %s", ErrNoEngine, name, strings.Join(slices.Sorted(maps.Keys(h.engines)), ", ")))
	}
	t, err := engine.Transcribe(ctx, Audio{MediaType: kind, Bytes: in.RawBody}, Options{Model: model, Language: in.Language, Prompt: in.Prompt})
	if err != nil {
		return nil, refusal(err)
	}
	return t, nil
}

func formatted(t *Transcript, format string) *output {
	switch format {
	case "text":
		return &output{ContentType: "text/plain; charset=utf-8", Body: []byte(t.Text + "\n")}
	case "srt":
		return &output{ContentType: "application/x-subrip; charset=utf-8", Body: []byte(t.SRT())}
	case "vtt":
		return &output{ContentType: "text/vtt; charset=utf-8", Body: []byte(t.VTT())}
	}
	return &output{ContentType: "application/json", Body: &shown{
		Text: t.Text, Language: t.Language, Duration: t.Duration.Seconds(), Segments: show(t.Segments), Words: show(t.Words),
	}}
}

type enginesOutput struct {
	Body struct {
		Engines []string `json:"engines"`
		First   string   `json:"first,omitempty" doc:"the one where a request names none"`
	}
}

func (h handlers) list(context.Context, *struct{}) (*enginesOutput, error) {
	out := &enginesOutput{}
	out.Body.Engines, out.Body.First = append([]string{}, slices.Sorted(maps.Keys(h.engines))...), h.first
	return out, nil
}

// refusal says whose fault it is.
func refusal(err error) error {
	if p := upstream.Answer(err, "engine"); p != nil {
		return p
	}
	switch {
	case errors.Is(err, ErrAudio):
		return problem.New(http.StatusUnprocessableEntity, "bad-audio", "body: "+err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return problem.New(http.StatusGatewayTimeout, "engine-slow", "the engine takes too long")
	}
	return problem.Of(http.StatusInternalServerError, "transcribing failed: "+err.Error())
}
