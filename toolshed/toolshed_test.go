package toolshed_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// serve answers the address of a toolshed on a store of its own.
func serve(t *testing.T) string {
	t.Helper()
	handler, close, err := open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.Close()
		if err := close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s.URL
}

// open is a toolshed on a data directory.
func open(dir string) (_ http.Handler, close func() error, err error) {
	data, err := store.OpenDirectory(dir)
	if err != nil {
		return nil, nil, err
	}
	root, err := toolshed.Open(context.Background(), toolshed.Options{Data: data, BehindAgent: true, Log: zap.NewNop()})
	if err != nil {
		return nil, nil, errors.Join(err, data.Close())
	}
	close = func() error { return errors.Join(root.Close(), data.Close()) }
	return asOwner(root.Handler()), close, nil
}

// asOwner has the agent's word for every request that says nothing itself.
func asOwner(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set(auth.OwnerHeader, strings.Repeat("ab", 32))
		next.ServeHTTP(w, r)
	})
}

func ask(t *testing.T, url, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestKeyValue(t *testing.T) {
	s := serve(t)
	want := func(status int, method, path, body string, header ...string) (string, http.Header) {
		t.Helper()
		got, text, h := ask(t, s, method, path, body, header...)
		if got != status {
			t.Errorf("%s %s %v: %d %s, want %d", method, path, header, got, text, status)
		}
		return text, h
	}
	want(404, "GET", "/api/kv/colour", "")
	want(204, "PUT", "/api/kv/colour", "green", "If-None-Match", "*")
	want(412, "PUT", "/api/kv/colour", "red", "If-None-Match", "*")
	text, h := want(200, "GET", "/api/kv/colour", "")
	if text != "green" || h.Get("ETag") != `"00000000000000010000"` {
		t.Errorf("got %q, etag %s", text, h.Get("ETag"))
	}
	want(204, "PUT", "/api/kv/colour", "blue", "If-Match", h.Get("ETag"))
	want(412, "PUT", "/api/kv/colour", "red", "If-Match", h.Get("ETag"))
	want(400, "PUT", "/api/kv/colour", "red", "If-Match", "nonsense")
	want(413, "PUT", "/api/kv/big", strings.Repeat("x", kv.MaxValueBytes+1))
	want(422, "PUT", "/api/kv/"+strings.Repeat("k", kv.MaxKeyBytes+1), "x")
	want(204, "PUT", "/api/kv/empty", "")
	if text, _ := want(200, "GET", "/api/kv/empty", ""); text != "" {
		t.Errorf("empty value is %q", text)
	}
	want(204, "PUT", "/api/kv/a%2Fb", "slash")
	if text, _ := want(200, "GET", "/api/kv/a%2Fb", ""); text != "slash" {
		t.Errorf("key with a slash holds %q", text)
	}
	want(204, "DELETE", "/api/kv/colour", "")
	want(404, "DELETE", "/api/kv/colour", "")
}

func TestHealthAndDocument(t *testing.T) {
	s := serve(t)
	if status, _, _ := ask(t, s, "GET", "/api/health", ""); status != 200 {
		t.Errorf("health answered %d", status)
	}
	_, text, _ := ask(t, s, "GET", "/openapi.json", "")
	var document struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil || !strings.HasPrefix(document.OpenAPI, "3.1") || document.Paths["/api/kv/{key}"] == nil {
		t.Errorf("openapi %q, paths %v, error %v", document.OpenAPI, document.Paths, err)
	}
	if document.Paths["/api/queue/{queue}"]["post"].Responses["200"].Content == nil {
		t.Error("the answer to a message whose key is known is not documented")
	}
	if !strings.Contains(text, `"anyOf":[{"$ref":"#/components/schemas/KvEntryJSON"},{"type":"null"}]`) {
		t.Error("that an entry may be null is not documented")
	}
	for path, operations := range document.Paths {
		for method, one := range operations {
			if one.Responses["default"].Content["application/problem+json"] == nil {
				t.Errorf("%s %s does not document what it refuses: %v", method, path, one.Responses)
			}
		}
	}
}

// Each form that an answer may have is in the OpenAPI document.
func TestFormsOfAnswersAreDocumented(t *testing.T) {
	_, text, _ := ask(t, serve(t), "GET", "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
	}
	fromJSON(t, text, &document)
	for _, answer := range [][]string{
		{"/api/ai/transcribe", "post", "200", "application/json", "text/plain", "application/x-subrip", "text/vtt"},
		{"/api/ai/url2text", "get", "200", "application/json", "text/markdown", "text/plain"},
		{"/api/ai/llm/v1/chat/completions", "post", "200", "application/json", "text/event-stream"},
		{"/api/ai/llm/v1/chat/completions", "post", "default", "application/json", "application/problem+json"},
	} {
		content := document.Paths[answer[0]][answer[1]].Responses[answer[2]].Content
		for _, form := range answer[3:] {
			if len(content[form].Schema) == 0 {
				t.Errorf("%v has no schema of %s", answer[:3], form)
			}
		}
		if kind := content["application/json"].Schema["type"]; kind == "string" {
			t.Errorf("%v: JSON is a %v", answer[:3], kind)
		}
	}
}
