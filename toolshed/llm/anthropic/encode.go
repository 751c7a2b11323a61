package anthropic

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// defaultMaxTokens is asked for where the caller says nothing: the protocol
// wants a number.
const defaultMaxTokens = 8192

// encode is the request in the Messages API's form. The error is a
// *upstream.RequestError that names what has no place in it.
func encode(r llm.Request) (p anthropic.MessageNewParams, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.Extra)) {
		return p, refuse(name, "this model's provider has no such setting")
	}
	if r.Seed != nil {
		return p, refuse("seed", "this model's provider has no such setting")
	}
	p = anthropic.MessageNewParams{
		Model: anthropic.Model(r.Model), MaxTokens: int64(cmp.Or(r.MaxTokens, defaultMaxTokens)),
		Temperature: given(r.Temperature), TopP: given(r.TopP), StopSequences: r.Stop,
	}
	if p.System, p.Messages, err = turns(r.Messages); err != nil {
		return p, err
	}
	return p, form(r, &p)
}

func given(v *float64) param.Opt[float64] {
	if v == nil {
		return param.Opt[float64]{}
	}
	return param.NewOpt(*v)
}

// form sets tools and their choice; an answer of a schema is the arguments of a
// tool that the model has to call.
func form(r llm.Request, p *anthropic.MessageNewParams) error {
	if r.Output == nil {
		p.Tools, p.ToolChoice = tools(r.Tools), choice(r.Choice)
		return nil
	}
	if len(r.Tools) > 0 {
		return refuse("tools", "this model's provider takes tools or a schema, not both")
	}
	answer := llm.Tool{Name: r.Output.Name, Description: "gives the answer", Schema: r.Output.Schema}
	p.Tools, p.ToolChoice = tools([]llm.Tool{answer}), choice(llm.Choice(answer.Name))
	return nil
}

func refuse(field, why string) error {
	return &upstream.RequestError{Field: field, Err: errors.New(why)}
}

// turns takes the system's words out, and puts what one side says in a row into
// one message: a tool's answer is the user's.
func turns(all []llm.Message) (system []anthropic.TextBlockParam, messages []anthropic.MessageParam, err error) {
	for i, m := range all {
		if m.Role == llm.System {
			system = append(system, anthropic.TextBlockParam{Text: m.Text()})
			continue
		}
		role := anthropic.MessageParamRoleUser
		if m.Role == llm.Assistant {
			role = anthropic.MessageParamRoleAssistant
		}
		blocks, err := blocks(m)
		if err != nil {
			return nil, nil, &upstream.RequestError{Field: fmt.Sprintf("messages[%d]", i), Err: err}
		}
		if n := len(messages); n > 0 && messages[n-1].Role == role {
			messages[n-1].Content = append(messages[n-1].Content, blocks...)
			continue
		}
		messages = append(messages, anthropic.MessageParam{Role: role, Content: blocks})
	}
	return system, messages, nil
}

func blocks(m llm.Message) ([]anthropic.ContentBlockParamUnion, error) {
	if m.Role == llm.ToolRole {
		return []anthropic.ContentBlockParamUnion{anthropic.NewToolResultBlock(m.ToolCallID, m.Text(), false)}, nil
	}
	var all []anthropic.ContentBlockParamUnion
	for _, p := range m.Parts {
		switch {
		case p.Image == nil && p.Text != "":
			all = append(all, anthropic.NewTextBlock(p.Text))
		case p.Image != nil && p.Image.URL != "":
			all = append(all, anthropic.NewImageBlock(anthropic.URLImageSourceParam{URL: p.Image.URL}))
		case p.Image != nil:
			all = append(all, anthropic.NewImageBlockBase64(p.Image.MediaType, base64.StdEncoding.EncodeToString(p.Image.Data)))
		}
	}
	for _, c := range m.ToolCalls {
		input := json.RawMessage(cmp.Or(c.Arguments, "{}"))
		if !json.Valid(input) {
			return nil, fmt.Errorf("the arguments of tool call %.64q are no JSON", c.ID)
		}
		all = append(all, anthropic.NewToolUseBlock(c.ID, input, c.Name))
	}
	if len(all) == 0 {
		return nil, errors.New("it has no content")
	}
	return all, nil
}

// tools go with their schemas as they are, in the order and with the numbers
// that they have.
func tools(all []llm.Tool) []anthropic.ToolUnionParam {
	var encoded []anthropic.ToolUnionParam
	for _, t := range all {
		schema := t.Schema
		if schema == nil {
			schema = json.RawMessage(`{"type":"object"}`)
		}
		tool := anthropic.ToolUnionParamOfTool(param.Override[anthropic.ToolInputSchemaParam](schema), t.Name)
		if t.Description != "" {
			tool.OfTool.Description = anthropic.String(t.Description)
		}
		encoded = append(encoded, tool)
	}
	return encoded
}

func choice(c llm.Choice) (encoded anthropic.ToolChoiceUnionParam) {
	switch c {
	case "":
	case llm.ChoiceAuto:
		encoded.OfAuto = &anthropic.ToolChoiceAutoParam{}
	case llm.ChoiceNone:
		encoded.OfNone = &anthropic.ToolChoiceNoneParam{}
	case llm.ChoiceRequired:
		encoded.OfAny = &anthropic.ToolChoiceAnyParam{}
	default:
		return anthropic.ToolChoiceParamOfTool(string(c))
	}
	return encoded
}
