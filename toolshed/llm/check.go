package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// The bounds of a request.
const (
	MaxMessages   = 2_000
	MaxTools      = 128
	MaxImages     = 64
	maxSchemaSize = 256 << 10
)

// Check refuses a request that no provider should hear of. The error is a
// *upstream.RequestError that names the field.
func (r *Request) Check() error {
	switch {
	case r.Model == "":
		return upstream.Refuse("model", "is missing")
	case len(r.Messages) == 0:
		return upstream.Refuse("messages", "is empty")
	case len(r.Messages) > MaxMessages:
		return upstream.Refuse("messages", "has %d entries, at most %d", len(r.Messages), MaxMessages)
	case len(r.Tools) > MaxTools:
		return upstream.Refuse("tools", "has %d entries, at most %d", len(r.Tools), MaxTools)
	}
	if err := r.checkMessages(); err != nil {
		return err
	}
	names := map[string]bool{}
	for i, t := range r.Tools {
		field := fmt.Sprintf("tools[%d]", i)
		if names[t.Name] {
			return upstream.Refuse(field, "has the name of another: %.64q", t.Name)
		}
		names[t.Name] = true
		if _, err := compile(field, t.Schema); err != nil {
			return err
		}
	}
	switch r.Choice {
	case "", ChoiceAuto, ChoiceNone, ChoiceRequired:
	default:
		if !names[string(r.Choice)] {
			return upstream.Refuse("tool_choice", "names %.64q, which is no tool", string(r.Choice))
		}
	}
	if r.Output != nil && r.Output.Schema != nil {
		_, err := compile("schema", r.Output.Schema)
		return err
	}
	return nil
}

// checkMessages sees that each answer of a tool has a call before it.
func (r *Request) checkMessages() error {
	calls := map[string]bool{}
	images := 0
	for i, m := range r.Messages {
		field := fmt.Sprintf("messages[%d]", i)
		for j, p := range m.Parts {
			if p.Image == nil {
				continue
			}
			if m.Role != User {
				return upstream.Refuse(fmt.Sprintf("%s.content[%d]", field, j), "is an image, which only a user's message may have")
			}
			images++
		}
		if images > MaxImages {
			return upstream.Refuse(field, "is over the %d images that a request may have", MaxImages)
		}
		switch m.Role {
		case System, User:
		case Assistant:
			for _, c := range m.ToolCalls {
				calls[c.ID] = true
			}
		case ToolRole:
			if !calls[m.ToolCallID] {
				return upstream.Refuse(field+".tool_call_id", "is %.64q, which no message before called", m.ToolCallID)
			}
		default:
			return upstream.Refuse(field+".role", "is %.32q, want system, user, assistant or tool", string(m.Role))
		}
	}
	return nil
}

// compile reads a JSON schema; it may refer to nothing outside of itself.
func compile(field string, schema json.RawMessage) (*jsonschema.Schema, error) {
	if schema == nil {
		return nil, nil
	}
	if len(schema) > maxSchemaSize {
		return nil, upstream.Refuse(field, "has %d bytes, at most %d", len(schema), maxSchemaSize)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, &upstream.RequestError{Field: field, Err: err}
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	const name = "urn:schema"
	if err := c.AddResource(name, parsed); err != nil {
		return nil, &upstream.RequestError{Field: field, Err: err}
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, &upstream.RequestError{Field: field, Err: err}
	}
	return compiled, nil
}

type nothing struct{}

func (nothing) Load(string) (any, error) {
	return nil, errors.New("a schema may refer to itself alone")
}

// Holds checks that an answer is what was asked for: JSON of the schema, tools
// that were offered, with arguments that are JSON. The error is an
// *upstream.Error: the provider promised it. An answer that was cut short is not
// held to it.
func (r *Request) Holds(a *Answer) error {
	if a.Finish == FinishLength || a.Finish == FinishFilter {
		return nil
	}
	for _, c := range a.ToolCalls {
		if !json.Valid([]byte(c.Arguments)) && c.Arguments != "" {
			return upstream.Breaks("the arguments of tool %.64q are no JSON", c.Name)
		}
	}
	if r.Output == nil || len(a.ToolCalls) > 0 {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(a.Text)))
	if err != nil {
		return upstream.Breaks("the answer is no JSON: %w", err)
	}
	schema, err := compile("schema", r.Output.Schema)
	if err != nil || schema == nil {
		return err
	}
	if err := schema.Validate(value); err != nil {
		return upstream.Breaks("the answer is not of the schema: %w", err)
	}
	return nil
}
