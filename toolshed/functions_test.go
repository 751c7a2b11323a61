package toolshed_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// probes are the compilers of others that a function is built with, each for
// its own source of the same function.
var probes = map[string]func(out string) *exec.Cmd{
	"go": func(out string) *exec.Cmd {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "main.go")
		cmd.Dir = "functions/testdata/go"
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
		return cmd
	},
	"c": func(out string) *exec.Cmd {
		return exec.Command("clang", "--target=wasm32-wasi", "-O2", "-o", out, "functions/testdata/c/probe.c")
	},
	// Debian's, whatever other is before it on the path.
	"rust": func(out string) *exec.Cmd {
		return exec.Command("/usr/bin/rustc", "--target", "wasm32-wasi", "-O", "-C", "strip=debuginfo", "-o", out, "functions/testdata/rust/probe.rs")
	},
}

// probe builds one.
func probe(t *testing.T, language string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "probe.wasm")
	if said, err := probes[language](out).CombinedOutput(); err != nil {
		t.Fatalf("building in %s (make deps installs the compilers): %v\n%s", language, err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const wasm = "application/wasm"

// shedOf is a toolshed with a function.
type shedOf struct {
	t         *testing.T
	url, name string
}

func deployed(t *testing.T, url, name, module string) shedOf {
	t.Helper()
	if status, text, _ := ask(t, url, "PUT", "/api/functions/"+name, module, "Content-Type", wasm); status != 201 {
		t.Fatalf("deploying: %d %s", status, text)
	}
	return shedOf{t, url, name}
}

func (s shedOf) want(status int, method, below, body string, header ...string) (string, http.Header) {
	s.t.Helper()
	got, text, h := ask(s.t, s.url, method, "/api/functions/"+s.name+below, body, header...)
	if got != status {
		s.t.Errorf("%s %s: %d %.300s, want %d", method, below, got, text, status)
	}
	return text, h
}

func (s shedOf) settings(text string) { s.t.Helper(); s.want(200, "PUT", "/settings", text) }

// on asks the function on its own origin.
func (s shedOf) on(client *http.Client, method, path, body string, header ...string) (int, string, http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	u, _ := url.Parse(s.url)
	req.Host = s.name + ".fn.localhost:" + u.Port()
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// The same function from three compilers: a request as CGI has it, the host's
// function, and what it wrote to its standard error.
func TestFunctionsOfOthers(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
			return
		}
		w.Header().Set("X-Site", "s")
		fmt.Fprintf(w, "%s %s", r.Method, r.Header.Get("X-Key"))
	}))
	t.Cleanup(site.Close)
	shed := serveWith(t, allowLoopback)
	for language := range probes {
		t.Run(language, func(t *testing.T) {
			s := deployed(t, shed, language, probe(t, language))
			s.settings(`{"environment":{"GREETING":"hi"},"kv":true,"fetch":["127.0.0.1"]}`)
			text, _ := s.want(201, "POST", "/invoke/a/b?x=1&y", "body", "X-Trace", "9")
			if text != "POST /a/b?x=1&y hi 9|body" {
				t.Errorf("on the API: %q", text)
			}
			if status, text, _ := s.on(http.DefaultClient, "PUT", "/c", "b2"); status != 201 || text != "PUT /c? hi |b2" {
				t.Errorf("on its own: %d %q", status, text)
			}
			for _, c := range [][2]string{
				{`{"op":"kv.get","key":"n"}`, `{"value":null,"version":0}`},
				{`{"op":"kv.set","key":"n","value":{"a":[1]}}`, `{"version":1}`},
				{`{"op":"kv.set","key":"n","value":2,"version":0}`, `"code":"changed"`},
				{`{"op":"kv.set","key":"n","value":2,"version":1}`, `{"version":2}`},
				{`{"op":"kv.get","key":"n"}`, `{"value":2,"version":2}`},
				{`{"op":"kv.list","prefix":"n"}`, `{"keys":["n"]}`},
				{`{"op":"kv.delete","key":"n"}`, `{}`},
				{`{"op":"fetch","url":"` + site.URL + `/x","method":"POST","headers":{"X-Key":"k"}}`, `"body":"POST k"`},
				{`{"op":"fetch","url":"` + site.URL + `/away"}`, `"code":"host-forbidden"`},
				{`{"op":"fetch","url":"http://example.org/"}`, `"code":"host-forbidden"`},
				{`{"op":"exec"}`, `"code":"unknown-op"`},
				{`nonsense`, `"code":"no-request"`},
			} {
				if text, _ := s.want(200, "POST", "/invoke/host", c[0]); !strings.Contains(text, c[1]) {
					t.Errorf("%s: %s, want %s", c[0], text, c[1])
				}
			}
			if text, _ := s.want(200, "GET", "/logs", ""); !strings.Contains(text, `"text":"called\n"`) {
				t.Errorf("log: %s", text)
			}
			text, _ = s.want(200, "GET", "", "")
			var f struct {
				Account struct {
					Calls     int64 `json:"calls"`
					HostCalls int64 `json:"host_calls"`
					TimeUS    int64 `json:"time_us"`
					Peak      int64 `json:"peak_memory_bytes"`
				} `json:"account"`
			}
			if err := json.Unmarshal([]byte(text), &f); err != nil || f.Account.Calls != 14 || f.Account.HostCalls != 12 || f.Account.TimeUS == 0 || f.Account.Peak < 65536 {
				t.Errorf("account: %s, %v", text, err)
			}
			if language == "c" {
				if text, _ := s.want(200, "GET", "/invoke/outside", ""); text != "-1 -1" {
					t.Errorf("pointers outside of the memory: %q", text)
				}
			}
		})
	}
}

