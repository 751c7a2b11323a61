package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// answers is a client that answers one thing.
type answers struct {
	resp *http.Response
	err  error
}

func (a answers) Do(*http.Request) (*http.Response, error) { return a.resp, a.err }

func exchange(ctx context.Context, a answers, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://example.com", nil)
	if err != nil {
		return nil, err
	}
	return Exchange(a, req, most)
}

func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: h}
}

type late struct{ error }

func (late) Timeout() bool   { return true }
func (late) Temporary() bool { return true }

// What is wrong is told by what happened, and who has to do something by the
// status.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		answers
		kind   Kind
		status int
		again  bool
		after  string
	}{
		"a refusal":       {answers{resp: answer(400, `{"error":{"message":"why"}}`)}, "", 422, false, ""},
		"too large":       {answers{resp: answer(413, "")}, "", 422, false, ""},
		"no key":          {answers{resp: answer(401, "")}, Denied, 502, false, ""},
		"a limit":         {answers{resp: answer(429, "", "Retry-After", "1.5")}, Limited, 503, true, "2"},
		"a long limit":    {answers{resp: answer(429, "", "Retry-After", "3601")}, Limited, 503, true, ""},
		"no number":       {answers{resp: answer(429, "", "Retry-After", "NaN")}, Limited, 503, true, ""},
		"a date":          {answers{resp: answer(429, "", "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT")}, Limited, 503, true, ""},
		"a gateway":       {answers{resp: answer(504, "")}, Slow, 504, true, ""},
		"a failure":       {answers{resp: answer(500, "no")}, Failed, 502, true, ""},
		"an odd success":  {answers{resp: answer(204, "")}, Failed, 502, true, ""},
		"no connection":   {answers{err: errors.New("refused")}, Unreachable, 502, true, ""},
		"no answer":       {answers{err: late{errors.New("late")}}, Slow, 504, true, ""},
		"too long":        {answers{resp: answer(200, "12345")}, Broken, 502, false, ""},
		"as long as most": {answers{resp: answer(200, "1234")}, "", 0, false, ""},
	} {
		b, err := exchange(t.Context(), c.answers, 4)
		if c.status == 0 {
			if err != nil || string(b) != "1234" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
			continue
		}
		var fault *Error
		if errors.As(err, &fault) != (c.kind != "") || fault != nil && (fault.Kind != c.kind || fault.Again() != c.again) {
			t.Errorf("%s: %v", name, err)
		}
		if p := ProblemOf(err, "engine"); p == nil || p.Status != c.status || c.kind != "" && p.Code != "engine-"+string(c.kind) {
			t.Errorf("%s: %+v", name, p)
		}
		if after := RetryAfter(err); after != c.after {
			t.Errorf("%s: to be asked again after %q, want %q", name, after, c.after)
		}
	}
}

// A caller who goes is nobody's fault, and other errors are not this package's.
func TestNoFault(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range []answers{{err: late{context.Canceled}}, {err: errors.New("cut")}} {
		if _, err := exchange(gone, a, 4); !errors.Is(err, context.Canceled) || ProblemOf(err, "engine") != nil || Answer(err, "engine") != nil {
			t.Errorf("%v", err)
		}
	}
}

// What a server says is passed on within bounds, and the time to wait with it.
func TestSaid(t *testing.T) {
	_, err := exchange(t.Context(), answers{resp: answer(429, strings.Repeat("x", 100_000), "Retry-After", "9")}, 4)
	if len(err.Error()) > 1000 {
		t.Errorf("%d bytes are said", len(err.Error()))
	}
	var with interface{ GetHeaders() http.Header }
	var p *problem.Problem
	if said := Answer(err, "engine"); !errors.As(said, &with) || with.GetHeaders().Get("Retry-After") != "9" || !errors.As(said, &p) || p.Status != 503 {
		t.Errorf("%v", said)
	}
	if retryAfter(http.Header{"Retry-After": {"3600"}}) != time.Hour {
		t.Error("an hour is not waited for")
	}
}
