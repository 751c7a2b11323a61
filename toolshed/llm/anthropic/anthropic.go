// Package anthropic asks Anthropic's models by its Messages API
// (docs.claude.com/en/api/messages) and its own client.
//
// Invariants: every answer is asked for as a stream; what the protocol has no
// place for is refused by name and never left out in silence. The client's
// services are made one by one: all of them would double the program
// (docs/decisions/0045).
package anthropic

import (
	"context"
	"net/http"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/internal/wire"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Provider is one endpoint.
type Provider struct {
	messages anthropic.MessageService
	models   anthropic.ModelService
}

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before /v1.
func New(base, key string, client *http.Client) *Provider {
	options := []option.RequestOption{
		option.WithBaseURL(base), option.WithHTTPClient(wire.Client{HTTP: client}), option.WithMaxRetries(0), option.WithAPIKey(key),
	}
	return &Provider{messages: anthropic.NewMessageService(options...), models: anthropic.NewModelService(options...)}
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	params, err := encode(r)
	if err != nil {
		return err
	}
	answer := p.messages.NewStreaming(ctx, params)
	defer answer.Close() //nolint:errcheck // what was read of it counts
	a := answering{emit: emit, tools: map[int64]int{}, schema: r.Output != nil}
	for answer.Next() {
		if err := a.take(answer.Current()); err != nil {
			return err
		}
	}
	if err := answer.Err(); err != nil {
		return wire.Fault(ctx, err)
	}
	if !a.finished {
		return upstream.Breaks("the answer ended without a reason")
	}
	return nil
}

// answering is an answer on its way.
type answering struct {
	emit func(llm.Event) error
	// tools are the places of tool calls by those of content blocks.
	tools map[int64]int
	// schema says that the one tool is the form of the answer.
	schema   bool
	usage    llm.Usage
	finished bool
}

func (a *answering) take(e anthropic.MessageStreamEventUnion) error {
	switch e.Type {
	case "message_start":
		u := e.Message.Usage
		a.usage = llm.Usage{Input: u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens, Cached: u.CacheReadInputTokens}
	case "content_block_start":
		return a.block(e)
	case "content_block_delta":
		return a.delta(e)
	case "message_delta":
		return a.end(e)
	}
	return nil
}

// block begins a tool call.
func (a *answering) block(e anthropic.MessageStreamEventUnion) error {
	if e.ContentBlock.Type != "tool_use" || a.schema {
		return nil
	}
	place := len(a.tools)
	a.tools[e.Index] = place
	return a.emit(llm.Event{Tool: &llm.ToolPart{Index: place, ID: e.ContentBlock.ID, Name: e.ContentBlock.Name}})
}

func (a *answering) delta(e anthropic.MessageStreamEventUnion) error {
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

func (a *answering) end(e anthropic.MessageStreamEventUnion) error {
	a.usage.Output = e.Usage.OutputTokens
	used := a.usage
	if err := a.emit(llm.Event{Usage: &used}); err != nil {
		return err
	}
	a.finished = true
	return a.emit(llm.Event{Finish: a.finish(e.Delta.StopReason)})
}

func (a *answering) finish(reason anthropic.StopReason) llm.Finish {
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
	list, err := p.models.List(ctx, anthropic.ModelListParams{Limit: anthropic.Int(100)})
	if err != nil {
		return nil, wire.Fault(ctx, err)
	}
	var all []llm.Model
	for _, m := range list.Data {
		all = append(all, llm.Model{ID: m.ID, Name: m.DisplayName, OwnedBy: "anthropic"})
	}
	return all, nil
}
