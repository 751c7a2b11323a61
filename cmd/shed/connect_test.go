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
		"curl":              {"PUT", address, nil, http.StatusNoContent, ""},
		"by name":           {"GET", "localhost:4000", nil, http.StatusNoContent, ""},
		"rebound name":      {"GET", "evil.example:4000", nil, http.StatusMisdirectedRequest, "misdirected"},
		"its own page":      {"PUT", address, map[string]string{"Origin": "http://" + address, "Sec-Fetch-Site": "same-origin"}, http.StatusNoContent, ""},
		"typed address":     {"GET", address, map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, http.StatusNoContent, ""},
		"followed link":     {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusNoContent, ""},
		"foreign form":      {"POST", address, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusForbidden, "foreign-origin"},
		"foreign read":      {"GET", address, map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden, "foreign-origin"},
		"foreign script":    {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, http.StatusForbidden, "foreign-origin"},
		"foreign frame":     {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, http.StatusForbidden, "foreign-origin"},
		"another port":      {"GET", address, map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "http://127.0.0.1:5000"}, http.StatusForbidden, "foreign-origin"},
		"tunnel":            {"CONNECT", address, nil, http.StatusMethodNotAllowed, "method-not-allowed"},
		"trace":             {"TRACE", address, nil, http.StatusMethodNotAllowed, "method-not-allowed"},
		"no path":           {"OPTIONS", address, map[string]string{}, http.StatusNotFound, "not-found"},
		"foreign websocket": {"GET", address, map[string]string{"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}, http.StatusForbidden, "foreign-origin"},
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