// A function is bounded in everything, and its failures are its own.
func TestFunctionsAreBounded(t *testing.T) {
	shed := serve(t)
	s := deployed(t, shed, "probe", probe(t, "go"))
	s.settings(`{"limits":{"time_ms":300,"memory_bytes":33554432,"host_calls":2}}`)
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/spin": {504, "function-slow"}, "/sleep": {504, "function-slow"}, "/eat": {502, "function-failed"},
		"/flood": {502, "function-output"}, "/fail": {502, "function-failed"},
	} {
		text, h := s.want(want.status, "GET", "/invoke"+path, "")
		wantProblem(t, text, h, want.status, want.code)
	}
	s.settings(`{}`)
	text, _ := s.want(200, "GET", "/invoke/scratch", "")
	if want := "left before: false; hello <nil>; 2 <nil>; full: true; <nil>"; text != want {
		t.Errorf("scratch: %q", text)
	}
	if text, _ := s.want(200, "GET", "/invoke/scratch", ""); !strings.HasPrefix(text, "left before: false") {
		t.Errorf("what a call leaves: %q", text)
	}
	if text, _ := s.want(200, "GET", "/invoke/files", ""); strings.Contains(text, "<nil>") {
		t.Errorf("it reads %s", text)
	}
	text, _ = s.want(200, "GET", "/logs", "")
	if !strings.Contains(text, "it went wrong: \uFFFD") || !strings.Contains(text, "status 7") {
		t.Errorf("log: %s", text)
	}
	if text, _ := s.want(200, "POST", "/invoke/host", `{"op":"kv.get","key":"a"}`); !strings.Contains(text, "kv-off") {
		t.Errorf("keys without leave: %s", text)
	}
	s.settings(`{"limits":{"per_minute":1}}`)
	s.want(201, "GET", "/invoke", "")
	if _, h := s.want(429, "GET", "/invoke", ""); h.Get("Retry-After") == "" {
		t.Errorf("no Retry-After: %v", h)
	}
	s.want(413, "POST", "/invoke", strings.Repeat("x", 4<<20+1))
	s.settings(`{"limits":{"memory_bytes":65536}}`)
	text, h := s.want(502, "GET", "/invoke", "")
	wantProblem(t, text, h, 502, "function-memory")
}

