package openai

import (
	"encoding/base64"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"

	"github.com/toolshed-cloud/shed/toolshed/llm"
)

// encode is the request in OpenAI's form.
func encode(r llm.Request) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{
		Model: r.Model, Messages: messages(r.Messages), Tools: tools(r.Tools), ToolChoice: choice(r.Choice),
		ResponseFormat: format(r.Output),
		StreamOptions:  openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
		Temperature:    given(r.Temperature), TopP: given(r.TopP), Seed: given(r.Seed),
		Stop: openai.ChatCompletionNewParamsStopUnion{OfStringArray: r.Stop},
	}
	if r.MaxTokens > 0 {
		// Servers other than OpenAI's know the older name alone.
		p.MaxTokens = openai.Int(int64(r.MaxTokens))
	}
	extra := map[string]any{}
	for name, raw := range r.Extra {
		extra[name] = raw
	}
	p.SetExtraFields(extra)
	return p
}

func given[T comparable](v *T) param.Opt[T] {
	if v == nil {
		return param.Opt[T]{}
	}
	return param.NewOpt(*v)
}

func messages(all []llm.Message) []openai.ChatCompletionMessageParamUnion {
	encoded := make([]openai.ChatCompletionMessageParamUnion, 0, len(all))
	for _, m := range all {
		switch m.Role {
		case llm.System:
			encoded = append(encoded, openai.SystemMessage(m.Text()))
		case llm.ToolRole:
			encoded = append(encoded, openai.ToolMessage(m.Text(), m.ToolCallID))
		case llm.Assistant:
			said := openai.AssistantMessage(m.Text())
			said.OfAssistant.ToolCalls = calls(m.ToolCalls)
			encoded = append(encoded, said)
		default:
			encoded = append(encoded, asked(m))
		}
	}
	return encoded
}

// asked is a text where there is nothing but text, which every server knows.
func asked(m llm.Message) openai.ChatCompletionMessageParamUnion {
	parts := make([]openai.ChatCompletionContentPartUnionParam, 0, len(m.Parts))
	plain := true
	for _, p := range m.Parts {
		if p.Image == nil {
			parts = append(parts, openai.TextContentPart(p.Text))
			continue
		}
		plain = false
		image := openai.ChatCompletionContentPartImageImageURLParam{URL: p.Image.URL, Detail: p.Image.Detail}
		if image.URL == "" {
			image.URL = "data:" + p.Image.MediaType + ";base64," + base64.StdEncoding.EncodeToString(p.Image.Data)
		}
		parts = append(parts, openai.ImageContentPart(image))
	}
	if plain {
		return openai.UserMessage(m.Text())
	}
	return openai.UserMessage(parts)
}

func calls(all []llm.ToolCall) []openai.ChatCompletionMessageToolCallUnionParam {
	var encoded []openai.ChatCompletionMessageToolCallUnionParam
	for _, c := range all {
		encoded = append(encoded, openai.ChatCompletionMessageToolCallUnionParam{OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{
			ID: c.ID, Function: openai.ChatCompletionMessageFunctionToolCallFunctionParam{Name: c.Name, Arguments: c.Arguments},
		}})
	}
	return encoded
}

// tools go as they are: a schema keeps the order and the numbers that it has.
func tools(all []llm.Tool) []openai.ChatCompletionToolUnionParam {
	var encoded []openai.ChatCompletionToolUnionParam
	for _, t := range all {
		encoded = append(encoded, openai.ChatCompletionFunctionTool(param.Override[shared.FunctionDefinitionParam](t)))
	}
	return encoded
}

func choice(c llm.Choice) (encoded openai.ChatCompletionToolChoiceOptionUnionParam) {
	switch c {
	case "":
		return encoded
	case llm.ChoiceAuto, llm.ChoiceNone, llm.ChoiceRequired:
		encoded.OfAuto = openai.String(string(c[1:]))
		return encoded
	}
	return openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: string(c)})
}

func format(o *llm.Output) (encoded openai.ChatCompletionNewParamsResponseFormatUnion) {
	switch {
	case o == nil:
	case o.Schema == nil:
		encoded.OfJSONObject = &shared.ResponseFormatJSONObjectParam{}
	default:
		encoded.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
			Name: o.Name, Schema: o.Schema, Strict: openai.Bool(true),
		}}
	}
	return encoded
}
