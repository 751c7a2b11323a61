package toolshed_test

import (
	"net/url"
	"strings"
	"testing"
)

// The pages of what is asked of others do the useful thing without a script.
func TestPagesDoTheUsefulThing(t *testing.T) {
	up := newStandIn(t, says("Good ", "<b>day</b>."))
	s := serveWith(t, llmConfig(map[string]string{"local": up.URL}, "  aliases: {m: [local/tiny]}\n"))
	form := func(values ...string) string {
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		return v.Encode()
	}
	const encoded = "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"chat":               {"POST", "/llm", form("model", "m", "message", "hello", "history", `[{"role":"user","text":"a"},{"role":"assistant","text":"b"}]`), 200, "Good &lt;b&gt;day"},
		"chat with nobody":   {"POST", "/llm", form("model", "x", "message", "hello", "history", `[]`), 404, "no such model"},
		"a broken history":   {"POST", "/llm", form("model", "m", "message", "hello", "history", `[`), 422, "did not arrive whole"},
		"read nothing":       {"GET", "/url2text", "", 200, "Address of the page"},
		"read what is none":  {"GET", "/url2text?url=ftp://a/", "", 422, "scheme"},
		"images of nobody":   {"GET", "/img", "", 200, "No provider is configured"},
		"an image of nobody": {"POST", "/img", form("model", "a/b", "prompt", "c"), 404, "no such model"},
		"no engine":          {"GET", "/transcribe", "", 200, "No engine is configured"},
	} {
		status, text, h := ask(t, s, c.method, c.path, c.body, "Content-Type", encoded)
		if status != c.status || !strings.Contains(text, c.says) || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if seen := up.seen.Load(); seen == nil {
		t.Error("the model was not asked")
	} else if messages, _ := (*seen)["messages"].([]any); len(messages) != 3 {
		t.Errorf("asked %v", *seen)
	}
}
