// Package openai asks whoever speaks OpenAI's chat completions: OpenAI, Ollama,
// llama.cpp, vLLM and others.
//
// Invariants: the official client carries the protocol and never tries again by
// itself; every answer is asked for as a stream, so that a caller who goes away
// ends it.
package openai

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"

	"github.com/toolshed-cloud/shed/toolshed/llm"
)

// Provider is one endpoint.
type Provider struct{ client openai.Client }

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before
// /chat/completions. key is empty where it wants none.
func New(base, key string, client *http.Client) *Provider {
	options := []option.RequestOption{option.WithBaseURL(base), option.WithHTTPClient(client), option.WithMaxRetries(0)}
	if key != "" {
		options = append(options, option.WithAPIKey(key))
	} else {
		// The client would take one from the environment.
		options = append(options, option.WithHeaderDel("Authorization"))
	}
	return &Provider{client: openai.Client{
		Options: options, Chat: openai.NewChatService(options...), Models: openai.NewModelService(options...),
	}}
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	stream := p.client.Chat.Completions.NewStreaming(ctx, param.Override[openai.ChatCompletionNewParams](body))
	defer stream.Close() //nolint:errcheck // the answer is over
	finished := false
	for stream.Next() {
		chunk := stream.Current()
		for _, choice := range chunk.Choices {
			if choice.Index != 0 {
				continue
			}
			if err := pass(choice, emit); err != nil {
				return err
			}
			finished = finished || choice.FinishReason != ""
		}
		if u := chunk.Usage; u.TotalTokens > 0 {
			usage := llm.Usage{Input: u.PromptTokens, Output: u.CompletionTokens, Cached: u.PromptTokensDetails.CachedTokens}
			if err := emit(llm.Event{Usage: &usage}); err != nil {
				return err
			}
		}
	}
	if err := stream.Err(); err != nil {
		return upstream(ctx, err)
	}
	if !finished {
		return &llm.UpstreamError{Kind: llm.KindBroken, Err: errors.New("the answer ended without a reason")}
	}
	return nil
}

// pass passes the parts of one chunk on.
func pass(choice openai.ChatCompletionChunkChoice, emit func(llm.Event) error) error {
	delta := choice.Delta
	var events []llm.Event
	if text := reasoning(delta); text != "" {
		events = append(events, llm.Event{Reasoning: text})
	}
	if text := delta.Content + delta.Refusal; text != "" {
		events = append(events, llm.Event{Text: text})
	}
	for _, t := range delta.ToolCalls {
		events = append(events, llm.Event{Tool: &llm.ToolPart{
			Index: int(t.Index), ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments,
		}})
	}
	if choice.FinishReason != "" {
		events = append(events, llm.Event{Finish: finish(choice.FinishReason)})
	}
	for _, e := range events {
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// reasoning is a field that llama.cpp, vLLM and others add to the protocol.
func reasoning(delta openai.ChatCompletionChunkChoiceDelta) string {
	for _, name := range []string{"reasoning_content", "reasoning"} {
		if f, ok := delta.JSON.ExtraFields[name]; ok {
			var text string
			if json.Unmarshal([]byte(f.Raw()), &text) == nil {
				return text
			}
		}
	}
	return ""
}

func finish(reason string) llm.Finish {
	switch f := llm.Finish(reason); f {
	case llm.FinishLength, llm.FinishTools, llm.FinishFilter:
		return f
	case "function_call":
		return llm.FinishTools
	}
	return llm.FinishStop
}

// Models lists the endpoint's models.
func (p *Provider) Models(ctx context.Context) ([]llm.Model, error) {
	page, err := p.client.Models.List(ctx)
	if err != nil {
		return nil, upstream(ctx, err)
	}
	var all []llm.Model
	for _, m := range page.Data {
		all = append(all, llm.Model{ID: m.ID, OwnedBy: m.OwnedBy})
	}
	return all, nil
}

// upstream tells apart what can be wrong.
func upstream(ctx context.Context, err error) error {
	var said *openai.Error
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &said) && said.Response != nil:
		return llm.OfStatus(said.StatusCode, retryAfter(said.Response.Header), said.Message)
	case errors.As(err, &timeout) && timeout.Timeout():
		return &llm.UpstreamError{Kind: llm.KindSlow, Err: err}
	case isSyntax(err):
		return &llm.UpstreamError{Kind: llm.KindBroken, Err: err}
	case isNetwork(err):
		return &llm.UpstreamError{Kind: llm.KindUnreachable, Err: err}
	}
	// An error in the midst of a stream.
	return &llm.UpstreamError{Kind: llm.KindFailed, Err: err}
}

