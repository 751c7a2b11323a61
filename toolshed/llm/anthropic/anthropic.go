// Package anthropic asks Anthropic's models by its Messages API.
//
// Invariants: the official client carries the protocol and never tries again by
// itself; every answer is asked for as a stream; what the protocol has no place
// for is refused by name and never left out in silence.
package anthropic

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/toolshed-cloud/shed/toolshed/llm"
)

// Provider is one endpoint.
type Provider struct{ client anthropic.Client }

var _ llm.Provider = (*Provider)(nil)

// New makes a provider of the endpoint at base, which ends before /v1.
func New(base, key string, client *http.Client) *Provider {
	options := []option.RequestOption{
		option.WithBaseURL(base), option.WithAPIKey(key), option.WithHTTPClient(client), option.WithMaxRetries(0),
	}
	return &Provider{client: anthropic.Client{
		Options: options, Messages: anthropic.NewMessageService(options...), Models: anthropic.NewModelService(options...),
	}}
}

// Chat asks a model.
func (p *Provider) Chat(ctx context.Context, r llm.Request, emit func(llm.Event) error) error {
	body, err := encode(r)
	if err != nil {
		return err
	}
	stream := p.client.Messages.NewStreaming(ctx, param.Override[anthropic.MessageNewParams](body))
	defer stream.Close() //nolint:errcheck // the answer is over
	a := answering{emit: emit, tools: map[int64]int{}, schema: r.Output != nil}
	for stream.Next() {
		if err := a.take(stream.Current()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return upstream(ctx, err)
	}
	if !a.finished {
		return &llm.UpstreamError{Kind: llm.KindBroken, Err: errors.New("the answer ended without a reason")}
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

func (a *answering) take(event anthropic.MessageStreamEventUnion) error {
	switch e := event.AsAny().(type) {
	case anthropic.MessageStartEvent:
		u := e.Message.Usage
		a.usage = llm.Usage{Input: u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens, Cached: u.CacheReadInputTokens}
	case anthropic.ContentBlockStartEvent:
		if e.ContentBlock.Type != "tool_use" || a.schema {
			return nil
		}
		place := len(a.tools)
		a.tools[e.Index] = place
		return a.emit(llm.Event{Tool: &llm.ToolPart{Index: place, ID: e.ContentBlock.ID, Name: e.ContentBlock.Name}})
	case anthropic.ContentBlockDeltaEvent:
		return a.delta(e)
	case anthropic.MessageDeltaEvent:
		a.usage.Output = e.Usage.OutputTokens
		usage := a.usage
		if err := a.emit(llm.Event{Usage: &usage}); err != nil {
			return err
		}
		a.finished = true
		return a.emit(llm.Event{Finish: a.finish(e.Delta.StopReason)})
	}
	return nil
}

func (a *answering) delta(e anthropic.ContentBlockDeltaEvent) error {
	switch d := e.Delta.AsAny().(type) {
	case anthropic.TextDelta:
		return a.emit(llm.Event{Text: d.Text})
	case anthropic.ThinkingDelta:
		return a.emit(llm.Event{Reasoning: d.Thinking})
	case anthropic.InputJSONDelta:
		if a.schema {
			return a.emit(llm.Event{Text: d.PartialJSON})
		}
		place, known := a.tools[e.Index]
		if !known {
			return &llm.UpstreamError{Kind: llm.KindBroken, Err: errors.New("arguments of a tool that was not called")}
		}
		return a.emit(llm.Event{Tool: &llm.ToolPart{Index: place, Arguments: d.PartialJSON}})
	}
	return nil
}

func (a *answering) finish(reason anthropic.StopReason) llm.Finish {
	switch reason {
	case anthropic.StopReasonMaxTokens:
		return llm.FinishLength
	case anthropic.StopReasonToolUse:
		if a.schema {
			return llm.FinishStop
		}
		return llm.FinishTools
	case anthropic.StopReasonRefusal:
		return llm.FinishFilter
	}
	return llm.FinishStop
}

// Models lists the endpoint's models.
func (p *Provider) Models(ctx context.Context) ([]llm.Model, error) {
	page, err := p.client.Models.List(ctx, anthropic.ModelListParams{Limit: anthropic.Int(100)})
	if err != nil {
		return nil, upstream(ctx, err)
	}
	var all []llm.Model
	for _, m := range page.Data {
		all = append(all, llm.Model{ID: m.ID, Name: m.DisplayName, OwnedBy: "anthropic"})
	}
	return all, nil
}

// upstream tells apart what can be wrong.
func upstream(ctx context.Context, err error) error {
	var said *anthropic.Error
	var timeout net.Error
	var request *url.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &said) && said.Response != nil:
		return llm.OfStatus(said.StatusCode, retryAfter(said.Response.Header), said.RawJSON())
	case errors.As(err, &timeout) && timeout.Timeout():
		return &llm.UpstreamError{Kind: llm.KindSlow, Err: err}
	case errors.As(err, &request) || errors.Is(err, io.ErrUnexpectedEOF):
		return &llm.UpstreamError{Kind: llm.KindUnreachable, Err: err}
	}
	return &llm.UpstreamError{Kind: llm.KindFailed, Err: err}
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64)
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
