package toolshed_test

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// judge is added to a page: it has axe look at it, and notes whether anything
// is wider than the screen.
const judge = `<script src="/axe.js"></script><script>
axe.run().then(r => {
  const found = r.violations.map(v => v.id + ": " + v.help + " at " + v.nodes.map(n => n.target.join(" ")).join(", "));
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push("wider than the screen: " + root.scrollWidth + " of " + root.clientWidth);
  parent.postMessage(found, "*");
});
</script></body>`

// phone shows a page as a phone of 360 pixels does, which is less than a window
// of Chromium's has, and notes what its judge found.
const phone = `<!DOCTYPE html><iframe id="page" width="360" height="800" style="border: 0"></iframe><script>
addEventListener("message", m => {
  const e = document.createElement("pre");
  e.id = "axe-found";
  e.textContent = JSON.stringify(m.data);
  document.body.append(e);
});
document.getElementById("page").src = decodeURIComponent(location.hash.slice(1));
</script>`

// judged serves the toolshed's pages with a judge in each.
func judged(t *testing.T, s, axe string) string {
	t.Helper()
	at, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at) },
		ModifyResponse: func(resp *http.Response) error {
			if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
				return nil
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			b = bytes.Replace(b, []byte("</body>"), []byte(judge), 1)
			resp.Body = io.NopCloser(bytes.NewReader(b))
			resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
			resp.Header.Del("Content-Security-Policy")
			return nil
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/axe.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, axe) })
	mux.HandleFunc("/phone", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, phone) //nolint:errcheck // Chromium has it or the judge does not end
	})
	mux.Handle("/", proxy)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

var axeFound = regexp.MustCompile(`<pre id="axe-found">([^<]*)</pre>`)

// axeSays is what the judge found on a page as a phone shows it.
func axeSays(t *testing.T, at, path string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{
		"--headless=new", "--disable-gpu", "--no-first-run", "--user-data-dir=" + t.TempDir(),
		"--window-size=800,900", "--virtual-time-budget=10000", "--dump-dom", at + "/phone#" + url.PathEscape(path),
	}
	if os.Geteuid() == 0 {
		args = append([]string{"--no-sandbox"}, args...)
	}
	out, err := exec.CommandContext(ctx, "chromium", args...).Output()
	if err != nil {
		t.Fatalf("chromium (Debian package chromium): %v", err)
	}
	m := axeFound.FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s: the judge did not end: %.2000s", path, out)
	}
	var found []string
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

var hrefs = regexp.MustCompile(`<th scope="row"><a href="(/[a-z0-9/]+)">`)

// Every page that the home page leads to, and the root's own, is found to be in
// order by axe, as wide as a phone.
func TestPagesPassAxe(t *testing.T) {
	axe := os.Getenv("SHED_AXE")
	if axe == "" {
		t.Skip("SHED_AXE names no axe.min.js; make test sets it")
	}
	// With everything configured every form is there.
	s := serveWith(t, "img: {providers: {a: {kind: stable-diffusion, url: \"http://127.0.0.1:1\"}}}\n"+
		"transcribe: {first: b, engines: {b: {kind: pocketsphinx, path: /usr/bin/pocketsphinx_continuous}}}\n")
	_, home, _ := ask(t, s, "GET", "/", "")
	asks(t, s, 200, "POST", profileFacts, ann)
	pages := []string{
		"/", "/reference", "/login", "/profile?entity=http://e/ann", "/profile?entity=http://e/bob",
		"/profile?query=SELECT%20*%20%7B%20%3Fs%20%3Fp%20%3Fo%20%7D", "/profile?query=nonsense",
	}
	for _, m := range hrefs.FindAllStringSubmatch(home, -1) {
		pages = append(pages, m[1])
	}
	if len(pages) < 11 {
		t.Errorf("the home page leads to %v", pages)
	}
	at := judged(t, s, axe)
	for _, path := range pages {
		for _, found := range axeSays(t, at, path) {
			t.Errorf("%s: %s", path, found)
		}
	}
}
