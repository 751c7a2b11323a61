package llm

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

func TestParseWire(t *testing.T) {
	r, w, err := parseWire([]byte(`{"model":"m","messages":[{"role":"developer","content":"be short"},
		{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AQ==","detail":"low"}}]}],
		"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},
		"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"}}},"max_tokens":1,"max_completion_tokens":7,
		"stop":"x","n":1,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"user":"u"}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.Messages[0].Role != System || r.Messages[1].Parts[1].Image.MediaType != "image/png" || r.Choice != "f" || r.Output.Name != "a" ||
		r.MaxTokens != 1 || len(r.Stop) != 1 || !w.Stream || !w.StreamOptions.IncludeUsage {
		t.Errorf("%+v %+v", r, w)
	}
	if len(r.Extra) != 1 || r.Extra["logprobs"] == nil {
		t.Errorf("extra %v", r.Extra)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	for body, field := range map[string]string{
		`{`: "body", `[]`: "", `{"n":2}`: "n", `{"max_tokens":-1}`: "max_tokens", `{"temperature":"hot"}`: "temperature", `{"stop":3}`: "stop",
		`{"tool_choice":"maybe"}`: "tool_choice", `{"tools":[{"type":"mcp"}]}`: "tools[0].type", `{"response_format":{"type":"xml"}}`: "response_format.type",
		`{"response_format":{"type":"json_schema"}}`: "response_format.json_schema.schema", `{"messages":[{"content":3}]}`: "messages[0].content",
		`{"messages":[{"content":[{"type":"audio"}]}]}`:                                                          "messages[0].content[0].type",
		`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/svg+xml;base64,AQ=="}}]}]}`: "messages[0].content[0].image_url.url",
	} {
		var request *upstream.RequestError
		if _, _, err := parseWire([]byte(body)); !errors.As(err, &request) || request.Field != field {
			t.Errorf("%s: %v, want field %q", body, err, field)
		}
	}
}

func TestCheck(t *testing.T) {
	hello := []Message{{Role: User, Parts: []Part{{Text: "hello"}}}}
	for field, r := range map[string]Request{
		"model": {Messages: hello}, "messages": {Model: "m"}, "tools[1]": {Model: "m", Messages: hello, Tools: []Tool{{Name: "a"}, {Name: "a"}}},
		"tools":    {Model: "m", Messages: hello, Tools: make([]Tool, MaxTools+1)},
		"tools[0]": {Model: "m", Messages: hello, Tools: []Tool{{Name: "a", Schema: json.RawMessage(`{"type":1}`)}}},
		"schema":   {Model: "m", Messages: hello, Output: &Output{Schema: json.RawMessage(`{"$ref":"file:///etc/passwd"}`)}},
		"messages[64]": {Model: "m", Messages: func() (all []Message) {
			for range MaxImages + 1 {
				all = append(all, Message{Role: User, Parts: []Part{{Image: &Image{}}}})
			}
			return all
		}()},
	} {
		var request *upstream.RequestError
		if err := r.Check(); !errors.As(err, &request) || request.Field != field {
			t.Errorf("%v, want field %q", err, field)
		}
	}
}

// A provider's pieces make one answer, within bounds.
func TestAnswerAdds(t *testing.T) {
	var a Answer
	for _, e := range []Event{
		{Text: "a"}, {Tool: &ToolPart{Index: 0, ID: "1", Name: "f", Arguments: `{"x"`}}, {Tool: &ToolPart{Index: 0, Arguments: `:1}`}},
		{Tool: &ToolPart{Index: 1, ID: "2", Name: "g"}}, {Reasoning: "r"}, {Usage: &Usage{Input: 1}}, {Finish: FinishTools},
	} {
		if err := a.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if a.Text != "a" || len(a.ToolCalls) != 2 || a.ToolCalls[0].Arguments != `{"x":1}` || a.Finish != FinishTools || a.Usage.Input != 1 {
		t.Errorf("%+v", a)
	}
	for _, e := range []Event{{Tool: &ToolPart{Index: 3}}, {Tool: &ToolPart{Index: -1}}, {Text: strings.Repeat("a", maxAnswerBytes)}} {
		bad := a
		var fault *upstream.Error
		if err := bad.add(e); !errors.As(err, &fault) || fault.Kind != upstream.Broken {
			t.Errorf("%+v: %v", e.Tool, err)
		}
	}
	r := Request{}
	if err := r.Holds(&Answer{Finish: FinishTools, ToolCalls: []ToolCall{{Name: "f", Arguments: "{"}}}); err == nil {
		t.Error("arguments that are no JSON hold")
	}
}

func TestCost(t *testing.T) {
	for _, c := range []struct {
		price Price
		used  Usage
		want  int64
	}{
		{Price{Input: 3, Output: 15}, Usage{Input: 1000, Output: 100}, 4500},
		{Price{Input: 3, Output: 15, Cached: 0.3}, Usage{Input: 1000, Output: 0, Cached: 1000}, 300},
		{Price{Input: 3}, Usage{Input: 1000, Cached: 1000}, 3000},
		{Price{}, Usage{Input: 1000, Output: 1000}, 0},
	} {
		if got := c.price.Cost(c.used); got != c.want {
			t.Errorf("%+v of %+v costs %d, want %d", c.used, c.price, got, c.want)
		}
	}
}

func FuzzParseWire(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto"}`))
	f.Add([]byte(`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AQ=="}}]}],"response_format":{"type":"json_object"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := parseWire(b)
		if err == nil {
			err = r.Check()
		}
		var request *upstream.RequestError
		if err != nil && !errors.As(err, &request) {
			t.Error(err)
		}
	})
}
