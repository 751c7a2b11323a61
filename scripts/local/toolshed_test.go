package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// inside talks to the toolshed in a machine, by one shed connect.
type inside struct {
	*world
	proxy *proxy
}

// asks fails the test unless the answer has the status and says so. host is
// empty for the toolshed's own.
func (in *inside) asks(status int, method, path, host, contentType string, body []byte, says string) []byte {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.proxy.URL+path, bytes.NewReader(body))
	in.must(err)
	if host != "" {
		_, port, _ := strings.Cut(req.URL.Host, ":")
		req.Host = host + ":" + port
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	in.must(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	in.must(err)
	if resp.StatusCode != status || !strings.Contains(string(answer), says) {
		in.t.Errorf("%s %s%s: %d %.300s, want %d with %q", method, host, path, resp.StatusCode, answer, status, says)
	}
	return answer
}

// function is a module that another compiler makes.
func (in *inside) function() []byte {
	in.t.Helper()
	dir := in.t.TempDir()
	source, module := filepath.Join(dir, "main.go"), filepath.Join(dir, "main.wasm")
	in.must(os.WriteFile(source, []byte("package main\n\nfunc main() { print(\"logged\"); println() ; say() }\n\nfunc say() { _, _ = out.WriteString(\"Content-Type: text/html\\n\\n<p>made inside</p>\") }\n"), 0o600))
	in.must(os.WriteFile(filepath.Join(dir, "out.go"), []byte("package main\n\nimport \"os\"\n\nvar out = os.Stdout\n"), 0o600))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", module, source, filepath.Join(dir, "out.go"))
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(module)
	in.must(err)
	return b
}

var evidenceLink = regexp.MustCompile(`href="(/\.well-known/attestation\?nonce=[0-9a-f]{64})"`)

// everyAPI uses what needs no network, in the machine, as its owner does.
func (w *world) everyAPI(machine string) {
	w.t.Helper()
	x, err := w.place.connect(w.t.Context(), machine, 0)
	w.must(err)
	defer x.stop() //nolint:errcheck // the answers count
	in := &inside{world: w, proxy: x}
	const asJSON = "application/json"

	in.asks(200, "GET", "/api/whoami", "", "", nil, `"way":"owner"`)
	home := in.asks(200, "GET", "/", "", "", nil, "This page proves nothing")
	if link := evidenceLink.FindSubmatch(home); link == nil || !bytes.Contains(home, []byte("epoch 1")) {
		w.t.Errorf("the home page: %s", home)
	} else {
		in.asks(200, "GET", string(link[1]), "", "", nil, "")
	}

	in.asks(201, "POST", "/api/queue/mail", "", asJSON, []byte(`{"to":"anna"}`), `"id"`)
	var received struct {
		Messages []struct{ ID, Receipt string }
	}
	in.must(json.Unmarshal(in.asks(200, "POST", "/api/queue/mail/receive?wait=5s", "", "", nil, `"to":"anna"`), &received))
	if len(received.Messages) == 1 {
		m := received.Messages[0]
		in.asks(204, "POST", "/api/queue/mail/messages/"+m.ID+"/ack?receipt="+m.Receipt, "", "", nil, "")
	} else {
		w.t.Errorf("received %+v", received)
	}

	var blob struct {
		SHA256 string `json:"sha256"`
	}
	in.must(json.Unmarshal(in.asks(201, "POST", "/api/blobs?name=index.html", "", "text/html", []byte("<p>a page</p>"), `"sha256"`), &blob))
	in.asks(200, "GET", "/api/blobs/"+blob.SHA256, "", "", nil, "<p>a page</p>")
	in.asks(204, "PUT", "/api/blobs/sites/notes", "", asJSON, []byte(`{"public":true,"files":{"index.html":"`+blob.SHA256+`"}}`), "")
	in.asks(200, "GET", "/", "notes.localhost", "", nil, "<p>a page</p>")
	in.asks(404, "GET", "/api/kv/colour", "notes.localhost", "", nil, "")

	in.asks(201, "POST", "/api/data/collections/notes/documents", "", asJSON, []byte(`{"text":"milk","n":2}`), "")
	in.asks(200, "POST", "/api/data/collections/notes/query", "", asJSON, []byte(`{"filter":{"n":{"$gte":2}}}`), "milk")

	in.asks(200, "POST", "/api/profile/facts?source=vm", "", "application/ld+json", []byte(`{"@context":"https://schema.org","@id":"urn:x:ann","name":"Ann"}`), `"added":1`)
	in.asks(200, "POST", "/api/profile/sparql", "", "application/sparql-query", []byte(`SELECT ?n { ?x <http://schema.org/name> ?n }`), `"value":"Ann"`)
	in.asks(200, "DELETE", "/api/profile/entity?entity=urn:x:ann", "", "", nil, `"deleted":1`)
	in.asks(200, "POST", "/api/profile/sparql", "", "application/sparql-query", []byte(`ASK { ?s ?p ?o }`), `"boolean":false`)

	in.asks(201, "PUT", "/api/functions/made", "", "application/wasm", in.function(), `"version":1`)
	in.asks(200, "GET", "/api/functions/made/invoke/", "", "", nil, "<p>made inside</p>")
	in.asks(200, "GET", "/", "made.fn.localhost", "", nil, "<p>made inside</p>")
	in.asks(200, "GET", "/api/functions/made/logs", "", "", nil, "logged")

	in.asks(201, "POST", "/api/live/publish", "", asJSON, []byte(`{"topic":"news","data":1}`), `"id"`)
	in.asks(403, "GET", "/api/ai/url2text?url=http://169.254.169.254/", "", "", nil, "address-forbidden")
}
