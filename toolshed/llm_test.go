package toolshed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// standIn speaks OpenAI's protocol as a provider would; it is no model. What it
// is asked last is in seen.
type standIn struct {
	*httptest.Server
	// answer writes the answer; status other than 0 refuses instead.
	answer func(w http.ResponseWriter, asked map[string]any)
	calls  atomic.Int32
	seen   atomic.Pointer[map[string]any]
}

func newStandIn(t *testing.T, answer func(http.ResponseWriter, map[string]any)) *standIn {
	t.Helper()
	s := &standIn{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"object":"list","data":[{"id":"tiny","object":"model","owned_by":"nobody"}]}`)
			return
		}
		s.calls.Add(1)
		var asked map[string]any
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		s.seen.Store(&asked)
		s.answer(w, asked)
	}))
	t.Cleanup(s.Close)
	return s
}

// says streams texts as a model's answer.
func says(texts ...string) func(http.ResponseWriter, map[string]any) {
	return func(w http.ResponseWriter, _ map[string]any) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, text := range texts {
			fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", text)
		}
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n")
		fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":500,\"total_tokens\":1500}}\n\ndata: [DONE]\n\n")
	}
}

func refuses(status int, header ...string) func(http.ResponseWriter, map[string]any) {
	return func(w http.ResponseWriter, _ map[string]any) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error":{"message":"so it is","type":"x","code":"y"}}`)
	}
}

func llmConfig(providers map[string]string, rest string) string {
	text := allowLoopback + "llm:\n  patience: 0s\n  providers:\n"
	for name, url := range providers {
		text += fmt.Sprintf("    %s: {kind: openai, url: %q}\n", name, url+"/v1")
	}
	return text + rest
}

func chat(t *testing.T, s, body string, into any) (int, string) {
	t.Helper()
	status, text, _ := ask(t, s, "POST", "/api/ai/llm/chat", body, "Content-Type", "application/json")
	if status != 200 && into != nil {
		t.Logf("%d %s", status, text)
	}
	if status == 200 && into != nil {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return status, text
}

type llmAnswer struct {
	Model, Text string
	JSON        json.RawMessage
	Finish      string
	Cost        float64
	Kept        bool
	Usage       struct {
		Input int `json:"input_tokens"`
	}
	ToolCalls []toolCall `json:"tool_calls"`
}

func TestLLMChat(t *testing.T) {
	up := newStandIn(t, says("Good ", "day."))
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, "  aliases: {fast: [local/tiny]}\n  prices: {local/tiny: {input: 2, output: 10}}\n"))
	var a llmAnswer
	chat(t, s, `{"model":"fast","system":"be short","messages":[{"role":"user","content":"hello"}],"cache":"1h"}`, &a)
	if a.Model != "local/tiny" || a.Text != "Good day." || a.Finish != "stop" || a.Usage.Input != 1000 || a.Cost != 0.007 {
		t.Errorf("%+v", a)
	}
	seen := *up.seen.Load()
	if messages, _ := seen["messages"].([]any); len(messages) != 2 || seen["model"] != "tiny" || seen["stream"] != true {
		t.Errorf("it asked %v", seen)
	}
	chat(t, s, `{"model":"fast","system":"be short","messages":[{"role":"user","content":"hello"}],"cache":"1h"}`, &a)
	if !a.Kept || a.Text != "Good day." || a.Cost != 0 || up.calls.Load() != 1 {
		t.Errorf("kept: %+v after %d calls", a, up.calls.Load())
	}
	chat(t, s, `{"model":"fast","system":"be long","messages":[{"role":"user","content":"hello"}],"cache":"1h"}`, &a)
	if up.calls.Load() != 2 {
		t.Errorf("another request: %d calls", up.calls.Load())
	}
	if _, text, _ := ask(t, s, "GET", "/api/ai/llm/spent", ""); !strings.Contains(text, `"calls":2`) || !strings.Contains(text, `"cost":0.014`) {
		t.Errorf("spent: %s", text)
	}
	if _, text, _ := ask(t, s, "GET", "/api/ai/llm/models", ""); !strings.Contains(text, `"id":"fast"`) || !strings.Contains(text, `"id":"local/tiny"`) {
		t.Errorf("models: %s", text)
	}
}

func TestLLMStream(t *testing.T) {
	up := newStandIn(t, says("Good ", "day."))
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, ""))
	_, text := chat(t, s, `{"model":"local/tiny","stream":true,"messages":[{"role":"user","content":"hello"}]}`, nil)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 3 || lines[0] != `{"text":"Good "}` || lines[1] != `{"text":"day."}` || !strings.Contains(lines[2], `"done":{"model":"local/tiny","text":"Good day."`) {
		t.Errorf("%s", text)
	}
}

