// Package openai asks whoever speaks OpenAI's chat completions: OpenAI, Ollama,
// llama.cpp, vLLM and others, by OpenAI's own client.
//
// Invariants: every answer is asked for as a stream, so that a caller who goes
// away ends it; an answer without a reason for its end is none. The client's
// services are made one by one: all of them would double the program
// (docs/decisions/0045).
package openai

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/internal/wire"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Provider is one endpoint.
type Provider struct {
	chats  openai.ChatCompletionService
	models openai.ModelService
}

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before
// /chat/completions. key is empty where it wants none.
func New(base, key string, client *http.Client) *Provider {
	options := []option.RequestOption{
		option.WithBaseURL(base), option.WithHTTPClient(wire.Client{HTTP: client}), option.WithMaxRetries(0),
	}
	if key != "" {
		options = append(options, option.WithAPIKey(key))
	}
	return &Provider{chats: openai.NewChatCompletionService(options...), models: openai.NewModelService(options...)}
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	answer := p.chats.NewStreaming(ctx, encode(r))
	defer answer.Close() //nolint:errcheck // what was read of it counts
	finished := false
	for answer.Next() {
		ended, err := pass(answer.Current(), emit)
		if err != nil {
			return err
		}
		finished = finished || ended
	}
	if err := answer.Err(); err != nil {
		return wire.Fault(ctx, err)
	}
	if !finished {
		return upstream.Breaks("the answer ended without a reason")
	}
	return nil
}

// pass passes the parts of one event on, and says whether one was the last.
func pass(c openai.ChatCompletionChunk, emit func(llm.Event) error) (ended bool, err error) {
	var events []llm.Event
	for _, choice := range c.Choices {
		// One answer was asked for.
		if choice.Index != 0 {
			continue
		}
		events = append(events, parts(choice.Delta)...)
		if choice.FinishReason != "" {
			ended = true
			events = append(events, llm.Event{Finish: finish(choice.FinishReason)})
		}
	}
	if c.JSON.Usage.Valid() {
		u := c.Usage
		events = append(events, llm.Event{Usage: &llm.Usage{
			Input: u.PromptTokens, Output: u.CompletionTokens, Cached: u.PromptTokensDetails.CachedTokens,
		}})
	}
	for _, e := range events {
		if err := emit(e); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// parts are what is new in an answer.
func parts(d openai.ChatCompletionChunkChoiceDelta) (all []llm.Event) {
	if text := reasoning(d); text != "" {
		all = append(all, llm.Event{Reasoning: text})
	}
	if text := d.Content + d.Refusal; text != "" {
		all = append(all, llm.Event{Text: text})
	}
	for _, t := range d.ToolCalls {
		all = append(all, llm.Event{Tool: &llm.ToolPart{
			Index: int(t.Index), ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments,
		}})
	}
	return all
}

// reasoning is a field that llama.cpp, vLLM and others add to the protocol,
// under either name.
func reasoning(d openai.ChatCompletionChunkChoiceDelta) (text string) {
	for _, name := range []string{"reasoning_content", "reasoning"} {
		var part string
		if json.Unmarshal([]byte(d.JSON.ExtraFields[name].Raw()), &part) == nil {
			text += part
		}
	}
	return text
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
	list, err := p.models.List(ctx)
	if err != nil {
		return nil, wire.Fault(ctx, err)
	}
	var all []llm.Model
	for _, m := range list.Data {
		all = append(all, llm.Model{ID: m.ID, OwnedBy: m.OwnedBy})
	}
	return all, nil
}