// On the API's origin a function's content is nobody's; on its own it is as it
// says, and only who may gets it.
func TestFunctionOrigins(t *testing.T) {
	shed := serve(t)
	s := deployed(t, shed, "probe", probe(t, "go"))
	_, h := s.want(200, "GET", "/invoke/evil", "")
	if h.Get("Content-Security-Policy") != "sandbox; default-src 'none'" || h.Get("Set-Cookie") != "" || h.Get("X-Of-Its-Own") != "" {
		t.Errorf("on the API's origin: %v", h)
	}
	status, text, h := s.on(http.DefaultClient, "GET", "/evil", "")
	if status != 200 || h.Get("Content-Security-Policy") != "" || h.Get("X-Of-Its-Own") != "yes" || !strings.Contains(text, "<script>") {
		t.Errorf("on its own: %d %v", status, h)
	}
	if status, text, _ := s.on(http.DefaultClient, "GET", "/api/kv", ""); status != 201 || !strings.HasPrefix(text, "GET /api/kv?") {
		t.Errorf("the API on a function's origin: %d %s", status, text)
	}
	// A token with no scopes of this API stands for anybody else.
	_, minted, _ := ask(t, shed, "POST", "/api/auth/tokens", `{"name":"x","scopes":["kv:read"]}`, "Content-Type", "application/json")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(minted), &token); err != nil {
		t.Fatal(err)
	}
	other := []string{"Authorization", "Bearer " + token.Token}
	if status, _, _ := s.on(http.DefaultClient, "GET", "/", "", other...); status != 403 {
		t.Errorf("private: %d", status)
	}
	missing := s
	missing.name = "missing"
	if status, _, _ := missing.on(http.DefaultClient, "GET", "/", "", other...); status != 403 {
		t.Errorf("one that is not there, for who may call none: %d", status)
	}
	if status, _, _ := missing.on(http.DefaultClient, "GET", "/", ""); status != 404 {
		t.Errorf("one that is not there: %d", status)
	}
	s.settings(`{"public":true}`)
	if status, _, _ := s.on(http.DefaultClient, "GET", "/", "", other...); status != 201 {
		t.Errorf("public: %d", status)
	}
	s.want(403, "GET", "/invoke", "", other...)
	s.want(403, "GET", "/logs", "", other...)
	s.want(201, "GET", "/invoke", "")
}

