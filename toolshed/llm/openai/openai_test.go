package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/llm"
	"github.com/toolshed-cloud/shed/toolshed/llm/openai"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

func FuzzAnswer(f *testing.F) {
	f.Add("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	f.Add("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n: note\n\ndata: {\"error\":{\"message\":\"no\"}}\n\n")
	f.Add("event: x\ndata:\n\n")
	f.Fuzz(func(t *testing.T, answer string) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		defer s.Close()
		finished := false
		err := openai.New(s.URL, "", s.Client()).Chat(t.Context(), llm.Request{Model: "m"}, func(e llm.Event) error {
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

// chat asks a server that answers with these events, and answers what it was sent.
func chat(t *testing.T, key string, r llm.Request, events ...string) (all []llm.Event, sent, authorization string, err error) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent, authorization = string(body), r.Header.Get("Authorization")
		fmt.Fprintf(w, "data: %s\n\ndata: [DONE]\n\n", strings.Join(events, "\n\ndata: "))
	}))
	defer s.Close()
	err = openai.New(s.URL, key, s.Client()).Chat(t.Context(), r, func(e llm.Event) error { all = append(all, e); return nil })
	return all, sent, authorization, err
}

const ends = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`

// Everything that was asked for is sent, and a key where there is one.
func TestWhatIsSent(t *testing.T) {
	seed, warm := int64(7), 0.5
	request := llm.Request{
		Model: "m", MaxTokens: 9, Seed: &seed, Temperature: &warm, TopP: &warm, Stop: []string{"end"}, Choice: "now",
		Tools:  []llm.Tool{{Name: "now", Schema: json.RawMessage(`{"b":1,"a":2}`)}},
		Output: &llm.Output{Name: "form", Schema: json.RawMessage(`{"type":"object"}`)},
		Extra:  map[string]json.RawMessage{"logprobs": json.RawMessage("true")},
		Messages: []llm.Message{
			{Role: llm.System, Parts: []llm.Part{{Text: "be short"}}},
			{Role: llm.User, Parts: []llm.Part{{Text: "plain"}}},
			{Role: llm.User, Parts: []llm.Part{{Text: "see"}, {Image: &llm.Image{URL: "https://example.com/a.png", Detail: "low"}}, {Image: &llm.Image{MediaType: "image/png", Data: []byte{1}}}}},
			{Role: llm.Assistant, ToolCalls: []llm.ToolCall{{ID: "t0", Name: "now", Arguments: "{}"}}},
			{Role: llm.ToolRole, ToolCallID: "t0", Parts: []llm.Part{{Text: "noon"}}},
		},
	}
	_, sent, authorization, err := chat(t, "key", request, ends)
	if err != nil || authorization != "Bearer key" {
		t.Fatalf("authorized by %q, %v", authorization, err)
	}
	for _, want := range []string{
		`"max_tokens":9`, `"seed":7`, `"temperature":0.5`, `"top_p":0.5`, `"stop":["end"]`, `"logprobs":true`, `"stream":true`, `"include_usage":true`,
		`"parameters":{"b":1,"a":2}`, `"strict":true`, `"name":"form"`, `{"content":"plain","role":"user"}`, `"detail":"low"`,
		`"url":"data:image/png;base64,AQ=="`, `"tool_calls":[{"id":"t0","function":{"arguments":"{}","name":"now"},"type":"function"}]`, `"tool_call_id":"t0"`,
	} {
		if !strings.Contains(sent, want) {
			t.Errorf("no %s in %s", want, sent)
		}
	}
	_, sent, authorization, err = chat(t, "", llm.Request{Model: "m", Output: &llm.Output{}, Choice: llm.ChoiceRequired, Messages: request.Messages[:2]}, ends)
	if err != nil || authorization != "" || !strings.Contains(sent, `"type":"json_object"`) || !strings.Contains(sent, `"tool_choice":"required"`) || strings.Contains(sent, "seed") {
		t.Errorf("authorized by %q: %s, %v", authorization, sent, err)
	}
}

// What an answer holds is passed on, and no other answer than the first.
func TestWhatIsPassedOn(t *testing.T) {
	all, _, _, err := chat(t, "", llm.Request{Model: "m"},
		`{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}},{"index":1,"delta":{"content":"another"},"finish_reason":"length"}]}`,
		`{"choices":[{"index":0,"delta":{"reasoning":", so"}}]}`,
		`{"choices":[{"index":0,"delta":{"content":"no"}}]}`,
		`{"choices":[{"index":0,"delta":{"refusal":"thing"}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t","function":{"name":"f","arguments":"{}"}}]}}]}`,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"function_call"}]}`,
		`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3}}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []llm.Event{
		{Reasoning: "hm"}, {Reasoning: ", so"}, {Text: "no"}, {Text: "thing"},
		{Tool: &llm.ToolPart{Index: 1, ID: "t", Name: "f", Arguments: "{}"}}, {Finish: llm.FinishTools}, {Usage: &llm.Usage{Input: 10, Output: 4, Cached: 3}},
	}
	if !reflect.DeepEqual(all, want) {
		got, _ := json.Marshal(all)
		t.Errorf("passed on %s", got)
	}
	for reason, want := range map[string]llm.Finish{"stop": llm.FinishStop, "length": llm.FinishLength, "tool_calls": llm.FinishTools, "content_filter": llm.FinishFilter, "else": llm.FinishStop} {
		all, _, _, err := chat(t, "", llm.Request{Model: "m"}, `{"choices":[{"index":0,"delta":{},"finish_reason":"`+reason+`"}]}`)
		if err != nil || len(all) != 1 || all[0].Finish != want {
			t.Errorf("%s: %+v, %v", reason, all, err)
		}
	}
	for _, other := range []string{`{"choices":[{"index":0,"delta":{"content":"half"}}]}`, `{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`} {
		var fault *upstream.Error
		if _, _, _, err := chat(t, "", llm.Request{Model: "m"}, other); !errors.As(err, &fault) || fault.Kind != upstream.Broken {
			t.Errorf("%s: %v", other, err)
		}
	}
}

func TestWhatProvidersSay(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header map[string]string
		kind   upstream.Kind
		after  time.Duration
	}{
		"limited":  {429, map[string]string{"Retry-After": "1.5"}, upstream.Limited, 1500 * time.Millisecond},
		"a date":   {429, map[string]string{"Retry-After": "Thu, 26 Nov 2026 00:00:00 GMT"}, upstream.Limited, 0},
		"for ever": {503, map[string]string{"Retry-After": "1e300"}, upstream.Failed, 0},
		"denied":   {401, nil, upstream.Denied, 0}, "slow": {504, nil, upstream.Slow, 0},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range c.header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(c.status)
			fmt.Fprint(w, `{"error":{"message":"why"}}`)
		}))
		err := openai.New(s.URL, "", s.Client()).Chat(t.Context(), llm.Request{Model: "m"}, func(llm.Event) error { return nil })
		s.Close()
		var fault *upstream.Error
		if !errors.As(err, &fault) || fault.Kind != c.kind || fault.RetryAfter != c.after || fault.Err.Error() != "why" {
			t.Errorf("%s: %+v", name, err)
		}
	}
	s := httptest.NewServer(nil)
	s.Close()
	var fault *upstream.Error
	if err := openai.New(s.URL, "", s.Client()).Chat(t.Context(), llm.Request{Model: "m"}, nil); !errors.As(err, &fault) || fault.Kind != upstream.Unreachable {
		t.Errorf("%v", err)
	}
}
