// Package anthropic asks Anthropic's models by its Messages API
// (docs.claude.com/en/api/messages).
//
// Invariants: every answer is asked for as a stream; what the protocol has no
// place for is refused by name and never left out in silence. The official
// client is not linked, for its size (docs/decisions/0045).
package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/internal/wire"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// version is that of the protocol.
const version = "2023-06-01"

// Provider is one endpoint.
type Provider struct{ endpoint wire.Endpoint }

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before /v1.
func New(base, key string, client *http.Client) *Provider {
	header := http.Header{"X-Api-Key": {key}, "Anthropic-Version": {version}}
	return &Provider{endpoint: wire.Endpoint{Base: base, Header: header, Client: client}}
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	a := answering{emit: emit, tools: map[int]int{}, schema: r.Output != nil}
	return p.endpoint.Stream(ctx, "/v1/messages", body, a.take)
}

// event is one of an answer; which fields it has follows from its type.
type event struct {
	Type    string `json:"type"`
	Index   int    `json:"index"`
	Message struct {
		Usage usage `json:"usage"`
	} `json:"message"`
	ContentBlock struct {
		Type string `json:"type"`
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"content_block"`
	Delta struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage usage `json:"usage"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
}

type usage struct {
	Input   int64 `json:"input_tokens"`
	Output  int64 `json:"output_tokens"`
	Read    int64 `json:"cache_read_input_tokens"`
	Written int64 `json:"cache_creation_input_tokens"`
}

// answering is an answer on its way.
type answering struct {
	emit func(llm.Event) error
	// tools are the places of tool calls by those of content blocks.
	tools map[int]int
	// schema says that the one tool is the form of the answer.
	schema   bool
	usage    llm.Usage
	finished bool
}

func (a *answering) take(data []byte) (done bool, err error) {
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return false, upstream.Breaks("an event: %w", err)
	}
	switch e.Type {
	case "message_start":
		u := e.Message.Usage
		a.usage = llm.Usage{Input: u.Input + u.Read + u.Written, Cached: u.Read}
	case "content_block_start":
		return false, a.block(e)
	case "content_block_delta":
		return false, a.delta(e)
	case "message_delta":
		return false, a.end(e)
	case "message_stop":
		if !a.finished {
			return true, upstream.Breaks("the answer ended without a reason")
		}
		return true, nil
	case "error":
		kind := upstream.Failed
		if e.Error.Type == "overloaded_error" || e.Error.Type == "rate_limit_error" {
			kind = upstream.Limited
		}
		return false, &upstream.Error{Kind: kind, Err: errors.New(e.Error.Message)}
	}
	return false, nil
}

// block begins a tool call.
func (a *answering) block(e event) error {
	if e.ContentBlock.Type != "tool_use" || a.schema {
		return nil
	}
	place := len(a.tools)
	a.tools[e.Index] = place
	return a.emit(llm.Event{Tool: &llm.ToolPart{Index: place, ID: e.ContentBlock.ID, Name: e.ContentBlock.Name}})
}

func (a *answering) delta(e event) error {
	switch d := e.Delta; d.Type {
	case "text_delta":
		return a.emit(llm.Event{Text: d.Text})
	case "thinking_delta":
		return a.emit(llm.Event{Reasoning: d.Thinking})
	case "input_json_delta":
		if a.schema {
			return a.emit(llm.Event{Text: d.PartialJSON})
		}
		place, known := a.tools[e.Index]
		if !known {
			return upstream.Breaks("arguments of a tool that was not called")
		}
		return a.emit(llm.Event{Tool: &llm.ToolPart{Index: place, Arguments: d.PartialJSON}})
	}
	return nil
}

func (a *answering) end(e event) error {
	a.usage.Output = e.Usage.Output
	used := a.usage
	if err := a.emit(llm.Event{Usage: &used}); err != nil {
		return err
	}
	a.finished = true
	return a.emit(llm.Event{Finish: a.finish(e.Delta.StopReason)})
}

func (a *answering) finish(reason string) llm.Finish {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return llm.FinishLength
	case "tool_use":
		if a.schema {
			return llm.FinishStop
		}
		return llm.FinishTools
	case "refusal":
		return llm.FinishFilter
	}
	return llm.FinishStop
}

// Models lists the endpoint's models.
func (p *Provider) Models(ctx context.Context) ([]llm.Model, error) {
	var list struct {
		Data []struct {
			ID   string `json:"id"`
			Name string `json:"display_name"`
		} `json:"data"`
	}
	if err := p.endpoint.Get(ctx, "/v1/models?limit=100", &list); err != nil {
		return nil, err
	}
	var all []llm.Model
	for _, m := range list.Data {
		all = append(all, llm.Model{ID: m.ID, Name: m.Name, OwnedBy: "anthropic"})
	}
	return all, nil
}
