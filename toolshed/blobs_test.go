package toolshed_test

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// noise are bytes that nothing compresses.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

type keptBlob struct {
	SHA256, BLAKE3, URL string
	Size                int64  `json:"size_bytes"`
	Stored              int64  `json:"stored_bytes"`
	MediaType           string `json:"media_type"`
	Name                string
}

// keepBlob sends a file whole.
func keepBlob(t *testing.T, s, kind, content string) keptBlob {
	t.Helper()
	status, text, _ := ask(t, s, "POST", "/api/blobs?name=x.txt", content, "Content-Type", kind)
	var b keptBlob
	if err := json.Unmarshal([]byte(text), &b); status != 201 || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	return b
}

func TestBlobs(t *testing.T) {
	s := serve(t)
	text := strings.Repeat("all work and no play makes a dull file. ", 100_000)
	for kind, content := range map[string]string{"text/plain": text, "application/octet-stream": noise(3 << 20), "image/png": strings.Repeat("x", 1000), "application/x-empty": ""} {
		b := keepBlob(t, s, kind, content)
		if b.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte(content))) || b.Size != int64(len(content)) || b.MediaType != kind {
			t.Errorf("%+v", b)
		}
		if packed := b.Stored < b.Size; packed != (kind == "text/plain") {
			t.Errorf("%s: %d of %d bytes stored", kind, b.Stored, b.Size)
		}
		for _, url := range []string{b.URL, "/api/blobs/blake3:" + b.BLAKE3} {
			status, got, h := ask(t, s, "GET", url, "")
			if status != 200 || got != content || h.Get("ETag") != `"`+b.SHA256+`"` || !strings.Contains(h.Get("Cache-Control"), "immutable") || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
				t.Errorf("%s: %d, %d bytes, %v", url, status, len(got), h)
			}
		}
		if status, _, _ := ask(t, s, "GET", b.URL, "", "If-None-Match", `"`+b.SHA256+`"`); status != 304 {
			t.Errorf("again: %d", status)
		}
	}
	b := keepBlob(t, s, "text/plain", text)
	for spec, want := range map[string]string{
		"bytes=0-9": text[:10], "bytes=1048570-2097160": text[1048570:2097161], "bytes=-7": text[len(text)-7:],
	} {
		status, got, h := ask(t, s, "GET", b.URL, "", "Range", spec)
		if status != 206 || got != want || !strings.HasPrefix(h.Get("Content-Range"), "bytes ") {
			t.Errorf("%s: %d, %d bytes, %v", spec, status, len(got), h)
		}
	}
	if status, _, _ := ask(t, s, "GET", b.URL, "", "Range", "bytes=99999999-"); status != 416 {
		t.Errorf("beyond the end: %d", status)
	}
	var list struct{ Blobs []keptBlob }
	if _, text, _ := ask(t, s, "GET", "/api/blobs", ""); json.Unmarshal([]byte(text), &list) != nil || len(list.Blobs) != 4 {
		t.Errorf("listed %s", text)
	}
	for path, want := range map[string]int{"/api/blobs/zz": 422, "/api/blobs/" + strings.Repeat("ab", 32): 404, "/api/blobs/" + strings.Repeat("zz", 32): 422} {
		if status, text, _ := ask(t, s, "GET", path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, _, _ := ask(t, s, "DELETE", b.URL, ""); status != 204 {
		t.Errorf("deleting: %d", status)
	}
	if status, _, _ := ask(t, s, "GET", b.URL, ""); status != 404 {
		t.Errorf("deleted: %d", status)
	}
}

// Pages go on where they stopped, with nothing twice.
func TestBlobsPages(t *testing.T) {
	s := serve(t)
	want := map[string]bool{}
	for i := range 5 {
		want[keepBlob(t, s, "text/plain", fmt.Sprint("number ", i)).SHA256] = true
	}
	for after := ""; ; {
		_, text, _ := ask(t, s, "GET", "/api/blobs?limit=2&after="+after, "")
		var page struct {
			Blobs []keptBlob
			Next  string
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil || len(page.Blobs) == 0 {
			t.Fatalf("%v %s", err, text)
		}
		for _, b := range page.Blobs {
			if !want[b.SHA256] {
				t.Errorf("%s is there twice", b.SHA256)
			}
			delete(want, b.SHA256)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(want) != 0 {
		t.Errorf("never listed: %v", want)
	}
}

func tus(header ...string) []string {
	return append([]string{"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream"}, header...)
}

// announce makes an upload and answers its place.
func announce(t *testing.T, s string, length int) string {
	t.Helper()
	metadata := "filename " + base64.StdEncoding.EncodeToString([]byte("ü.bin")) + ",filetype " + base64.StdEncoding.EncodeToString([]byte("text/csv"))
	status, text, h := ask(t, s, "POST", "/api/blobs/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(length), "Upload-Metadata", metadata)
	if status != 201 || h.Get("Location") == "" || h.Get("Upload-Expires") == "" {
		t.Fatalf("%d %s %v", status, text, h)
	}
	return h.Get("Location")
}

// The protocol's rules, each as it is written.
func TestTus(t *testing.T) {
	s := serve(t)
	status, _, h := ask(t, s, "OPTIONS", "/api/blobs/uploads", "")
	if status != 204 || h.Get("Tus-Version") != "1.0.0" || !strings.Contains(h.Get("Tus-Extension"), "checksum,expiration") {
		t.Errorf("%d %v", status, h)
	}
	content := noise(1000)
	at := announce(t, s, len(content))
	sum := func(b string) string {
		x := sha1.Sum([]byte(b))
		return "sha1 " + base64.StdEncoding.EncodeToString(x[:])
	}
	want := func(status int, method, path, body string, header ...string) http.Header {
		t.Helper()
		got, text, h := ask(t, s, method, path, body, header...)
		if got != status {
			t.Errorf("%s %s %v: %d %s, want %d", method, path, header, got, text, status)
		}
		return h
	}
	want(412, "PATCH", at, content, "Content-Type", "application/offset+octet-stream", "Upload-Offset", "0")
	want(415, "PATCH", at, content, "Tus-Resumable", "1.0.0", "Upload-Offset", "0")
	want(400, "PATCH", at, content, tus()...)
	want(409, "PATCH", at, content, tus("Upload-Offset", "7")...)
	want(404, "PATCH", "/api/blobs/uploads/none", content, tus("Upload-Offset", "0")...)
	want(400, "PATCH", at, content[:400], tus("Upload-Offset", "0", "Upload-Checksum", "md5 AAAA")...)
	want(460, "PATCH", at, content[:400], tus("Upload-Offset", "0", "Upload-Checksum", sum("other"))...)
	if h := want(200, "HEAD", at, "", "Tus-Resumable", "1.0.0"); h.Get("Upload-Offset") != "0" || h.Get("Cache-Control") != "no-store" || h.Get("Upload-Length") != "1000" {
		t.Errorf("after a wrong sum: %v", h)
	}
	if h := want(204, "PATCH", at, content[:400], tus("Upload-Offset", "0", "Upload-Checksum", sum(content[:400]))...); h.Get("Upload-Offset") != "400" {
		t.Errorf("%v", h)
	}
	want(413, "PATCH", at, content[400:]+"more", tus("Upload-Offset", "400", "Upload-Checksum", sum(content[400:]+"more"))...)
	h = want(204, "POST", at, content[400:], tus("Upload-Offset", "400", "X-HTTP-Method-Override", "PATCH")...)
	if h.Get("Blob-SHA256") != fmt.Sprintf("%x", sha256.Sum256([]byte(content))) {
		t.Errorf("%v", h)
	}
	status, got, h := ask(t, s, "GET", "/api/blobs/"+h.Get("Blob-SHA256"), "")
	if status != 200 || got != content || h.Get("Content-Type") != "text/csv" || !strings.Contains(h.Get("Content-Disposition"), "%C3%BC.bin") {
		t.Errorf("%d %v", status, h)
	}
	if h := want(200, "HEAD", at, "", "Tus-Resumable", "1.0.0"); h.Get("Upload-Offset") != "1000" {
		t.Errorf("%v", h)
	}
	want(204, "DELETE", at, "", "Tus-Resumable", "1.0.0")
	want(404, "HEAD", at, "", "Tus-Resumable", "1.0.0")
	for _, header := range [][]string{
		{"Upload-Length", "-1"}, {"Upload-Length", "x"}, {"Upload-Length", "5", "Upload-Metadata", "a !!"}, {"Upload-Length", "5", "Upload-Metadata", "a YQ==,a YQ=="},
		{"Upload-Defer-Length", "1"},
	} {
		want(400, "POST", "/api/blobs/uploads", "", append([]string{"Tus-Resumable", "1.0.0"}, header...)...)
	}
	want(413, "POST", "/api/blobs/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "9223372036854775807")
}

// A body that is cut off counts as far as it came.
func TestTusCut(t *testing.T) {
	s := serve(t)
	at := announce(t, s, 1000)
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, s+at, body)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := 0, tus("Upload-Offset", "0"); i < len(h); i += 2 {
		req.Header.Set(h[i], h[i+1])
	}
	events := follow(t, s, at)
	go func() {
		io.WriteString(w, noise(300))
		w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
	}
	if first, second := <-events, <-events; !strings.Contains(first, `"offset":0`) || !strings.Contains(second, `"offset":300`) {
		t.Errorf("heard %s, then %s", first, second)
	}
	for status := http.StatusLocked; status == http.StatusLocked; {
		status, _, _ = ask(t, s, "PATCH", at, noise(1000)[300:], tus("Upload-Offset", "300")...)
		if status != 204 && status != 423 {
			t.Errorf("going on: %d", status)
		}
	}
	var last string
	for e := range events {
		last = e
	}
	if !strings.Contains(last, `"offset":1000`) || !strings.Contains(last, fmt.Sprintf("%x", sha256.Sum256([]byte(noise(1000))))) {
		t.Errorf("heard at last %s", last)
	}
}

// follow hears how an upload gets on, until it is over.
func follow(t *testing.T, s, at string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s+at+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(err, resp)
	}
	events := make(chan string, 100)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		all := make([]byte, 0, 4096)
		for {
			b := make([]byte, 1024)
			n, err := resp.Body.Read(b)
			for all = append(all, b[:n]...); bytes.Contains(all, []byte("\n\n")); {
				one, rest, _ := bytes.Cut(all, []byte("\n\n"))
				events <- string(one)
				all = rest
			}
			if err != nil {
				return
			}
		}
	}()
	return events
}

// What is announced counts as kept, and ending it makes room.
func TestBlobsQuota(t *testing.T) {
	s := serveWith(t, "blobs:\n  quota_bytes: 1000\n")
	at := announce(t, s, 600)
	status, text, _ := ask(t, s, "POST", "/api/blobs", noise(500))
	if status != 507 || !strings.Contains(text, `"quota"`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := ask(t, s, "DELETE", at, "", "Tus-Resumable", "1.0.0"); status != 204 {
		t.Errorf("ending: %d", status)
	}
	b := keepBlob(t, s, "text/plain", noise(500))
	if status, _, _ := ask(t, s, "POST", "/api/blobs", noise(501)); status != 507 {
		t.Errorf("beyond the quota: %d", status)
	}
	if status, _, _ := ask(t, s, "DELETE", b.URL, ""); status != 204 {
		t.Errorf("deleting: %d", status)
	}
	keepBlob(t, s, "text/plain", noise(501))
}

func askHost(t *testing.T, s, host, path string, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestSites(t *testing.T) {
	s := serve(t)
	files := map[string]string{}
	for path, content := range map[string]string{"index.html": "<h1>home", "docs/index.html": "<h1>docs", "style.css": "a{}", "404.html": "<h1>lost"} {
		files[path] = keepBlob(t, s, "text/plain", content).SHA256
	}
	site := func(files map[string]string) string {
		b, err := json.Marshal(map[string]any{"files": files})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	put := func(want int, name, body string) {
		t.Helper()
		if status, text, _ := ask(t, s, "PUT", "/api/blobs/sites/"+name, body, "Content-Type", "application/json"); status != want {
			t.Errorf("%s: %d %s, want %d", body, status, text, want)
		}
	}
	put(204, "blog", site(files))
	put(422, "BLOG", site(files))
	put(422, "fn", site(files))
	put(422, "blog", site(map[string]string{"../x": files["index.html"]}))
	put(422, "blog", site(map[string]string{"x": strings.Repeat("ab", 32)}))
	for path, want := range map[string]string{
		"/": "200 text/html; charset=utf-8 <h1>home", "/docs/": "200 text/html; charset=utf-8 <h1>docs",
		"/style.css": "200 text/css; charset=utf-8 a{}", "/nothing": "404 text/html; charset=utf-8 <h1>lost", "/api/health": "404 text/html; charset=utf-8 <h1>lost",
	} {
		status, got, h := askHost(t, s, "blog.localhost:1234", path, "Range", "bytes=0-100")
		status = map[int]int{206: 200}[status] + map[int]int{404: 404}[status]
		if said := fmt.Sprint(status, " ", h.Get("Content-Type"), " ", got); said != want {
			t.Errorf("%s: %s, want %s", path, said, want)
		}
	}
	status, _, h := askHost(t, s, "blog.localhost", "/docs")
	if status != 301 || h.Get("Location") != "/docs/" {
		t.Errorf("%d %v", status, h)
	}
	_, _, h = askHost(t, s, "blog.localhost", "/style.css")
	if status, _, _ := askHost(t, s, "blog.localhost", "/style.css", "If-None-Match", h.Get("ETag")); status != 304 {
		t.Errorf("again: %d", status)
	}
	if status, _, _ := askHost(t, s, "other.localhost", "/"); status != 404 {
		t.Errorf("a site that is none: %d", status)
	}
	if status, text, _ := ask(t, s, "DELETE", "/api/blobs/"+files["style.css"], ""); status != 409 {
		t.Errorf("deleting what a site shows: %d %s", status, text)
	}
	put(204, "blog", site(map[string]string{"index.html": files["index.html"]}))
	if status, _, h := askHost(t, s, "blog.localhost", "/style.css"); status != 404 || h.Get("Content-Type") != "application/problem+json" {
		t.Errorf("after it is replaced: %d %v", status, h)
	}
	if status, _, _ := ask(t, s, "DELETE", "/api/blobs/"+files["style.css"], ""); status != 204 {
		t.Errorf("deleting what no site shows: %d", status)
	}
	if status, _, _ := ask(t, s, "DELETE", "/api/blobs/sites/blog", ""); status != 204 {
		t.Errorf("deleting the site: %d", status)
	}
}

// The reference shows the protocol's routes, each of which is there and wants who
// it says.
func TestUploadsAreDocumented(t *testing.T) {
	s := serve(t)
	_, text, _ := ask(t, s, "GET", "/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct{ Security []map[string][]string }
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	_, minted, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"x","scopes":["kv:read"]}`, "Content-Type", "application/json")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(minted), &token); err != nil {
		t.Fatal(err)
	}
	_, page, _ := ask(t, s, "GET", "/reference", "")
	shown := 0
	for path, operations := range document.Paths {
		if !strings.HasPrefix(path, "/api/blobs/uploads") {
			continue
		}
		for method, op := range operations {
			shown++
			status, _, h := ask(t, s, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", "x"), "", "Authorization", "Bearer "+token.Token)
			if want := fmt.Sprint(op.Security); (status == 403) != strings.Contains(want, "blobs:write") || status == 404 || status == 405 {
				t.Errorf("%s %s: %d %s, documented as %s", method, path, status, h.Get("WWW-Authenticate"), want)
			}
		}
		if !strings.Contains(page, path) {
			t.Errorf("the reference does not show %s", path)
		}
	}
	if shown != 8 {
		t.Errorf("%d operations", shown)
	}
}

// The page takes a file without a script.
func TestBlobsPage(t *testing.T) {
	s := serve(t)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "letter.txt")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(part, "dear <b>reader</b>")
	form.Close()
	if status, text, _ := ask(t, s, "POST", "/blobs", body.String(), "Content-Type", form.FormDataContentType()); status != 200 || !strings.Contains(text, "letter.txt") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "POST", "/blobs", "x", "Content-Type", "text/plain"); status != 415 {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := ask(t, s, "GET", "/assets/blobs/blobs.js", ""); status != 200 {
		t.Errorf("its script: %d", status)
	}
}
