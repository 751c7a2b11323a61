package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// A control plane that dies between a request and its answer cannot be
// reached, like one that does not listen.
func TestCutConnectionIsUnreachable(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	}))
	defer cut.Close()
	dir := t.TempDir()
	secret, token := filepath.Join(dir, "secret"), filepath.Join(dir, "token")
	for name, content := range map[string]string{secret: "whsec_" + strings.Repeat("A", 32), token: "shed_x"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"webhook", "send", "--user", "ada", "--secret-file", secret, "--url", cut.URL},
		{"instance", "--admin", cut.URL, "--token-file", token, "list"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, &bytes.Buffer{}, &stderr); code != cli.ExitUnreachable || !strings.Contains(stderr.String(), "hint: ") {
			t.Errorf("shed %s exited with %d, want %d and a hint:\n%s", strings.Join(args, " "), code, cli.ExitUnreachable, stderr.String())
		}
	}
}
