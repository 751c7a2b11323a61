package cgi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

func TestVariables(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "http://hello.fn.localhost:8080/a/b?q=1%20", nil)
	for name, value := range map[string]string{
		"Authorization": "Bearer x", "Proxy": "http://evil.example", "X-Trace": "7", "Content-Type": "text/plain", "Shed-Owner": "k",
		"Cookie": "a=b", "Shed_Owner": "k", "Proxy_Authorization": "x", "X_Trace": "8",
	} {
		r.Header.Set(name, value)
	}
	got, err := Request{Request: r, Script: "", Path: "/a/b", Software: "toolshed/1", Length: 3}.Variables()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"REQUEST_METHOD=POST", "PATH_INFO=/a/b", "QUERY_STRING=q=1%20", "CONTENT_LENGTH=3", "CONTENT_TYPE=text/plain",
		"SERVER_NAME=hello.fn.localhost", "SERVER_PORT=8080", "HTTP_X_TRACE=7", "HTTP_COOKIE=a=b", "GATEWAY_INTERFACE=CGI/1.1",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	for _, v := range got {
		for _, never := range []string{"HTTP_AUTHORIZATION", "HTTP_PROXY", "HTTP_SHED_OWNER", "HTTP_CONTENT_TYPE", "HTTP_PROXY_AUTHORIZATION"} {
			if strings.HasPrefix(v, never+"=") {
				t.Errorf("a script sees %s", v)
			}
		}
	}
	if slices.Contains(got, "HTTP_X_TRACE=8") {
		t.Error("an underscore is read as a hyphen")
	}
	r.Header.Set("X-Long", strings.Repeat("x", maxVariables))
	if _, err := (Request{Request: r}).Variables(); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long header: %v", err)
	}
	if _, err := (Request{Request: r, Path: "/a\x00b"}).Variables(); !errors.Is(err, ErrPath) {
		t.Errorf("a zero byte: %v", err)
	}
}

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		output string
		status int
		body   string
		header http.Header
	}{
		"document":       {"Content-Type: text/html\n\n<p>", 200, "<p>", http.Header{"Content-Type": {"text/html"}}},
		"status":         {"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\n", 404, "no\n", http.Header{"Content-Type": {"text/plain"}}},
		"redirect":       {"location: https://example.org/\n\n", 302, "", http.Header{"Location": {"https://example.org/"}}},
		"cookies":        {"Status: 200\nSet-Cookie: a=1; Path=/\nSet-Cookie: b=2; domain=example.org\n\n", 200, "", http.Header{"Set-Cookie": {"a=1; Path=/"}}},
		"of the server":  {"Status: 200\nTransfer-Encoding: chunked\nContent-Length: 9\nShed-Request-Id: x\nClear-Site-Data: *\n\nx", 200, "x", http.Header{}},
		"plain":          {"hello\nworld\n\n", 0, "", nil},
		"no end":         {"Content-Type: text/html\n", 0, "", nil},
		"nothing":        {"", 0, "", nil},
		"no kind":        {"X-A: b\n\nbody", 0, "", nil},
		"twice":          {"Content-Type: a/b\nContent-Type: c/d\n\n", 0, "", nil},
		"informational":  {"Status: 101\n\n", 0, "", nil},
		"a status twice": {"Status: 200\nStatus: 500\n\n", 0, "", nil},
		"folded":         {"Content-Type: a/b\n c: d\n\n", 0, "", nil},
		"a zero byte":    {"Content-Type: a/b\x00\n\n", 0, "", nil},
		"too long":       {"Status: 200\nX-A: " + strings.Repeat("x", maxHeaderBytes) + "\n\n", 0, "", nil},
	} {
		got, err := Parse([]byte(c.output))
		if c.status == 0 {
			if !errors.Is(err, ErrReply) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got.Status != c.status || string(got.Body) != c.body || len(got.Header) != len(c.header) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for field, values := range c.header {
			if !slices.Equal(got.Header[field], values) {
				t.Errorf("%s: %s is %q", name, field, got.Header[field])
			}
		}
	}
}

// What is a reply can be sent, and ends with what followed its header.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"Content-Type: a/b\n\nx", "Status: 200 OK\r\n\r\n", "Location: /\n\n", "a", "\n\n", "Set-Cookie: a=b; Domain=c\nStatus: 204\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, output []byte) {
		r, err := Parse(output)
		if err != nil {
			if !errors.Is(err, ErrReply) {
				t.Fatal(err)
			}
			return
		}
		if r.Status < 200 || r.Status > 599 || !strings.HasSuffix(string(output), string(r.Body)) {
			t.Fatalf("%q: %d %q", output, r.Status, r.Body)
		}
		for name, values := range r.Header {
			for _, v := range values {
				if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) || slices.Contains(dropped, name) {
					t.Fatalf("%q: %q: %q", output, name, v)
				}
			}
		}
	})
}
