package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// findDeno is the stock Deno with its packages beside it, where make puts it.
func findDeno(t *testing.T) string {
	t.Helper()
	wanted := os.Getenv("SHED_DENO")
	for _, name := range []string{wanted, "../../.cache/tools/deno/node_modules/.bin/deno"} {
		if file, err := filepath.Abs(name); err == nil && name != "" {
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	if wanted != "" {
		t.Fatalf("SHED_DENO is %s, which is not there", wanted)
	}
	t.Skip("no Deno: make .cache/tools/deno/node_modules/.bin/deno gets it, or set SHED_DENO")
	return ""
}

// javascript runs a script of testdata against a toolshed until it says that
// all is fine.
func (p *program) javascript(token string, command ...string) {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), command[0], append(command[1:], p.url+"/kv")...)
	cmd.Env = append(os.Environ(), "DENO_KV_ACCESS_TOKEN="+token, "DENO_NO_UPDATE_CHECK=1", "NO_COLOR=1", "DENO_DIR="+p.t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "fine\n") {
		p.t.Fatalf("%v: %s\n%s", err, out, p.logged())
	}
}

// Deno's own client takes our KV for Deno's, and the HTTP API and Deno see the
// same values.
func TestDeno(t *testing.T) {
	deno := findDeno(t)
	p := start(t, t.TempDir(), nil, "--listen", "127.0.0.1:0")
	token := tokenText.FindString(p.line())
	bearer := []string{"Authorization", "Bearer " + token}
	json := append(bearer, "Content-Type", "application/json")
	if status, text, _ := p.ask("PUT", "/api/kv/from/http", `{"from": "http", "list": [true, null]}`, json...); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
	p.javascript(token, deno, "run", "--quiet", "--no-config", "--unstable-kv", "--allow-net=127.0.0.1", "--allow-env", "testdata/deno.js")
	if status, text, h := p.ask("GET", "/api/kv/for/http", "", bearer...); status != http.StatusOK || text != `{"from":"deno","list":[1,2]}` || h.Get("Content-Type") != "application/json" {
		t.Errorf("what Deno wrote: %d %v %s", status, h, text)
	}
	if status, text, _ := p.ask("GET", "/api/kv/values/big", "", bearer...); status != http.StatusOK || !strings.HasPrefix(text, "\xff") {
		t.Errorf("a bigint: %d %q", status, text)
	}
}

// So does the npm package, whose messages reach the queue and, undelivered, the
// keys that it named.
func TestDenoOfNPM(t *testing.T) {
	deno := findDeno(t)
	// The package is found from where the script is.
	dir := filepath.Join(t.TempDir(), "npm")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/npm.mjs")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs(filepath.Dir(filepath.Dir(deno)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "npm.mjs")
	if err := os.WriteFile(file, script, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, t.TempDir(), nil, "--listen", "127.0.0.1:0")
	token := tokenText.FindString(p.line())
	bearer := []string{"Authorization", "Bearer " + token}
	p.javascript(token, "node", file)

	// This client has a schedule of four retries, whatever it is told.
	for attempt := 1; attempt <= 5; attempt++ {
		_, text, _ := p.ask("POST", "/api/queue/deno/receive?wait=20s", "", bearer...)
		var got struct {
			Messages []struct {
				ID, Receipt string
				Attempt     int
				Value       map[string]string
			}
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Messages) != 1 {
			t.Fatalf("attempt %d: %s", attempt, text)
		}
		m := got.Messages[0]
		if m.Value["hello"] != "queue" || m.Attempt != attempt {
			t.Errorf("attempt %d: %s", attempt, text)
		}
		if status, text, _ := p.ask("POST", "/api/queue/deno/messages/"+m.ID+"/nack?delay=0s&receipt="+m.Receipt, `{"error": "no"}`, append(bearer, "Content-Type", "application/json")...); status != http.StatusNoContent {
			t.Fatalf("%d %s", status, text)
		}
	}
	if line := p.watched("undelivered", bearer); !strings.Contains(line, `"value":{"hello":"queue"}`) {
		t.Errorf("undelivered: %s", line)
	}
}

// watched is what a key holds once it holds something.
func (p *program) watched(key string, header []string) string {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"/api/kv:watch?key="+key, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set(header[0], header[1])
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.Contains(line, `"entry":null`) {
			return line
		}
	}
	p.t.Fatalf("the feed ended: %s", p.logged())
	return ""
}
