package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// ask posts a chat to a server that answers so, and reads the whole answer.
func ask(t *testing.T, answer string) (string, error) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Stainless-") {
				t.Errorf("sent %s", name)
			}
		}
		fmt.Fprint(w, answer)
	}))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Stainless-Os", "Linux")
	resp, err := Client{HTTP: s.Client()}.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// The makers' clients fail on an event without data and read what comes after
// the last: they see neither.
func TestWhatClientsSee(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"OpenAI's":              {": wait\n\ndata: {\"a\":1}\n\n\n: wait\r\n\r\ndata:[DONE]\r\n\r\ndata: {\"b\":1}\n\n", "data: {\"a\":1}\n\ndata: [DONE]\n\n"},
		"Anthropic's":           {"event: ping\ndata:\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\nevent: x\ndata: {}\n\n", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
		"no empty line":         {"data: {\"a\":1}\ndata: {\"b\":2}\ndata: [DONE]\n", "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n"},
		"one name":              {"event: x\ndata: {}\n\ndata: {\"a\":1}\n\nevent: y\n\ndata: [DONE]\n\n", "event: x\ndata: {}\n\ndata: {\"a\":1}\n\ndata: [DONE]\n\n"},
		"a name, no empty line": {"event: x\ndata: {}\ndata: {\"a\":1}\ndata: [DONE]\n", "event: x\ndata: {}\n\ndata: {\"a\":1}\n\ndata: [DONE]\n\n"},
		"no error":              {"data: {\"error\":null}\n\ndata: [DONE]\n\n", "data: {\"error\":null}\n\ndata: [DONE]\n\n"},
	} {
		if got, err := ask(t, c.answer); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestWhatIsNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		kind   upstream.Kind
		said   string
	}{
		"nothing":           {"", upstream.Broken, "before its end"},
		"no end":            {"data: {}\n\n", upstream.Broken, "before its end"},
		"no JSON":           {"data: {\n\n", upstream.Broken, "an event"},
		"a long event":      {"data: \"" + strings.Repeat("a", maxLine) + "\"\n\n", upstream.Broken, "4194304 bytes"},
		"an error":          {"data: {\"error\":{\"message\":\"why\"}}\n\n", upstream.Failed, "why"},
		"an error's text":   {"data: {\"error\":\"why\"}\n\n", upstream.Failed, "why"},
		"a number as error": {"data: {\"error\":3}\n\n", upstream.Broken, "neither"},
		"limited":           {"data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"later\"}}\n\n", upstream.Limited, "later"},
	} {
		_, err := ask(t, c.answer)
		var fault *upstream.Error
		if !errors.As(Fault(t.Context(), err), &fault) || fault.Kind != c.kind || !strings.Contains(fault.Error(), c.said) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever went away hears that they did, whatever the connection said of it.
func TestFaultOfWhoWentAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{errors.New("closed"), upstream.Breaks("cut off"), &upstream.RequestError{Field: "x", Err: errors.New("no")}} {
		if got := Fault(ctx, err); !errors.Is(got, context.Canceled) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if err := Fault(ctx, nil); err != nil {
		t.Errorf("what was whole became %v", err)
	}
}

// A list is read within bounds, and whatever its server calls it.
func TestLists(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		whole  bool
	}{"whole": {"[]", true}, "long": {strings.Repeat(" ", maxList+1), false}} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, c.answer) }))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := Client{HTTP: s.Client()}.Do(req)
		s.Close()
		if (err == nil) != c.whole {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", name, resp.Header)
		}
	}
}