func isNetwork(err error) bool {
	var request *url.Error
	var operation *net.OpError
	return errors.As(err, &request) || errors.As(err, &operation) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &typ)
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64)
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// encode is the request in OpenAI's form.
func encode(r llm.Request) (json.RawMessage, error) {
	body := map[string]any{}
	for name, raw := range r.Extra {
		body[name] = raw
	}
	maps.Copy(body, map[string]any{
		"model": r.Model, "messages": messages(r.Messages), "stream": true, "stream_options": map[string]bool{"include_usage": true},
	})
	set := func(name string, present bool, value any) {
		if present {
			body[name] = value
		}
	}
	set("tools", len(r.Tools) > 0, tools(r.Tools))
	set("tool_choice", r.Choice != "", choice(r.Choice))
	set("response_format", r.Output != nil, format(r.Output))
	// Servers other than OpenAI's know the older name alone.
	set("max_tokens", r.MaxTokens > 0, r.MaxTokens)
	set("temperature", r.Temperature != nil, r.Temperature)
	set("top_p", r.TopP != nil, r.TopP)
	set("stop", len(r.Stop) > 0, r.Stop)
	set("seed", r.Seed != nil, r.Seed)
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, &llm.RequestError{Err: fmt.Errorf("encoding the request: %w", err)}
	}
	return encoded, nil
}

func messages(all []llm.Message) []map[string]any {
	encoded := make([]map[string]any, 0, len(all))
	for _, m := range all {
		e := map[string]any{"role": m.Role, "content": content(m)}
		if m.ToolCallID != "" {
			e["tool_call_id"] = m.ToolCallID
		}
		if len(m.ToolCalls) > 0 {
			var calls []map[string]any
			for _, c := range m.ToolCalls {
				calls = append(calls, map[string]any{
					"id": c.ID, "type": "function", "function": map[string]string{"name": c.Name, "arguments": c.Arguments},
				})
			}
			e["tool_calls"] = calls
		}
		encoded = append(encoded, e)
	}
	return encoded
}

// content is a text where there is nothing but text, which every server knows.
func content(m llm.Message) any {
	parts := make([]map[string]any, 0, len(m.Parts))
	plain := true
	for _, p := range m.Parts {
		if p.Image == nil {
			parts = append(parts, map[string]any{"type": "text", "text": p.Text})
			continue
		}
		plain = false
		image := map[string]string{"url": p.Image.URL}
		if p.Image.URL == "" {
			image["url"] = "data:" + p.Image.MediaType + ";base64," + base64.StdEncoding.EncodeToString(p.Image.Data)
		}
		if p.Image.Detail != "" {
			image["detail"] = p.Image.Detail
		}
		parts = append(parts, map[string]any{"type": "image_url", "image_url": image})
	}
	if plain {
		return m.Text()
	}
	return parts
}

func tools(all []llm.Tool) []map[string]any {
	var encoded []map[string]any
	for _, t := range all {
		encoded = append(encoded, map[string]any{"type": "function", "function": t})
	}
	return encoded
}

func choice(c llm.Choice) any {
	switch c {
	case llm.ChoiceAuto, llm.ChoiceNone, llm.ChoiceRequired:
		return string(c[1:])
	}
	return map[string]any{"type": "function", "function": map[string]string{"name": string(c)}}
}

func format(o *llm.Output) any {
	if o == nil || o.Schema == nil {
		return map[string]string{"type": "json_object"}
	}
	return map[string]any{
		"type": "json_schema", "json_schema": map[string]any{"name": o.Name, "schema": o.Schema, "strict": true},
	}
}
