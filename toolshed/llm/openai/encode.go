package openai

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// encode is the request in OpenAI's form.
func encode(r llm.Request) (json.RawMessage, error) {
	body := map[string]any{}
	for name, raw := range r.Extra {
		body[name] = raw
	}
	maps.Copy(body, map[string]any{
		"model": r.Model, "messages": messages(r.Messages), "stream": true, "stream_options": map[string]bool{"include_usage": true},
	})
	set := func(name string, present bool, value any) {
		if present {
			body[name] = value
		}
	}
	set("tools", len(r.Tools) > 0, tools(r.Tools))
	set("tool_choice", r.Choice != "", choice(r.Choice))
	set("response_format", r.Output != nil, format(r.Output))
	// Servers other than OpenAI's know the older name alone.
	set("max_tokens", r.MaxTokens > 0, r.MaxTokens)
	set("temperature", r.Temperature != nil, r.Temperature)
	set("top_p", r.TopP != nil, r.TopP)
	set("stop", len(r.Stop) > 0, r.Stop)
	set("seed", r.Seed != nil, r.Seed)
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, &upstream.RequestError{Err: fmt.Errorf("encoding the request: %w", err)}
	}
	return encoded, nil
}

func messages(all []llm.Message) []map[string]any {
	encoded := make([]map[string]any, 0, len(all))
	for _, m := range all {
		e := map[string]any{"role": m.Role, "content": content(m)}
		if m.ToolCallID != "" {
			e["tool_call_id"] = m.ToolCallID
		}
		if len(m.ToolCalls) > 0 {
			var calls []map[string]any
			for _, c := range m.ToolCalls {
				calls = append(calls, map[string]any{
					"id": c.ID, "type": "function", "function": map[string]string{"name": c.Name, "arguments": c.Arguments},
				})
			}
			e["tool_calls"] = calls
		}
		encoded = append(encoded, e)
	}
	return encoded
}

// content is a text where there is nothing but text, which every server knows.
func content(m llm.Message) any {
	parts := make([]map[string]any, 0, len(m.Parts))
	plain := true
	for _, p := range m.Parts {
		if p.Image == nil {
			parts = append(parts, map[string]any{"type": "text", "text": p.Text})
			continue
		}
		plain = false
		image := map[string]string{"url": p.Image.URL}
		if p.Image.URL == "" {
			image["url"] = "data:" + p.Image.MediaType + ";base64," + base64.StdEncoding.EncodeToString(p.Image.Data)
		}
		if p.Image.Detail != "" {
			image["detail"] = p.Image.Detail
		}
		parts = append(parts, map[string]any{"type": "image_url", "image_url": image})
	}
	if plain {
		return m.Text()
	}
	return parts
}

func tools(all []llm.Tool) []map[string]any {
	var encoded []map[string]any
	for _, t := range all {
		encoded = append(encoded, map[string]any{"type": "function", "function": t})
	}
	return encoded
}

func choice(c llm.Choice) any {
	switch c {
	case llm.ChoiceAuto, llm.ChoiceNone, llm.ChoiceRequired:
		return string(c[1:])
	}
	return map[string]any{"type": "function", "function": map[string]string{"name": string(c)}}
}

func format(o *llm.Output) any {
	if o == nil || o.Schema == nil {
		return map[string]string{"type": "json_object"}
	}
	return map[string]any{
		"type": "json_schema", "json_schema": map[string]any{"name": o.Name, "schema": o.Schema, "strict": true},
	}
}
