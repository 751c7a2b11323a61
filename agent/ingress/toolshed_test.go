package ingress

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// inProcess is a payload that answers without a socket.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, r)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

var evidenceLink = regexp.MustCompile(`href="(/[^"]*nonce=[0-9a-f]{64})"`)

// The toolshed's home page knows its owner by the ingress, says what it was told
// of the machine, and leads to evidence that the ingress makes itself.
func TestToolshedsHomePage(t *testing.T) {
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := toolshed.Open(t.Context(), toolshed.Options{
		Data: data, BehindAgent: true, Machine: toolshed.Machine{Release: "1.2.3", Epoch: "4"}, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close(); data.Close() })
	c, key := newClaim(t, attest.Nonce{1})
	conn := dial(t, openWith(t, owned{claim: c}, inProcess{root.Handler()}, time.Minute))
	token := ownership.Token(key, conn.Channel)
	req, err := conn.Request(t.Context(), http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(ownership.Header, token)
	page, err := conn.Do(req, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	link := evidenceLink.FindSubmatch(page)
	if link == nil || !strings.Contains(string(page), "1.2.3, epoch 4") || !strings.Contains(string(page), "your key, which this machine's agent has checked") {
		t.Fatalf("the page: %s", page)
	}
	if body, code := ask(t, conn, string(link[1]), token); body != "evidence" || code != "" {
		t.Errorf("%s: %q, %q", link[1], body, code)
	}
}