// Versions, secrets, and what is refused with nothing kept of it.
func TestFunctionVersions(t *testing.T) {
	shed := serve(t)
	module := probe(t, "go")
	s := deployed(t, shed, "probe", module)
	if text, _ := s.want(200, "PUT", "", module, "Content-Type", wasm); !strings.Contains(text, `"version":1,"new":false`) {
		t.Errorf("the same module: %s", text)
	}
	// A custom section makes another module of it.
	if text, _ := s.want(201, "PUT", "", module+"\x00\x03\x01xy", "Content-Type", wasm); !strings.Contains(text, `"version":2,"new":true`) {
		t.Errorf("another module: %s", text)
	}
	s.want(204, "POST", "/rollback", `{"version":1}`)
	s.want(404, "POST", "/rollback", `{"version":9}`)
	if text, _ := s.want(200, "GET", "", ""); !strings.Contains(text, `"version":1,"settings"`) || !strings.Contains(text, `"version":2,"sha256"`) {
		t.Errorf("after rolling back: %s", text)
	}
	s.want(204, "PUT", "/secrets/GREETING", `{"value":"hush"}`)
	if text, _ := s.want(201, "GET", "/invoke", ""); !strings.Contains(text, "hush") {
		t.Errorf("a secret is not seen: %s", text)
	}
	if text, _ := s.want(200, "GET", "", ""); strings.Contains(text, "hush") || !strings.Contains(text, `"secrets":["GREETING"]`) {
		t.Errorf("secrets: %s", text)
	}
	// Callers say what these are.
	s.want(422, "PUT", "/secrets/HTTP_PASSWORD", `{"value":"hush"}`)
	s.want(422, "PUT", "/secrets/QUERY_STRING", `{"value":"hush"}`)
	s.want(204, "DELETE", "/secrets/GREETING", "")
	s.want(404, "DELETE", "/secrets/GREETING", "")
	for body, field := range map[string]string{
		`{"schedule":"* * *"}`: "schedule", `{"schedule":"0 0 30 2 *"}`: "schedule", `{"fetch":["a b"]}`: "fetch[0]",
		`{"environment":{"a b":"c"}}`: "environment", `{"queue":"a b"}`: "queue", `{"nonsense":1}`: "nonsense",
	} {
		if text, _ := s.want(422, "PUT", "/settings", body); !strings.Contains(text, field) {
			t.Errorf("%s: %s", body, text)
		}
	}
	s.want(415, "PUT", "", module, "Content-Type", "application/json")
	for name, body := range map[string]string{
		"nothing": "", "no module": "hello", "cut off": module[:len(module)/2],
		"no command": "\x00asm\x01\x00\x00\x00",
		// (import "env" "f" (func))
		"strange import": "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x09\x01\x03env\x01f\x00\x00",
		// (import "wasi_snapshot_preview1" "fd_write" (func)), _start, memory
		"import of another type": "\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x02\x23\x01\x16wasi_snapshot_preview1\x08fd_write\x00\x00\x05\x03\x01\x00\x01\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00",
	} {
		if status, text, _ := ask(t, shed, "PUT", "/api/functions/other", body, "Content-Type", wasm); status != 422 || !strings.Contains(text, "body: the module cannot be run") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, _, _ := ask(t, shed, "GET", "/api/functions/other", ""); status != 404 {
		t.Errorf("something is kept of a refused module: %d", status)
	}
	if status, _, _ := ask(t, shed, "PUT", "/api/functions/big", string(bytes.Repeat([]byte{0}, 16<<20+1)), "Content-Type", wasm); status != 413 {
		t.Errorf("a large module: %d", status)
	}
	s.want(204, "DELETE", "", "")
	s.want(404, "GET", "/invoke", "")
}

// A function is deployed, called and rolled back by forms, without a script.
func TestFunctionsPage(t *testing.T) {
	shed := serve(t)
	module := probe(t, "c")
	form := func(name, content string) (body, kind string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		_ = w.WriteField("name", name)
		f, _ := w.CreateFormFile("module", "m.wasm")
		_, _ = f.Write([]byte(content))
		_ = w.Close()
		return b.String(), w.FormDataContentType()
	}
	body, kind := form("hello", module)
	if status, text, _ := ask(t, shed, "POST", "/functions", body, "Content-Type", kind); status != 200 || !strings.Contains(text, "hello, version 1") {
		t.Fatalf("deploying: %d %s", status, text)
	}
	body, kind = form("hello", "no module")
	if status, text, _ := ask(t, shed, "POST", "/functions", body, "Content-Type", kind); status != 422 || !strings.Contains(text, `role="alert"`) {
		t.Errorf("no module: %d %s", status, text)
	}
	urlencoded := []string{"Content-Type", "application/x-www-form-urlencoded"}
	status, text, _ := ask(t, shed, "POST", "/functions/hello/invoke", "path=/a&body=%3Cb%3E", urlencoded...)
	if status != 200 || !strings.Contains(text, "POST /a?  |&lt;b&gt;") || !strings.Contains(text, "called") {
		t.Errorf("calling: %d %s", status, text)
	}
	if status, text, _ := ask(t, shed, "POST", "/functions/hello/rollback", "version=9", urlencoded...); status != 404 || !strings.Contains(text, "no such version") {
		t.Errorf("rolling back: %d %s", status, text)
	}
	if status, text, _ := ask(t, shed, "GET", "/functions", ""); status != 200 || !strings.Contains(text, `href="/functions/hello"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := ask(t, shed, "POST", "/functions/hello/invoke", "path=/", append(urlencoded, "Sec-Fetch-Site", "cross-site")...); status != 403 {
		t.Errorf("from another site: %d", status)
	}
}

// What was deployed is there after a kill, and is called without being compiled
// again.
func TestFunctionsSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.want(http.StatusCreated, "PUT", "/api/functions/hello", probe(t, "go"), "Content-Type", wasm)
	p.want(http.StatusOK, "PUT", "/api/functions/hello/settings", `{"kv":true}`)
	p.want(http.StatusOK, "POST", "/api/functions/hello/invoke/host", `{"op":"kv.set","key":"k","value":"kept"}`)
	stray := filepath.Join(dir, "functions-compiled", "stray")
	if err := os.Mkdir(stray, 0o700); err != nil {
		t.Fatal(err)
	}
	p.kill()
	compiled, err := filepath.Glob(filepath.Join(dir, "functions-compiled", "*", "*", "*"))
	if err != nil || len(compiled) == 0 {
		t.Fatalf("%v, %v", compiled, err)
	}
	p = start(t, dir)
	if text := p.want(http.StatusOK, "POST", "/api/functions/hello/invoke/host", `{"op":"kv.get","key":"k"}`); text != `{"value":"kept","version":1}` {
		t.Errorf("%s", text)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("what a crash leaves is still there: %v", err)
	}
	p.want(http.StatusNoContent, "DELETE", "/api/functions/hello", "")
	if left, err := os.ReadDir(filepath.Join(dir, "functions-compiled")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	p.stop()
}

// The pages of one function and of one topic, which the home page does not lead
// to, pass axe too.
func TestInnerPagesPassAxe(t *testing.T) {
	axe := os.Getenv("SHED_AXE")
	if axe == "" {
		t.Skip("SHED_AXE names no axe.min.js; make test sets it")
	}
	s := serve(t)
	f := deployed(t, s, "hello", probe(t, "c"))
	f.want(201, "GET", "/invoke", "")
	publishLive(t, s, "news", `{"long":"`+strings.Repeat("x", 300)+`"}`)
	to, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	// A page that listens is never done loading, which is what the browser waits
	// for.
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(to))
	mux.HandleFunc("/api/live/events", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	at := judged(t, front.URL, axe)
	for _, path := range []string{"/functions", "/functions/hello", "/live?topic=news"} {
		for _, found := range axeSays(t, at, path) {
			t.Errorf("%s: %s", path, found)
		}
	}
}

// A queue's messages call the function that names it, until it names another;
// one that fails comes again.
func TestFunctionsFollowQueues(t *testing.T) {
	s := serve(t)
	l := listen(t, s, "topic=feed/functions")
	f := deployed(t, s, "worker", probe(t, "c"))
	send := func(queue, body string) {
		t.Helper()
		if status, text, _ := ask(t, s, "POST", "/api/queue/"+queue+"?backoff=1ms", body, "Content-Type", "text/plain"); status != 201 {
			t.Fatalf("%d %s", status, text)
		}
	}
	send("mail", "before it is followed")
	f.settings(`{"queue":"mail"}`)
	if e := l.next("message"); !strings.Contains(string(e.Data), `"trigger":"queue"`) || strings.Contains(string(e.Data), "failure") {
		t.Errorf("%s", e.Data)
	}
	// Who may not have the messages may not say what is called with them.
	_, minted, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"x","scopes":["functions:*","queue:write"]}`, "Content-Type", "application/json")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(minted), &token); err != nil {
		t.Fatal(err)
	}
	less := []string{"Authorization", "Bearer " + token.Token}
	f.want(403, "PUT", "/settings", `{"queue":"other"}`, less...)
	f.want(403, "PUT", "/settings", `{}`, less...)
	f.want(403, "PUT", "", "", append(less, "Content-Type", wasm)...)
	f.want(403, "POST", "/rollback", `{"version":1}`, less...)
	if status, text, _ := ask(t, s, "POST", "/functions/"+f.name+"/rollback", "version=1", append(less, "Content-Type", "application/x-www-form-urlencoded")...); status != 403 || !strings.Contains(text, "queue:work") {
		t.Errorf("the page: %d %.300s", status, text)
	}
	f.settings(`{"queue":"other"}`)
	send("other", "x")
	if e := l.next("message"); !strings.Contains(string(e.Data), `"trigger":"queue"`) {
		t.Errorf("%s", e.Data)
	}
	f.settings(`{"queue":"other","limits":{"memory_bytes":65536}}`)
	send("other", "y")
	for range 2 {
		if e := l.next("message"); !strings.Contains(string(e.Data), "more memory than it may have") {
			t.Errorf("%s", e.Data)
		}
	}
}