// A provider that fails is asked again, then the next one; one that answers a
// part and breaks off is not, and the caller is told.
func TestLLMFallback(t *testing.T) {
	const question = `{"model":"m","messages":[{"role":"user","content":"hello"}]}`
	for name, c := range map[string]struct {
		first         func(http.ResponseWriter, map[string]any)
		status, calls int
		code          string
	}{
		"failing":     {refuses(500), 200, 1, ""},
		"limited":     {refuses(429, "Retry-After", "3"), 200, 1, ""},
		"refusing":    {refuses(400), 422, 1, "unprocessable-entity"},
		"no key":      {refuses(401), 200, 1, ""},
		"no protocol": {func(w http.ResponseWriter, _ map[string]any) { fmt.Fprint(w, "hello") }, 200, 1, ""},
		"breaking off": {func(w http.ResponseWriter, _ map[string]any) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
		}, 502, 1, "provider-broken"},
	} {
		first, second := newStandIn(t, c.first), newStandIn(t, says("second"))
		s := serveWith(t, llmConfig(map[string]string{"a": first.URL, "b": second.URL}, "  aliases: {m: [a/x, b/y]}\n"))
		var a llmAnswer
		status, text := chat(t, s, question, &a)
		if status != c.status || int(first.calls.Load()) != c.calls || c.code != "" && !strings.Contains(text, `"code":"`+c.code+`"`) {
			t.Errorf("%s: %d %s after %d calls", name, status, text, first.calls.Load())
		}
		if status == 200 && (a.Text != "second" || a.Model != "b/y") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	limited := newStandIn(t, refuses(429, "Retry-After", "3"))
	s := serveWith(t, llmConfig(map[string]string{"a": limited.URL}, ""))
	status, text, h := ask(t, s, "POST", "/api/ai/llm/chat", `{"model":"a/x","messages":[{"role":"user","content":"hello"}]}`, "Content-Type", "application/json")
	if status != 503 || h.Get("Retry-After") != "3" || !strings.Contains(text, "provider a is rate-limited") {
		t.Errorf("%d %v %s", status, h, text)
	}
}

// What a provider promised is held against its answer.
func TestLLMSchema(t *testing.T) {
	answer := `{"n": 3}`
	up := newStandIn(t, func(w http.ResponseWriter, m map[string]any) { says(answer)(w, m) })
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, ""))
	const question = `{"model":"local/tiny","schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]},"messages":[{"role":"user","content":"hello"}]}`
	var a llmAnswer
	if status, text := chat(t, s, question, &a); status != 200 || string(a.JSON) != `{"n":3}` && string(a.JSON) != answer {
		t.Errorf("%d %s", status, text)
	}
	for _, answer = range []string{`{"n": "three"}`, `no JSON`} {
		if status, text := chat(t, s, question, nil); status != 502 || !strings.Contains(text, "provider-broken") {
			t.Errorf("%s: %d %s", answer, status, text)
		}
	}
}

func TestLLMBadRequests(t *testing.T) {
	up := newStandIn(t, says("x"))
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, ""))
	const messages = `"messages":[{"role":"user","content":"hello"}]`
	for body, says := range map[string]string{
		`{"model":"local/x","messages":[]}`:                                                                                      "messages",
		`{"model":"elsewhere/x",` + messages + `}`:                                                                               "local/…",
		`{"model":"local/x","messages":[{"role":"king","content":"a"}]}`:                                                         "messages[0].role",
		`{"model":"local/x","messages":[{"role":"tool","content":"a","tool_call_id":"1"}]}`:                                      "messages[0].tool_call_id",
		`{"model":"local/x","tool_choice":"f",` + messages + `}`:                                                                 "tool_choice",
		`{"model":"local/x","schema":{"type":"nothing"},` + messages + `}`:                                                       "schema",
		`{"model":"local/x","schema":{"$ref":"http://127.0.0.1:1/"},` + messages + `}`:                                           "schema",
		`{"model":"local/x","cache":"for ever",` + messages + `}`:                                                                "cache",
		`{"model":"local/x","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://a/b.png"}}]}]}`: "image_url.url",
	} {
		if status, text := chat(t, s, body, nil); status != 422 && status != 404 || !strings.Contains(text, says) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if n := up.calls.Load(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

// An OpenAI client works against it, whole and streaming, and hears errors.
func TestLLMByOpenAIsClient(t *testing.T) {
	up := newStandIn(t, says("Good ", "day."))
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, ""))
	client := openai.NewClient(option.WithBaseURL(s+"/api/ai/llm/v1"), option.WithAPIKey("shed-none"), option.WithMaxRetries(0), option.WithHeaderDel("Authorization"))
	params := openai.ChatCompletionNewParams{Model: "local/tiny", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")}}
	whole, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil || whole.Choices[0].Message.Content != "Good day." || whole.Usage.TotalTokens != 1500 {
		t.Fatalf("%+v, %v", whole, err)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		acc.AddChunk(stream.Current())
	}
	if stream.Err() != nil || acc.Choices[0].Message.Content != "Good day." || acc.Choices[0].FinishReason != "stop" {
		t.Errorf("%+v, %v", acc.Choices, stream.Err())
	}
	params.Model = "nobody/tiny"
	var refused *openai.Error
	if _, err := client.Chat.Completions.New(t.Context(), params); !errors.As(err, &refused) || !strings.Contains(refused.Message, "no such model") || refused.Code != "no-model" {
		t.Errorf("%v", err)
	}
	models, err := client.Models.List(t.Context())
	if err != nil || len(models.Data) != 1 || models.Data[0].ID != "local/tiny" {
		t.Errorf("%+v, %v", models, err)
	}
}

// A caller who goes away ends the provider's work.
func TestLLMCancellation(t *testing.T) {
	ended := make(chan struct{})
	up := newStandIn(t, func(w http.ResponseWriter, _ map[string]any) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
		http.NewResponseController(w).Flush()
		<-ended
	})
	defer close(ended)
	gone := make(chan struct{})
	inner := up.Config.Handler
	up.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		context.AfterFunc(r.Context(), func() { close(gone) })
		inner.ServeHTTP(w, r)
	})
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, ""))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s+"/api/ai/llm/chat", strings.NewReader(`{"model":"local/tiny","stream":true,"messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "{\"text\":\"a\"}\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	<-gone
	_, _ = io.Copy(io.Discard, resp.Body)
}
