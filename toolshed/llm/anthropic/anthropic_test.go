package anthropic_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/anthropic"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// standIn speaks the protocol as its documentation has it; it is no model.
func standIn(t *testing.T, answer string) (*anthropic.Provider, *map[string]any) {
	t.Helper()
	asked := map[string]any{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "key" || r.Header.Get("Anthropic-Version") == "" || r.URL.Path != "/v1/messages" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return anthropic.New(s.URL, "key", s.Client()), &asked
}

func events(all ...string) string {
	text := ""
	for _, e := range all {
		var named struct{ Type string }
		if err := json.Unmarshal([]byte(e), &named); err != nil {
			panic(err)
		}
		text += "event: " + named.Type + "\ndata: " + e + "\n\n"
	}
	return text
}

const (
	start = `{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":5}}}`
	stop  = `{"type":"message_stop"}`
)

func ended(reason string) string {
	return `{"type":"message_delta","delta":{"stop_reason":"` + reason + `"},"usage":{"output_tokens":7}}`
}

func collect(p *anthropic.Provider, t *testing.T, r llm.Request) (all []llm.Event, err error) {
	err = p.Chat(t.Context(), r, func(e llm.Event) error { all = append(all, e); return nil })
	return all, err
}

func TestToolsAndTurns(t *testing.T) {
	p, asked := standIn(t, events(start,
		`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		`{"type":"ping"}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"let me see"}}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"now","input":{}}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"zone\":"}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"utc\"}"}}`,
		ended("tool_use"), stop))
	all, err := collect(p, t, llm.Request{
		Model: "m", Choice: llm.ChoiceRequired, Tools: []llm.Tool{{Name: "now"}},
		Messages: []llm.Message{
			{Role: llm.System, Parts: []llm.Part{{Text: "be short"}}},
			{Role: llm.User, Parts: []llm.Part{{Text: "see"}, {Image: &llm.Image{MediaType: "image/png", Data: []byte{1}}}}},
			{Role: llm.Assistant, ToolCalls: []llm.ToolCall{{ID: "t0", Name: "now", Arguments: `{"zone":"cet"}`}}},
			{Role: llm.ToolRole, ToolCallID: "t0", Parts: []llm.Part{{Text: "noon"}}},
			{Role: llm.User, Parts: []llm.Part{{Text: "and now?"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	arguments, text := "", ""
	for _, e := range all {
		text += e.Text
		if e.Tool != nil {
			arguments += e.Tool.Arguments
		}
	}
	last := all[len(all)-1]
	if text != "let me see" || arguments != `{"zone":"utc"}` || last.Finish != llm.FinishTools {
		t.Errorf("%+v", all)
	}
	if u := all[len(all)-2].Usage; u == nil || *u != (llm.Usage{Input: 15, Output: 7, Cached: 5}) {
		t.Errorf("used %+v", u)
	}
	encoded, _ := json.Marshal(*asked)
	for _, want := range []string{
		`"system":[{"text":"be short","type":"text"}]`, `"tools":[{"input_schema":{"type":"object"},"name":"now"}]`, `"tool_choice":{"type":"any"}`, `"media_type":"image/png"`, `"input":{"zone":"cet"}`,
		`{"content":[{"text":"noon","type":"text"}],"is_error":false,"tool_use_id":"t0","type":"tool_result"},{"text":"and now?","type":"text"}`,
	} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("no %s in %s", want, encoded)
		}
	}
}

// An answer of a schema is the arguments of a tool that has to be called.
func TestSchema(t *testing.T) {
	p, asked := standIn(t, events(start,
		`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t1","name":"answer"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"n\":1}"}}`,
		ended("tool_use"), stop))
	all, err := collect(p, t, llm.Request{
		Model: "m", Output: &llm.Output{Name: "answer", Schema: json.RawMessage(`{"type":"object"}`)},
		Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Text: "count"}}}},
	})
	if err != nil || all[0].Text != `{"n":1}` || all[len(all)-1].Finish != llm.FinishStop {
		t.Errorf("%+v, %v", all, err)
	}
	if choice, _ := (*asked)["tool_choice"].(map[string]any); choice["name"] != "answer" {
		t.Errorf("asked %v", *asked)
	}
}

// Two calls are told apart by their places among the calls, whatever stands
// between them, and what is used counts what is written to the cache too.
func TestSeveralTools(t *testing.T) {
	p, asked := standIn(t, events(
		`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":3}}}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"one","input":{}}}`,
		`{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"t2","name":"two","input":{}}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1"}}`,
		`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"2"}}`,
		`{"type":"content_block_delta","index":4,"delta":{"type":"thinking_delta","thinking":"hm"}}`,
		ended("tool_use"), stop))
	all, err := collect(p, t, llm.Request{Model: "m", Messages: []llm.Message{
		{Role: llm.User, Parts: []llm.Part{{Text: "go"}, {Text: ""}}},
		{Role: llm.Assistant, ToolCalls: []llm.ToolCall{{ID: "t0", Name: "now"}}},
		{Role: llm.User, Parts: []llm.Part{{Image: &llm.Image{URL: "https://example.com/a.png"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	parts, thought := map[int]string{}, ""
	for _, e := range all {
		thought += e.Reasoning
		if e.Tool != nil {
			parts[e.Tool.Index] += e.Tool.ID + e.Tool.Name + e.Tool.Arguments
		}
		if e.Usage != nil && *e.Usage != (llm.Usage{Input: 18, Output: 7, Cached: 5}) {
			t.Errorf("used %+v", *e.Usage)
		}
	}
	if len(parts) != 2 || parts[0] != "t1one1" || parts[1] != "t2two2" || thought != "hm" {
		t.Errorf("called %v, thought %q", parts, thought)
	}
	encoded, _ := json.Marshal((*asked)["messages"])
	for _, want := range []string{
		`[{"content":[{"text":"go","type":"text"}],"role":"user"}`, `"input":{}`, `{"type":"url","url":"https://example.com/a.png"}`,
	} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("no %s in %s", want, encoded)
		}
	}
}

func TestWhyAnswersEnd(t *testing.T) {
	for reason, want := range map[string]llm.Finish{
		"end_turn": llm.FinishStop, "stop_sequence": llm.FinishStop, "max_tokens": llm.FinishLength,
		"model_context_window_exceeded": llm.FinishLength, "tool_use": llm.FinishTools, "refusal": llm.FinishFilter,
	} {
		p, _ := standIn(t, events(start, ended(reason), stop))
		all, err := collect(p, t, llm.Request{Model: "m", Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Text: "hello"}}}}})
		if err != nil || all[len(all)-1].Finish != want {
			t.Errorf("%s: %+v, %v", reason, all, err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	hello := []llm.Message{{Role: llm.User, Parts: []llm.Part{{Text: "hello"}}}}
	for name, c := range map[string]struct {
		answer  string
		request llm.Request
		kind    upstream.Kind
		field   string
	}{
		"overloaded":    {events(start, `{"type":"error","error":{"type":"overloaded_error","message":"later"}}`), llm.Request{Messages: hello}, upstream.Limited, ""},
		"broken off":    {events(start), llm.Request{Messages: hello}, upstream.Broken, ""},
		"no reason":     {events(start, stop), llm.Request{Messages: hello}, upstream.Broken, ""},
		"no JSON":       {"data: {\n\n", llm.Request{Messages: hello}, upstream.Broken, ""},
		"a stray tool":  {events(start, `{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{}"}}`), llm.Request{Messages: hello}, upstream.Broken, ""},
		"a seed":        {"", llm.Request{Messages: hello, Seed: new(int64)}, "", "seed"},
		"another field": {"", llm.Request{Messages: hello, Extra: map[string]json.RawMessage{"logprobs": nil}}, "", "logprobs"},
		"both forms":    {"", llm.Request{Messages: hello, Output: &llm.Output{Name: "a"}, Tools: []llm.Tool{{Name: "b"}}}, "", "tools"},
		"no content":    {"", llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{}}}}}, "", "messages[0]"},
		"bad arguments": {"", llm.Request{Messages: []llm.Message{{Role: llm.Assistant, ToolCalls: []llm.ToolCall{{Arguments: "{"}}}}}, "", "messages[0]"},
	} {
		p, _ := standIn(t, c.answer)
		_, err := collect(p, t, c.request)
		var fault *upstream.Error
		var request *upstream.RequestError
		if c.kind != "" && (!errors.As(err, &fault) || fault.Kind != c.kind) {
			t.Errorf("%s: %v, want %s", name, err, c.kind)
		}
		if c.field != "" && (!errors.As(err, &request) || request.Field != c.field) {
			t.Errorf("%s: %v, want %s", name, err, c.field)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(events(start, `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`, ended("end_turn"), stop))
	f.Add(events(start, `{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}`,
		`{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}`, ended("tool_use"), stop))
	f.Add("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":null}\n\nevent: x\ndata: {\"type\":\"message_stop\"}\n\n")
	f.Fuzz(func(t *testing.T, answer string) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		defer s.Close()
		finished := false
		hello := llm.Request{Model: "m", Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Text: "hello"}}}}}
		err := anthropic.New(s.URL, "key", s.Client()).Chat(t.Context(), hello, func(e llm.Event) error {
			finished = finished || e.Finish != ""
			return nil
		})
		var fault *upstream.Error
		if err != nil && !errors.As(err, &fault) {
			t.Error(err)
		}
		if err == nil && !finished {
			t.Error("an answer that does not end counts as one")
		}
	})
}
