package toolshed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// llama is llama.cpp's own server with a model of random weights.
func llama(t *testing.T) string {
	t.Helper()
	python := os.Getenv("SHED_LLAMA")
	if python == "" {
		t.Skip("SHED_LLAMA names no Python with xllamacpp and gguf; make test sets it")
	}
	cmd := exec.Command(python, "testdata/llama/serve.py", filepath.Join(t.TempDir(), "model.gguf"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		stop := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer stop.Stop()
		_ = cmd.Wait() // it ends as it likes
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "http://") {
			return lines.Text()
		}
	}
	t.Fatal("llama.cpp's server did not start")
	return ""
}

// Somebody else's server understands what we ask, and we what it answers:
// whole, in parts, by a schema, with tools in the conversation, and cancelled.
func TestLLMWithLlama(t *testing.T) {
	s := serveWith(t, llmConfig(map[string]string{"llama": llama(t)}, "  aliases: {m: [llama/model.gguf]}\n"))
	if _, text, _ := ask(t, s, "GET", "/api/ai/llm/models", ""); !strings.Contains(text, "llama/model.gguf") {
		t.Errorf("models: %s", text)
	}
	const messages = `"messages":[{"role":"user","content":"hello"}]`
	var a llmAnswer
	if status, text := chat(t, s, `{"model":"m","max_tokens":12,"temperature":1,"seed":5,`+messages+`}`, &a); status != 200 || a.Finish != "length" && a.Finish != "stop" || a.Usage.Input == 0 {
		t.Errorf("whole: %d %s", status, text)
	}
	_, text := chat(t, s, `{"model":"m","max_tokens":12,"temperature":1,"seed":5,"stream":true,`+messages+`}`, nil)
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var last struct{ Done *llmAnswer }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || len(lines) < 2 || last.Done == nil || last.Done.Finish != "length" && last.Done.Finish != "stop" {
		t.Errorf("in parts: %v %s", err, text)
	}
	schema := `"schema":{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":9}},"required":["n"],"additionalProperties":false}`
	var n struct{ N *int }
	if status, text := chat(t, s, `{"model":"m","max_tokens":400,`+schema+`,`+messages+`}`, &a); status != 200 {
		t.Errorf("by a schema: %d %s", status, text)
	} else if err := json.Unmarshal(a.JSON, &n); a.Finish == "stop" && (err != nil || n.N == nil) {
		t.Errorf("by a schema: %s", text)
	}
	tools := `{"model":"m","max_tokens":4,"tools":[{"name":"now","parameters":{"type":"object"}}],"messages":[{"role":"user","content":"when?"},` +
		`{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function","function":{"name":"now","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"noon"}]}`
	if status, text := chat(t, s, tools, &a); status != 200 {
		t.Errorf("with tools: %d %s", status, text)
	}
	if status, text := chat(t, s, `{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"`+strings.Repeat("word ", 5000)+`"}]}`, nil); status != 422 {
		t.Errorf("too long: %d %s", status, text)
	}
	callsATool(t, s)
	cancelled(t, s)
}

// callsATool has a model call a tool, whole and in parts: llama.cpp holds it to
// the tool's schema, whatever its weights say. When it ends talking is chance,
// and so more than one seed is tried.
func callsATool(t *testing.T, s string) {
	t.Helper()
	const asked = `"model":"m","max_tokens":600,"temperature":1,"tool_choice":"required","messages":[{"role":"user","content":"on?"}],` +
		`"tools":[{"name":"switch","description":"a lamp","parameters":{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"],"additionalProperties":false}}]`
	for _, stream := range []bool{false, true} {
		called := false
		for seed := 1; seed <= 20 && !called; seed++ {
			status, text := chat(t, s, fmt.Sprintf(`{%s,"seed":%d,"stream":%t}`, asked, seed, stream), nil)
			if status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			calls := callsIn(t, text, stream)
			// The last one may be cut off.
			if called = len(calls) > 1 || len(calls) == 1 && strings.Contains(text, `"finish":"tool_calls"`); !called {
				continue
			}
			var arguments map[string]bool
			if err := json.Unmarshal([]byte(calls[0].Arguments), &arguments); err != nil || calls[0].Name != "switch" || len(arguments) != 1 || calls[0].ID == "" {
				t.Errorf("stream %t: %+v", stream, calls[0])
			} else if _, ok := arguments["on"]; !ok {
				t.Errorf("stream %t: %+v", stream, calls[0])
			}
		}
		if !called {
			t.Errorf("stream %t: no tool was called", stream)
		}
	}
}

type toolCall struct{ ID, Name, Arguments string }

// callsIn are the calls of an answer, in parts or whole: a stream's last line
// has what its parts are together.
func callsIn(t *testing.T, text string, stream bool) (calls []toolCall) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var a llmAnswer
	for i, line := range lines {
		var part struct {
			Tool *struct {
				Index int
				toolCall
			} `json:"tool"`
			Done *llmAnswer
		}
		into := any(&part)
		if !stream {
			into = &a
		}
		if err := json.Unmarshal([]byte(line), into); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if part.Tool != nil {
			for len(calls) <= part.Tool.Index {
				calls = append(calls, toolCall{})
			}
			c := &calls[part.Tool.Index]
			c.ID, c.Name, c.Arguments = c.ID+part.Tool.ID, c.Name+part.Tool.Name, c.Arguments+part.Tool.Arguments
		}
		if i == len(lines)-1 && stream {
			a = *part.Done
		}
	}
	if stream && !slices.Equal(calls, a.ToolCalls) {
		t.Errorf("in parts %+v, whole %+v", calls, a.ToolCalls)
	}
	return a.ToolCalls
}

// cancelled gives a long answer up, after which the server has time for another.
func cancelled(t *testing.T, s string) {
	t.Helper()
	for range 4 {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s+"/api/ai/llm/chat", strings.NewReader(`{"model":"m","max_tokens":3000,"stream":true,"messages":[{"role":"user","content":"go on"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Error(err)
		}
		cancel()
		resp.Body.Close()
	}
	// It takes two at once.
	var a llmAnswer
	if status, text := chat(t, s, `{"model":"m","max_tokens":4,"messages":[{"role":"user","content":"hello"}]}`, &a); status != 200 {
		t.Errorf("after four that were given up: %d %s", status, text)
	}
}
