package functions

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// spy answers every fetch, and notes where it went.
type spy struct{ went []*http.Request }

func (s *spy) Do(r *http.Request, _ func(*url.URL) error) (*http.Response, error) {
	s.went = append(s.went, r)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"X-A": {"a", "b"}}, Body: io.NopCloser(strings.NewReader("\xff"))}, nil
}

// Whatever a function asks, it is answered in JSON, blames no fault of the host's,
// and goes to none but the hosts of its settings.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"op":"kv.set","key":"a","value":{"b":[1,null]},"version":0}`, `{"op":"kv.get","key":"a"}`, `{"op":"kv.list","prefix":"a","after":"a\u0000"}`,
		`{"op":"kv.delete","key":"a","version":-1}`, `{"op":"kv.set","key":"a","value":"\ud800"}`, `{"op":"kv.get","key":""}`,
		`{"op":"fetch","url":"https://example.com/x","headers":{"Host":"127.0.0.1","a":"b"},"body":"c"}`,
		`{"op":"fetch","url":"http://A.EXAMPLE.ORG.:80/","method":"POST","body_base64":"/w=="}`, `{"op":"fetch","url":"http://example.com@127.0.0.1/"}`,
		`{"op":"fetch","url":"http://127.0.0.1/.example.org"}`, `{"op":"fetch","url":"http://example.com","method":"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}`,
		`{"op":"x"}`, `{"op":"kv.get","key":"a","colour":1}`, `{} {}`,
	} {
		f.Add([]byte(seed))
	}
	s := newShelf(f, 1<<20)
	if _, _, _, err := s.put(f.Context(), "f", []byte("module")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		went := &spy{}
		h := &host{keys: keys{s.db, "f"}, fetcher: went, kv: true, allowed: []string{"example.com", "*.example.org"}}
		answer := h.Answer(t.Context(), request)
		if !json.Valid(answer) || bytes.Contains(answer, []byte(`{"error":{"code":"failed"`)) {
			t.Errorf("%q is answered with %q", request, answer)
		}
		for _, r := range went.went {
			name := strings.ToLower(strings.TrimSuffix(r.URL.Hostname(), "."))
			if name != "example.com" && !strings.HasSuffix(name, ".example.org") || r.URL.User != nil || r.Host != r.URL.Host {
				t.Errorf("%q goes to %s, which it calls %q", request, r.URL, r.Host)
			}
		}
	})
}
