package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/functions/functionstest"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// byOwner has the word of a machine's agent for every request.
type byOwner struct{ next http.RoundTripper }

func (b byOwner) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(auth.OwnerHeader, strings.Repeat("ab", 32))
	return b.next.RoundTrip(r)
}

// openToolshed is a toolshed behind an agent.
func openToolshed(t *testing.T) http.Handler {
	t.Helper()
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := toolshed.Open(t.Context(), toolshed.Options{Data: data, BehindAgent: true, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
		if err := data.Close(); err != nil {
			t.Error(err)
		}
	})
	return root.Handler()
}

// toolshedMachine is a toolshed as a verified connection leads to it.
func toolshedMachine(t *testing.T) fnOpener {
	t.Helper()
	s := httptest.NewTLSServer(openToolshed(t))
	t.Cleanup(s.Close)
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return func(*relyingParty, context.Context, time.Duration) (toolshedAt, func(), error) {
		return toolshedAt{machine: at, by: byOwner{s.Client().Transport}}, func() {}, nil
	}
}

// The commands against a real toolshed, but for the verified connection, which
// is connect's.
func TestFn(t *testing.T) {
	open, dir := toolshedMachine(t), t.TempDir()
	module, err := functionstest.Build(t.Context(), t.TempDir(), `package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	b, _ := io.ReadAll(os.Stdin)
	fmt.Fprintln(os.Stderr, "called")
	if string(b) == "fail" {
		os.Exit(3)
	}
	fmt.Printf("%s %s %s", os.Getenv("REQUEST_METHOD"), os.Getenv("PATH_INFO"), b)
}
`)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "m.wasm")
	for path, b := range map[string][]byte{file: module, file + "2": append(module, 0, 3, 1, 'x', 'y'), file + "3": []byte("no module")} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusted := anyTrust(t)
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"deploy URL hello " + file, cli.ExitDone, "hello is now version 1\n"},
		{"deploy URL hello " + file, cli.ExitDone, "hello already was version 1\n"},
		{"deploy URL hello " + file + "2", cli.ExitDone, "hello is now version 2\n"},
		{"deploy URL hello " + file + "3", cli.ExitFailed, "body: the module cannot be run"},
		{"deploy URL hello missing", cli.ExitNotFound, "reading the module"},
		{"rollback URL hello --version 1", cli.ExitDone, "hello is version 1 again\n"},
		{"rollback URL hello --version 7", cli.ExitNotFound, "no such version"},
		{"invoke URL hello --data text --path /a", cli.ExitDone, "POST /a text"},
		{"invoke URL hello --json --method GET", cli.ExitDone, `"status":200`},
		{"invoke URL hello --data fail", cli.ExitFailed, "status 3"},
		{"invoke URL other", cli.ExitNotFound, "no such function"},
		{"logs URL hello", cli.ExitDone, "http version 1: the function failed: status 3"},
		{"logs URL hello", cli.ExitDone, "\n  called\n"},
		{"list URL", cli.ExitDone, "hello version 1, 3 calls, 1 failed"},
		{"list URL --json", cli.ExitDone, `"failures":1`},
		{"deploy URL hello", cli.ExitUsage, "wrong number of arguments"},
	} {
		root := cli.NewRoot("")
		root.AddCommand(newFnCommand(open))
		var out, errs bytes.Buffer
		args := append([]string{"--state", trusted, "fn"}, strings.Fields(strings.Replace(c.args, "URL", "https://127.0.0.1:1", 1))...)
		if exit := cli.Run(t.Context(), root, args, &out, &errs); exit != c.exit || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%s: %d, %q %q", c.args, exit, out.String(), errs.String())
		}
	}
}

// anyTrust is a state directory with what a client needs to begin.
func anyTrust(t *testing.T) string {
	t.Helper()
	script, err := txtar.ParseFile("testdata/script/owner.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir, files := t.TempDir(), map[string][]byte{}
	for _, f := range script.Files {
		files[strings.Replace(f.Name, "root.pem", "ek-root.pem", 1)] = f.Data
	}
	write(t, filepath.Join(dir, "client"), files)
	return dir
}
