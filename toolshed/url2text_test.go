package toolshed_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/url2text"
)

// serveWith is a toolshed with a configuration, as the owner meets it.
func serveWith(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(file, []byte("version: 1\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, true, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	root, err := toolshed.Open(context.Background(), toolshed.Options{Data: data, Config: c, BehindAgent: true, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(asOwner(root.Handler()))
	t.Cleanup(func() {
		root.Stop()
		s.Close()
		if err := root.Close(); err != nil {
			t.Error(err)
		}
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URL
}

const allowLoopback = "fetch:\n  allow: [127.0.0.1]\n"

func TestURL2Text(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/robots.txt":
			fmt.Fprint(w, "User-agent: *\nDisallow: /private\n")
		case "/busy":
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(http.StatusTooManyRequests)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/inside":
			http.Redirect(w, r, "http://169.254.169.254/latest/", http.StatusFound)
		case "/image":
			w.Header().Set("Content-Type", "image/png")
		default:
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<title>T</title><article><h1>Head</h1><p>"+strings.Repeat("Some words stand here for a reader. ", 20)+`<a href="/x">and a link</a></p></article>`)
		}
	}))
	t.Cleanup(site.Close)
	s := serveWith(t, allowLoopback)
	read := func(path string) string { return "/api/ai/url2text?url=" + url.QueryEscape(site.URL+path) }

	status, text, _ := ask(t, s, "POST", "/api/ai/url2text", fmt.Sprintf(`{"url":%q,"links":"listed"}`, site.URL+"/page"), "Content-Type", "application/json")
	var doc url2text.Document
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if doc.Title != "T" || len(doc.Links) != 1 || doc.Links[0].URL != site.URL+"/x" || strings.Contains(doc.Content, "](") {
		t.Errorf("%s", text)
	}
	status, text, h := ask(t, s, "GET", read("/page"), "", "Accept", "text/markdown")
	if status != 200 || h.Get("Content-Type") != "text/markdown; charset=utf-8" || !strings.Contains(text, "[and a link]("+site.URL+"/x)") {
		t.Errorf("%d %v %s", status, h, text)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/private/a": {403, "robots"}, "/busy": {503, "site-busy"}, "/gone": {502, "site-refuses"},
		"/inside": {403, "address-forbidden"}, "/image": {502, "page-unreadable"},
	} {
		status, text, h := ask(t, s, "GET", read(path), "")
		if status != want.status || !strings.Contains(text, `"code":"`+want.code+`"`) || path == "/busy" && h.Get("Retry-After") != "9" {
			t.Errorf("%s: %d %v %s", path, status, h, text)
		}
	}
	for query, want := range map[string]int{"url=ftp://a/": 422, "": 422, "url=https://a/&format=pdf": 422, "uri=https://a/": 422, "url=" + url.QueryEscape(site.URL) + "&browser=true": 501} {
		if status, text, _ := ask(t, s, "GET", "/api/ai/url2text?"+query, ""); status != want {
			t.Errorf("%q: %d %s", query, status, text)
		}
	}
	closed := serve(t)
	if status, text, _ := ask(t, closed, "GET", read("/page"), ""); status != 403 || !strings.Contains(text, "address-forbidden") {
		t.Errorf("by default: %d %s", status, text)
	}
}
