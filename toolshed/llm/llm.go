// Package llm lets the owner's programs talk with language models, whoever runs
// them.
//
// Invariants: a request is whole and bounded before any provider hears of it;
// what a provider answers is checked before it counts as an answer; another
// provider, or another try, is never asked once a part of an answer was passed
// on; what providers say in their errors goes to the caller and into no log.
package llm

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Role is who speaks.
type Role string

// The roles.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
	ToolRole  Role = "tool"
)

// Message is one turn.
type Message struct {
	Role  Role
	Parts []Part
	// ToolCalls are what an assistant asked for, ToolCallID which of them a
	// tool's message answers.
	ToolCalls  []ToolCall
	ToolCallID string
}

// Text is the message's text, parts one after another.
func (m Message) Text() string {
	text := ""
	for _, p := range m.Parts {
		text += p.Text
	}
	return text
}

// Part is text or an image.
type Part struct {
	Text  string
	Image *Image
}

// Image is a picture, with its bytes or by its address, which the provider
// fetches.
type Image struct {
	MediaType string
	Data      []byte
	URL       string
	// Detail is low, high, auto or nothing.
	Detail string
}

// Tool is what a model may ask to have called. Schema is a JSON schema of its
// arguments.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Schema      json.RawMessage `json:"parameters,omitempty"`
}

// ToolCall is what a model asks for. Arguments are JSON as the model wrote it.
type ToolCall struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Choice is how tools are chosen: ChoiceAuto, ChoiceNone, ChoiceRequired, or
// the name of one; empty is the provider's default.
type Choice string

// The choices that are no names: a name has no colon.
const (
	ChoiceAuto     Choice = ":auto"
	ChoiceNone     Choice = ":none"
	ChoiceRequired Choice = ":required"
)

// Output is the form of the answer: any JSON, or JSON of a schema.
type Output struct {
	Name   string
	Schema json.RawMessage
}

// Request is what is asked of a model.
type Request struct {
	// Model is the provider's own name for it.
	Model    string
	Messages []Message
	Tools    []Tool
	Choice   Choice
	// Output is nil for text.
	Output      *Output
	MaxTokens   int
	Temperature *float64
	TopP        *float64
	Stop        []string
	Seed        *int64
	// Extra are fields of the OpenAI protocol that this package does not know;
	// providers of another protocol refuse them.
	Extra map[string]json.RawMessage
}

// Finish is why an answer ended.
type Finish string

// The reasons.
const (
	FinishStop   Finish = "stop"
	FinishLength Finish = "length"
	FinishTools  Finish = "tool_calls"
	FinishFilter Finish = "content_filter"
)

// Usage is in tokens. Cached are those of Input that the provider had already.
type Usage struct {
	Input  int64 `json:"input_tokens"`
	Output int64 `json:"output_tokens"`
	Cached int64 `json:"cached_tokens,omitempty"`
}

// Event is one part of an answer; one of its fields is set.
type Event struct {
	Text      string
	Reasoning string
	Tool      *ToolPart
	Usage     *Usage
	// Finish comes once, after all text and tools.
	Finish Finish
}

// ToolPart is a piece of a tool call: the first of an index has id and name.
type ToolPart struct {
	Index     int
	ID        string
	Name      string
	Arguments string
}

// Model is one that a provider has.
type Model struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	OwnedBy string `json:"owned_by,omitempty"`
	// Context is how many tokens it takes, zero where that is not known.
	Context int64 `json:"context_tokens,omitempty"`
}

// Provider is somebody who runs models.
type Provider interface {
	// Chat asks a model and passes its answer on as it comes. An error of emit
	// ends it and is returned. Other errors are an *upstream.Error, a
	// *upstream.RequestError, and ctx's.
	Chat(ctx context.Context, r Request, emit func(Event) error) error
	// Models lists what the provider has. Errors are as Chat's.
	Models(ctx context.Context) ([]Model, error)
}

// Answer is an answer that came whole.
type Answer struct {
	Text      string
	Reasoning string
	ToolCalls []ToolCall
	Usage     Usage
	Finish    Finish
}

// The bounds of an answer: a provider may send what it likes.
const (
	maxAnswerBytes = 8 << 20
	maxToolCalls   = 128
)

// add takes one event in. The error is an *upstream.Error of a provider that
// breaks the protocol.
func (a *Answer) add(e Event) error {
	a.Text += e.Text
	a.Reasoning += e.Reasoning
	if e.Usage != nil {
		a.Usage = *e.Usage
	}
	if e.Finish != "" {
		a.Finish = e.Finish
	}
	if t := e.Tool; t != nil {
		if t.Index < 0 || t.Index > len(a.ToolCalls) || t.Index >= maxToolCalls {
			return upstream.Breaks("a tool call has index %d after %d", t.Index, len(a.ToolCalls))
		}
		if t.Index == len(a.ToolCalls) {
			a.ToolCalls = append(a.ToolCalls, ToolCall{})
		}
		call := &a.ToolCalls[t.Index]
		call.ID, call.Name = cmp.Or(call.ID, t.ID), cmp.Or(call.Name, t.Name)
		call.Arguments += t.Arguments
	}
	if len(a.Text)+len(a.Reasoning) > maxAnswerBytes {
		return upstream.Breaks("the answer has more than %d bytes", maxAnswerBytes)
	}
	return nil
}
