package openai_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
