package toolshed_test

import (
	"context"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// home is the home page of a toolshed after some requests.
func home(t *testing.T, o toolshed.Options, header ...string) string {
	t.Helper()
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o.Data, o.Log = data, zap.NewNop()
	o.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	root, err := toolshed.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(root.Handler())
	t.Cleanup(func() { s.Close(); root.Close(); data.Close() })
	if header == nil {
		token, err := root.Tokens().First(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		header = []string{"Authorization", "Bearer " + token}
	}
	ask(t, s.URL, "PUT", "/api/kv/colour", strings.Repeat("x", 2048), header...)
	ask(t, s.URL, "GET", "/api/kv/colour", "", header...)
	ask(t, s.URL, "GET", "/api/kv/colour", "")
	_, text, _ := ask(t, s.URL, "GET", "/", "", header...)
	return text
}

var kvRow = regexp.MustCompile(`kv</a></th><td>1 keys</td><td>[0-9.]+ KiB of 1.0 GiB</td><td>2</td><td>2.0 KiB</td><td>2.0 KiB</td>`)

// The home page says what runs, what was kept and what went through: of those
// who might.
func TestHomeAlone(t *testing.T) {
	text := home(t, toolshed.Options{Machine: toolshed.Machine{Release: "1.2.3"}})
	if !kvRow.MatchString(text) || !strings.Contains(text, `datetime="2026-01-02T03:04:05Z"`) {
		t.Errorf("%s", text)
	}
	if !strings.Contains(text, "runs alone") || strings.Contains(text, "attestation") || strings.Contains(text, "1.2.3") {
		t.Errorf("what it says of the machine: %s", text)
	}
}

var evidenceLink = regexp.MustCompile(`href="/\.well-known/attestation\?nonce=[0-9a-f]{64}"`)

// Behind an agent it says what the agent says, that this proves nothing, and
// where the proof is.
func TestHomeInAMachine(t *testing.T) {
	machine := toolshed.Machine{Release: "1.2.3<i>", Epoch: "4", HardwareReports: "1"}
	text := home(t, toolshed.Options{BehindAgent: true, Machine: machine}, auth.OwnerHeader, strings.Repeat("ab", 32))
	for _, says := range []string{"1.2.3&lt;i&gt;, epoch 4", "and 1 hardware reports", "This page proves nothing", "the verdict of your own client", "your key, which"} {
		if !strings.Contains(text, says) {
			t.Errorf("it does not say %q: %s", says, text)
		}
	}
	if !kvRow.MatchString(text) || !evidenceLink.MatchString(text) {
		t.Errorf("%s", text)
	}
	if text := home(t, toolshed.Options{BehindAgent: true}, auth.OwnerHeader, strings.Repeat("ab", 32)); !strings.Contains(text, "it does not say") || !evidenceLink.MatchString(text) {
		t.Errorf("of an agent that says nothing: %s", text)
	}
}
