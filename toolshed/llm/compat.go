package llm

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// wireRequest is the body of OpenAI's chat completions
// (platform.openai.com/docs/api-reference/chat), as far as this package takes
// part in it; the rest goes on to providers of that protocol.
type wireRequest struct {
	Model               string          `json:"model"`
	Messages            []wireMessage   `json:"messages"`
	Tools               []wireTool      `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ResponseFormat      *wireFormat     `json:"response_format"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	Stop                json.RawMessage `json:"stop"`
	Seed                *int64          `json:"seed"`
	N                   *int            `json:"n"`
	Stream              bool            `json:"stream"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type wireMessage struct {
	Role       string          `json:"role" doc:"system, user, assistant or tool"`
	Content    json.RawMessage `json:"content,omitempty" doc:"a text, or a list of parts of type text or image_url"`
	Name       string          `json:"name,omitempty"`
	ToolCalls  []wireToolCall  `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
}

type wireTool struct {
	Type     string `json:"type"`
	Function Tool   `json:"function"`
}

type wireToolCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type wireFormat struct {
	Type       string `json:"type"`
	JSONSchema struct {
		Name   string          `json:"name"`
		Schema json.RawMessage `json:"schema"`
	} `json:"json_schema"`
}

// known are the fields of wireRequest, and those that make no sense here.
var known = []string{
	"model", "messages", "tools", "tool_choice", "response_format", "max_tokens", "max_completion_tokens",
	"temperature", "top_p", "stop", "seed", "n", "stream", "stream_options", "user", "store", "metadata", "service_tier",
}

// parseWire reads the body of a chat completion. The error is a *upstream.RequestError
// that names the field.
func parseWire(body []byte) (r Request, w wireRequest, err error) {
	if err := json.Unmarshal(body, &w); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return r, w, upstream.Refuse(typ.Field, "is a %s", typ.Value)
		}
		return r, w, &upstream.RequestError{Field: "body", Err: err}
	}
	if err := json.Unmarshal(body, &r.Extra); err != nil {
		return r, w, &upstream.RequestError{Field: "body", Err: err}
	}
	for _, name := range known {
		delete(r.Extra, name)
	}
	r.Model, r.Temperature, r.TopP, r.Seed = w.Model, w.Temperature, w.TopP, w.Seed
	for _, n := range []*int{w.MaxCompletionTokens, w.MaxTokens} {
		if n != nil {
			r.MaxTokens = *n
		}
	}
	if r.MaxTokens < 0 {
		return r, w, upstream.Refuse("max_tokens", "is negative")
	}
	if w.N != nil && *w.N != 1 {
		return r, w, upstream.Refuse("n", "is %d; one answer is given at a time", *w.N)
	}
	for i, m := range w.Messages {
		message, err := m.message(fmt.Sprintf("messages[%d]", i))
		if err != nil {
			return r, w, err
		}
		r.Messages = append(r.Messages, message)
	}
	return r, w, w.settings(&r)
}

// settings reads what is a word or an object, or a word or a list.
func (w *wireRequest) settings(r *Request) error {
	for i, t := range w.Tools {
		if t.Type != "function" {
			return upstream.Refuse(fmt.Sprintf("tools[%d].type", i), "is %.32q, want function", t.Type)
		}
		r.Tools = append(r.Tools, t.Function)
	}
	if present(w.ToolChoice) {
		var word string
		var named wireTool
		switch {
		case json.Unmarshal(w.ToolChoice, &word) == nil:
			r.Choice = Choice(":" + word)
			if !slices.Contains([]Choice{ChoiceAuto, ChoiceNone, ChoiceRequired}, r.Choice) {
				return upstream.Refuse("tool_choice", "is %.32q, want auto, none, required or a function", word)
			}
		case json.Unmarshal(w.ToolChoice, &named) == nil && named.Function.Name != "":
			r.Choice = Choice(named.Function.Name)
		default:
			return upstream.Refuse("tool_choice", "is neither a word nor a function")
		}
	}
	if present(w.Stop) {
		var one string
		if json.Unmarshal(w.Stop, &one) == nil {
			r.Stop = []string{one}
		} else if json.Unmarshal(w.Stop, &r.Stop) != nil {
			return upstream.Refuse("stop", "is neither a text nor a list of texts")
		}
	}
	return w.format(r)
}

func (w *wireRequest) format(r *Request) error {
	switch f := w.ResponseFormat; {
	case f == nil || f.Type == "text":
	case f.Type == "json_object":
		r.Output = &Output{Name: "answer"}
	case f.Type == "json_schema":
		if !present(f.JSONSchema.Schema) {
			return upstream.Refuse("response_format.json_schema.schema", "is missing")
		}
		r.Output = &Output{Name: cmp.Or(f.JSONSchema.Name, "answer"), Schema: f.JSONSchema.Schema}
	default:
		return upstream.Refuse("response_format.type", "is %.32q, want text, json_object or json_schema", f.Type)
	}
	return nil
}

func present(raw json.RawMessage) bool {
	return len(raw) > 0 && !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

func (m *wireMessage) message(field string) (Message, error) {
	message := Message{Role: Role(m.Role), ToolCallID: m.ToolCallID}
	if m.Role == "developer" {
		message.Role = System
	}
	for i, c := range m.ToolCalls {
		if c.Type != "function" && c.Type != "" {
			return message, upstream.Refuse(fmt.Sprintf("%s.tool_calls[%d].type", field, i), "is %.32q, want function", c.Type)
		}
		message.ToolCalls = append(message.ToolCalls, ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: c.Function.Arguments})
	}
	if !present(m.Content) {
		return message, nil
	}
	var text string
	if json.Unmarshal(m.Content, &text) == nil {
		message.Parts = []Part{{Text: text}}
		return message, nil
	}
	parts, err := parseParts(field+".content", m.Content)
	message.Parts = parts
	return message, err
}

// wirePart is one part of a message's content.
type wirePart struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	ImageURL struct {
		URL    string `json:"url"`
		Detail string `json:"detail"`
	} `json:"image_url"`
}

func parseParts(field string, raw json.RawMessage) ([]Part, error) {
	var wire []wirePart
	if json.Unmarshal(raw, &wire) != nil {
		return nil, upstream.Refuse(field, "is neither a text nor a list of parts")
	}
	var parts []Part
	for i, p := range wire {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch p.Type {
		case "text":
			parts = append(parts, Part{Text: p.Text})
		case "image_url":
			image, err := parseImage(at+".image_url.url", p.ImageURL.URL)
			if err != nil {
				return nil, err
			}
			image.Detail = p.ImageURL.Detail
			parts = append(parts, Part{Image: image})
		default:
			return nil, upstream.Refuse(at+".type", "is %.32q, want text or image_url", p.Type)
		}
	}
	return parts, nil
}

// imageTypes are what models see.
var imageTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

// parseImage reads an image's address: data (RFC 2397), in base64, or https.
func parseImage(field, address string) (*Image, error) {
	if strings.HasPrefix(address, "https://") {
		return &Image{URL: address}, nil
	}
	rest, ok := strings.CutPrefix(address, "data:")
	kind, data, whole := strings.Cut(rest, ";base64,")
	if !ok || !whole {
		return nil, upstream.Refuse(field, "is neither https nor data in base64")
	}
	if !slices.Contains(imageTypes, kind) {
		return nil, upstream.Refuse(field, "is of type %.32q, want %s", kind, strings.Join(imageTypes, ", "))
	}
	decoded, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, &upstream.RequestError{Field: field, Err: err}
	}
	return &Image{MediaType: kind, Data: decoded}, nil
}
