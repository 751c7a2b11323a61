package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// A toolshed's refusal says what it said, and is told by the exit status, for
// every command alike.
func TestToolshedRefusals(t *testing.T) {
	status, says := 0, ""
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		w.Write([]byte(says)) //nolint:errcheck // the test sees what is missing
	}))
	defer s.Close()
	at, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	to := toolshedAt{machine: at, by: s.Client().Transport}
	for _, c := range []struct {
		status, exit   int
		body, contains string
	}{
		{404, cli.ExitNotFound, `{"detail":"no such function"}`, "404: no such function"},
		{401, cli.ExitRefused, `{"detail":"no token"}`, "no token"},
		{403, cli.ExitRefused, "nonsense", "Forbidden"},
		{409, cli.ExitRefused, `{"detail":"kv has 1 keys"}`, "kv has 1 keys"},
		{422, cli.ExitFailed, `{"detail":"body: no backup"}`, "body: no backup"},
		{503, cli.ExitFailed, `{}`, "Service Unavailable"},
		{307, cli.ExitFailed, "", "Temporary Redirect"},
	} {
		status, says = c.status, c.body
		resp, err := to.do(t.Context(), http.MethodGet, "/x?y=z", nil, nil)
		if resp != nil || cli.ExitCode(err) != c.exit || !strings.Contains(fmt.Sprint(err), c.contains) {
			t.Errorf("%d: exit %d, %v", c.status, cli.ExitCode(err), err)
		}
	}
	s.Close()
	if _, err := to.do(t.Context(), http.MethodGet, "/", nil, nil); cli.ExitCode(err) != cli.ExitUnreachable {
		t.Errorf("nobody there: exit %d, %v", cli.ExitCode(err), err)
	}
	if _, err := to.do(t.Context(), "a b", "/", nil, nil); cli.ExitCode(err) != cli.ExitUsage {
		t.Errorf("no method: %v", err)
	}
}
