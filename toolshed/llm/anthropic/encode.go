package anthropic

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// defaultMaxTokens is asked for where the caller says nothing: the protocol
// wants a number.
const defaultMaxTokens = 8192

// encode is the request in the Messages API's form. The error is a
// *upstream.RequestError that names what has no place in it.
func encode(r llm.Request) (json.RawMessage, error) {
	for _, name := range slices.Sorted(maps.Keys(r.Extra)) {
		return nil, refuse(name, "this model's provider has no such setting")
	}
	if r.Seed != nil {
		return nil, refuse("seed", "this model's provider has no such setting")
	}
	system, messages, err := turns(r.Messages)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"model": r.Model, "max_tokens": r.MaxTokens, "messages": messages, "stream": true}
	if r.MaxTokens == 0 {
		body["max_tokens"] = defaultMaxTokens
	}
	set := func(name string, present bool, value any) {
		if present {
			body[name] = value
		}
	}
	set("system", system != "", system)
	set("temperature", r.Temperature != nil, r.Temperature)
	set("top_p", r.TopP != nil, r.TopP)
	set("stop_sequences", len(r.Stop) > 0, r.Stop)
	if err := form(r, set); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, &upstream.RequestError{Err: fmt.Errorf("encoding the request: %w", err)}
	}
	return encoded, nil
}

// form sets tools and their choice; an answer of a schema is the arguments of a
// tool that the model has to call.
func form(r llm.Request, set func(name string, present bool, value any)) error {
	if r.Output == nil {
		set("tools", len(r.Tools) > 0, tools(r.Tools))
		set("tool_choice", r.Choice != "", choice(r.Choice))
		return nil
	}
	if len(r.Tools) > 0 {
		return refuse("tools", "this model's provider takes tools or a schema, not both")
	}
	schema := r.Output.Schema
	if schema == nil {
		schema = json.RawMessage(`{"type":"object"}`)
	}
	name := r.Output.Name
	set("tools", true, tools([]llm.Tool{{Name: name, Description: "gives the answer", Schema: schema}}))
	set("tool_choice", true, choice(llm.Choice(name)))
	return nil
}

func refuse(field, why string) error {
	return &upstream.RequestError{Field: field, Err: errors.New(why)}
}

type block map[string]any

// turns takes the system's words out, and puts what one side says in a row into
// one message: a tool's answer is the user's.
func turns(all []llm.Message) (system string, messages []map[string]any, err error) {
	last := ""
	for i, m := range all {
		if m.Role == llm.System {
			if system != "" {
				system += "\n\n"
			}
			system += m.Text()
			continue
		}
		role := "user"
		if m.Role == llm.Assistant {
			role = "assistant"
		}
		blocks, err := blocks(m)
		if err != nil {
			return "", nil, &upstream.RequestError{Field: fmt.Sprintf("messages[%d]", i), Err: err}
		}
		if role == last {
			before := messages[len(messages)-1]
			before["content"] = append(before["content"].([]block), blocks...)
			continue
		}
		messages = append(messages, map[string]any{"role": role, "content": blocks})
		last = role
	}
	return system, messages, nil
}

func blocks(m llm.Message) ([]block, error) {
	if m.Role == llm.ToolRole {
		return []block{{"type": "tool_result", "tool_use_id": m.ToolCallID, "content": m.Text()}}, nil
	}
	var all []block
	for _, p := range m.Parts {
		switch {
		case p.Image == nil && p.Text != "":
			all = append(all, block{"type": "text", "text": p.Text})
		case p.Image != nil && p.Image.URL != "":
			all = append(all, block{"type": "image", "source": block{"type": "url", "url": p.Image.URL}})
		case p.Image != nil:
			all = append(all, block{"type": "image", "source": block{
				"type": "base64", "media_type": p.Image.MediaType, "data": base64.StdEncoding.EncodeToString(p.Image.Data),
			}})
		}
	}
	for _, c := range m.ToolCalls {
		input := json.RawMessage(c.Arguments)
		if c.Arguments == "" {
			input = json.RawMessage("{}")
		}
		if !json.Valid(input) {
			return nil, fmt.Errorf("the arguments of tool call %.64q are no JSON", c.ID)
		}
		all = append(all, block{"type": "tool_use", "id": c.ID, "name": c.Name, "input": input})
	}
	if len(all) == 0 {
		return nil, errors.New("it has no content")
	}
	return all, nil
}

func tools(all []llm.Tool) []block {
	var encoded []block
	for _, t := range all {
		schema := t.Schema
		if schema == nil {
			schema = json.RawMessage(`{"type":"object"}`)
		}
		encoded = append(encoded, block{"name": t.Name, "description": t.Description, "input_schema": schema})
	}
	return encoded
}

func choice(c llm.Choice) block {
	switch c {
	case llm.ChoiceAuto:
		return block{"type": "auto"}
	case llm.ChoiceNone:
		return block{"type": "none"}
	case llm.ChoiceRequired:
		return block{"type": "any"}
	}
	return block{"type": "tool", "name": string(c)}
}