// Strangers who send a body slowly take no more than there is room for.
func TestStrangersAreBounded(t *testing.T) {
	shed := serveWith(t, "functions: {concurrent: 1}\n")
	s := deployed(t, shed, "probe", probe(t, "go"))
	s.settings(`{"public":true}`)
	address := strings.TrimPrefix(shed, "http://")
	// slow is the first line of the answer to a request whose body does not come.
	slow := func() string {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: probe.fn.localhost\r\nContent-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	for range 4 {
		if line := slow(); !strings.Contains(line, "100 Continue") {
			t.Fatal(line)
		}
	}
	if line := slow(); !strings.Contains(line, "429") {
		t.Errorf("one more: %s", line)
	}
}

// On a full disk a function is called although nothing that is compiled fits, and
// another one is refused for the disk's sake.
func TestFunctionsOnAFullDisk(t *testing.T) {
	dir := mountTmpfs(t)
	p := start(t, dir)
	module := probe(t, "c")
	deployed(t, p.url, "kept", module)
	p.stop()
	for range 2 {
		if err := os.RemoveAll(filepath.Join(dir, "functions-compiled")); err != nil {
			t.Fatal(err)
		}
		fill(t, dir)
		p = start(t, dir)
		if text := p.want(201, "POST", "/api/functions/kept/invoke/", "x"); !strings.HasSuffix(text, "|x") {
			t.Errorf("the function answers %q", text)
		}
		// A module of half a megabyte, which is another by that.
		p.want(507, "PUT", "/api/functions/more", module+"\x00\x84\x80\x20\x03pad"+strings.Repeat("x", 512<<10), "Content-Type", wasm)
		p.stop()
	}
}
