package toolshed_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// However a host is written, the API does not answer where content of the
// owner's is.
func TestTheAPIAnswersOnNoOtherOrigin(t *testing.T) {
	s := serve(t)
	if status, text, _ := ask(t, s, "PUT", "/api/kv/colour", "green"); status != http.StatusNoContent {
		t.Fatal(status, text)
	}
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		"blog.localhost", "BLOG.LocalHost", "blog.localhost.", "blog.localhost:" + u.Port(), "blog.localhost.:80", "blog.localhost:",
		"probe.fn.localhost", "PROBE.FN.localhost", "probe.fn.localhost.", "probe.fn.localhost.:80", "probe.fn.localhost:" + u.Port(), "probe.fn.127.0.0.1",
	} {
		for form, text := range map[string]string{
			"by its header":  "GET /api/kv/colour HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
			"by its address": "GET http://" + host + "/api/kv/colour HTTP/1.1\r\nHost: " + u.Host + "\r\n\r\n",
		} {
			if status := raw(t, u.Host, text); status != http.StatusNotFound {
				t.Errorf("%s %s: %d", host, form, status)
			}
		}
	}
}

// raw is the status of the answer to a request as it stands.
func raw(t *testing.T, address, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A page of another site, or of another origin here, changes nothing, opens no
// WebSocket and ends no session.
func TestPagesOfOtherSites(t *testing.T) {
	s := serve(t)
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "http://blog.localhost"}, {"Origin", "null"},
	} {
		for _, c := range [][2]string{
			{"PUT", "/api/kv/colour"}, {"POST", "/api/restore"}, {"POST", "/api/auth/tokens"}, {"POST", "/kv"}, {"PUT", "/api/cron/nightly"},
			{"POST", "/login"}, {"POST", "/logout"},
		} {
			status, text, h := ask(t, s, c[0], c[1], "x", header...)
			if status != http.StatusForbidden || h.Get("Set-Cookie") != "" {
				t.Errorf("%s %s with %s: %d %s", c[0], c[1], header, status, text)
			}
		}
		upgrade := append([]string{
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==",
		}, header...)
		if status, text, _ := ask(t, s, "GET", "/api/live/socket", "", upgrade...); status != http.StatusForbidden {
			t.Errorf("a WebSocket with %s: %d %s", header, status, text)
		}
	}
}

// Nor does a page of another site say who a browser is, to a toolshed alone.
func TestPagesOfOtherSitesSignNobodyInOrOut(t *testing.T) {
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := toolshed.Open(t.Context(), toolshed.Options{Data: data, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(root.Handler())
	t.Cleanup(func() {
		s.Close()
		if err := errors.Join(root.Close(), data.Close()); err != nil {
			t.Error(err)
		}
	})
	token, err := root.Tokens().First(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/login", "/logout"} {
		for site, want := range map[string]bool{"cross-site": false, "same-site": false, "same-origin": true, "none": true} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader("token="+token))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Sec-Fetch-Site", site)
			// The cookie is beside a redirect, which is not followed.
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if (resp.Header.Get("Set-Cookie") != "") != want {
				t.Errorf("%s from %s: %d %v", path, site, resp.StatusCode, resp.Header)
			}
		}
	}
}
