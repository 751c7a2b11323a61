// Package openai asks whoever speaks OpenAI's chat completions: OpenAI, Ollama,
// llama.cpp, vLLM and others.
//
// Invariants: every answer is asked for as a stream, so that a caller who goes
// away ends it; an answer without a reason for its end is none. The official
// client is not linked, for its size (docs/decisions/0045).
package openai

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/internal/wire"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Provider is one endpoint.
type Provider struct{ endpoint wire.Endpoint }

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before
// /chat/completions. key is empty where it wants none.
func New(base, key string, client *http.Client) *Provider {
	header := http.Header{}
	if key != "" {
		header.Set("Authorization", "Bearer "+key)
	}
	return &Provider{endpoint: wire.Endpoint{Base: base, Header: header, Client: client}}
}

// chunk is one event of an answer.
type chunk struct {
	Choices []struct {
		Index        int     `json:"index"`
		Delta        delta   `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
		Details    struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// delta is what is new in it. The reasoning is a field that llama.cpp, vLLM and
// others add to the protocol, under either name.
type delta struct {
	Content          string `json:"content"`
	Refusal          string `json:"refusal"`
	ReasoningContent string `json:"reasoning_content"`
	Reasoning        string `json:"reasoning"`
	ToolCalls        []struct {
		Index    int    `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	finished := false
	err = p.endpoint.Stream(ctx, "/chat/completions", body, func(data []byte) (bool, error) {
		if string(data) == "[DONE]" {
			return true, nil
		}
		var c chunk
		if err := json.Unmarshal(data, &c); err != nil {
			return false, upstream.Breaks("an event: %w", err)
		}
		if c.Error != nil {
			return false, &upstream.Error{Kind: upstream.Failed, Err: errors.New(c.Error.Message)}
		}
		ended, err := pass(c, emit)
		finished = finished || ended
		return false, err
	})
	if err == nil && !finished {
		return upstream.Breaks("the answer ended without a reason")
	}
	return err
}

// pass passes the parts of one event on, and says whether one was the last.
func pass(c chunk, emit func(llm.Event) error) (ended bool, err error) {
	var events []llm.Event
	for _, choice := range c.Choices {
		// One answer was asked for.
		if choice.Index != 0 {
			continue
		}
		events = append(events, choice.Delta.events()...)
		if choice.FinishReason != nil && *choice.FinishReason != "" {
			ended = true
			events = append(events, llm.Event{Finish: finish(*choice.FinishReason)})
		}
	}
	if u := c.Usage; u != nil {
		events = append(events, llm.Event{Usage: &llm.Usage{Input: u.Prompt, Output: u.Completion, Cached: u.Details.Cached}})
	}
	for _, e := range events {
		if err := emit(e); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

func (d delta) events() (all []llm.Event) {
	if text := d.ReasoningContent + d.Reasoning; text != "" {
		all = append(all, llm.Event{Reasoning: text})
	}
	if text := d.Content + d.Refusal; text != "" {
		all = append(all, llm.Event{Text: text})
	}
	for _, t := range d.ToolCalls {
		all = append(all, llm.Event{Tool: &llm.ToolPart{Index: t.Index, ID: t.ID, Name: t.Function.Name, Arguments: t.Function.Arguments}})
	}
	return all
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
	var list struct {
		Data []struct {
			ID      string `json:"id"`
			OwnedBy string `json:"owned_by"`
		} `json:"data"`
	}
	if err := p.endpoint.Get(ctx, "/models", &list); err != nil {
		return nil, err
	}
	var all []llm.Model
	for _, m := range list.Data {
		all = append(all, llm.Model{ID: m.ID, OwnedBy: m.OwnedBy})
	}
	return all, nil
}
