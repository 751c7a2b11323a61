package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// Pages of others get nothing from the local proxy, by whatever way.
func TestLocalOnly(t *testing.T) {
	const address = "127.0.0.1:4000"
	proxy := localOnly(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	for name, c := range map[string]struct {
		method, host string
		header       map[string]string
		want         int
		code         string
	}{
		"curl":                    {"PUT", address, nil, http.StatusNoContent, ""},
		"by name":                 {"GET", "localhost:4000", nil, http.StatusNoContent, ""},
		"an origin of its own":    {"GET", "notes.fn.localhost:4000", nil, http.StatusNoContent, ""},
		"its origin's own page":   {"POST", "notes.localhost:4000", map[string]string{"Origin": "http://notes.localhost:4000", "Sec-Fetch-Site": "same-origin"}, http.StatusNoContent, ""},
		"an origin for another":   {"GET", "localhost:4000", map[string]string{"Origin": "http://notes.localhost:4000", "Sec-Fetch-Site": "same-site"}, http.StatusForbidden, "foreign-origin"},
		"a script's from another": {"GET", address, map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, http.StatusForbidden, "foreign-origin"},
		"another port's origin":   {"GET", "notes.localhost:5000", nil, http.StatusMisdirectedRequest, "misdirected"},
		"a name like an origin":   {"GET", "notes.localhost.evil.example:4000", nil, http.StatusMisdirectedRequest, "misdirected"},
		"rebound name":            {"GET", "evil.example:4000", nil, http.StatusMisdirectedRequest, "misdirected"},
		"its own page":            {"PUT", address, map[string]string{"Origin": "http://" + address, "Sec-Fetch-Site": "same-origin"}, http.StatusNoContent, ""},
		"typed address":           {"GET", address, map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, http.StatusNoContent, ""},
		"followed link":           {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusNoContent, ""},
		"foreign form":            {"POST", address, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusForbidden, "foreign-origin"},
		"foreign read":            {"GET", address, map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden, "foreign-origin"},
		"foreign script":          {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, http.StatusForbidden, "foreign-origin"},
		"foreign frame":           {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, http.StatusForbidden, "foreign-origin"},
		"another port":            {"GET", address, map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "http://127.0.0.1:5000"}, http.StatusForbidden, "foreign-origin"},
		"tunnel":                  {"CONNECT", address, nil, http.StatusMethodNotAllowed, "method-not-allowed"},
		"trace":                   {"TRACE", address, nil, http.StatusMethodNotAllowed, "method-not-allowed"},
		"no path":                 {"OPTIONS", address, map[string]string{}, http.StatusNotFound, "not-found"},
		"foreign websocket":       {"GET", address, map[string]string{"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}, http.StatusForbidden, "foreign-origin"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "http://"+c.host+"/api/kv/x", nil)
			if name == "no path" {
				r.URL = &url.URL{Path: "*"}
			}
			for key, value := range c.header {
				r.Header.Set(key, value)
			}
			w := httptest.NewRecorder()
			proxy.ServeHTTP(w, r)
			if c.code != "" {
				wantProblem(t, w, c.want, c.code)
			} else if w.Code != c.want {
				t.Errorf("answered %d, want %d", w.Code, c.want)
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The payload hears which of its origins is meant, and of no other name.
func TestConnectPassesOriginsOn(t *testing.T) {
	c := &relyingParty{machine: &url.URL{Scheme: "https", Host: "machine.example:443"}}
	for host, want := range map[string]string{
		"127.0.0.1:4000": "", "localhost:4000": "", "notes.fn.localhost:4000": "notes.fn.localhost:4000",
	} {
		var got *http.Request
		proxy := c.proxy(roundTrip(func(r *http.Request) (*http.Response, error) {
			got = r
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Header: http.Header{}}, nil
		}))
		proxy.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		if got.Host != want || got.URL.Host != "machine.example:443" {
			t.Errorf("%s: host %q to %s, want %q", host, got.Host, got.URL.Host, want)
		}
	}
}
