package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Deno's own client uses the store of a machine through connect: HTTP/2 to this
// computer, HTTP/1.1 from there.
func TestDenoThroughConnect(t *testing.T) {
	deno := os.Getenv("SHED_DENO")
	if deno == "" {
		t.Skip("SHED_DENO names no Deno; make test sets it")
	}
	toolshed := openToolshed(t)
	spoken := make(chan string, 10_000)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		spoken <- r.Proto
		toolshed.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := localServer(listener.Addr().String(), (&relyingParty{machine: at}).proxy(byOwner{s.Client().Transport}))
	go server.Serve(listener) //nolint:errcheck // it is closed
	t.Cleanup(func() { server.Close() })

	local := "http://" + listener.Addr().String()
	put, err := http.NewRequestWithContext(t.Context(), http.MethodPut, local+"/api/kv/from/http", strings.NewReader(`{"from": "http", "list": [true, null]}`))
	if err != nil {
		t.Fatal(err)
	}
	put.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(put)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	script, err := filepath.Abs("../toolshed/testdata/deno.js")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), deno, "run", "--quiet", "--no-config", "--unstable-kv", "--allow-net=127.0.0.1", "--allow-env", script, local+"/kv")
	// The machine knows its owner by the connection: any token does.
	cmd.Env = append(os.Environ(), "DENO_KV_ACCESS_TOKEN=owner", "DENO_NO_UPDATE_CHECK=1", "NO_COLOR=1", "DENO_DIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "fine\n") {
		t.Fatalf("%v: %s", err, out)
	}
	for range len(spoken) {
		if proto := <-spoken; proto != "HTTP/1.1" {
			t.Fatalf("to the machine it is %s", proto)
		}
	}
}
