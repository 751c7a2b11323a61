package main

import (
	"net/http"
	"net/http/httptest"
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
	}{
		"curl":              {"PUT", address, nil, http.StatusNoContent},
		"by name":           {"GET", "localhost:4000", nil, http.StatusNoContent},
		"rebound name":      {"GET", "evil.example:4000", nil, http.StatusMisdirectedRequest},
		"its own page":      {"PUT", address, map[string]string{"Origin": "http://" + address, "Sec-Fetch-Site": "same-origin"}, http.StatusNoContent},
		"typed address":     {"GET", address, map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, http.StatusNoContent},
		"followed link":     {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusNoContent},
		"foreign form":      {"POST", address, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, http.StatusForbidden},
		"foreign read":      {"GET", address, map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden},
		"foreign script":    {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, http.StatusForbidden},
		"foreign frame":     {"GET", address, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, http.StatusForbidden},
		"another port":      {"GET", address, map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Origin": "http://127.0.0.1:5000"}, http.StatusForbidden},
		"foreign websocket": {"GET", address, map[string]string{"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, "http://"+c.host+"/api/kv/x", nil)
			for key, value := range c.header {
				r.Header.Set(key, value)
			}
			w := httptest.NewRecorder()
			proxy.ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("answered %d, want %d", w.Code, c.want)
			}
		})
	}
}
