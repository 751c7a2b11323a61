package toolshed_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// lasting are requests that end when the caller goes, or never.
var lasting = []string{"/api/live/events?topic=t", "/api/live/socket?topic=t", "/api/kv:watch?key=k", "/api/queue/q/stream", "/api/data/changes"}

// begin asks for what lasts, and answers what waits for its end.
func begin(t *testing.T, url, token string) (ended func() error) {
	t.Helper()
	const patience = 20 * time.Second
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if strings.Contains(url, "/socket?") {
		c, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPHeader: req.Header})
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for err == nil {
				_, _, err = c.Read(ctx)
			}
			return ctx.Err()
		}
	}
	if strings.Contains(url, "/data/") {
		req.Header.Set("Accept", "application/x-ndjson")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, error %v", url, resp, err)
	}
	return func() error {
		defer resp.Body.Close()
		stop := time.AfterFunc(patience, func() { resp.Body.Close() })
		_, _ = io.Copy(io.Discard, resp.Body)
		if !stop.Stop() {
			return fmt.Errorf("%s lasts", url)
		}
		return nil
	}
}

// What lasts ends with the token that it was begun with, and with the one that
// that was made with.
func TestWhatLastsEndsWithItsToken(t *testing.T) {
	s := serve(t)
	mint := func(body string, header ...string) (token, id string) {
		var made struct{ Token, ID string }
		status, text, _ := ask(t, s, "POST", "/api/auth/tokens", body, append(header, "Content-Type", "application/json")...)
		if status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		fromJSON(t, text, &made)
		return made.Token, made.ID
	}
	const scopes = `"scopes":["auth:write","live:read","kv:read","queue:work","data:read"]`
	parent, id := mint(`{"name":"parent",` + scopes + `}`)
	child, _ := mint(`{"name":"child",`+scopes+`}`, "Authorization", "Bearer "+parent)
	var ends []func() error
	for _, path := range lasting {
		ends = append(ends, begin(t, s+path, parent), begin(t, s+path, child))
	}
	if status, text, _ := ask(t, s, "DELETE", "/api/auth/tokens/"+id, ""); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	short, _ := mint(fmt.Sprintf(`{"name":"short",%s,"expires":%q}`, scopes, time.Now().Add(time.Second).Format(time.RFC3339Nano)))
	for _, path := range lasting {
		ends = append(ends, begin(t, s+path, short))
	}
	for _, ended := range ends {
		if err := ended(); err != nil {
			t.Error(err)
		}
	}
}

// What lasts does not keep a toolshed that is to end.
func TestWhatLastsEndsWithTheToolshed(t *testing.T) {
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	root, err := toolshed.Open(t.Context(), toolshed.Options{Data: data, BehindAgent: true, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := httptest.NewServer(asOwner(root.Handler()))
	defer s.Close()
	var ends []func() error
	for _, path := range lasting {
		ends = append(ends, begin(t, s.URL+path, ""))
	}
	root.Stop()
	for _, ended := range ends {
		if err := ended(); err != nil {
			t.Error(err)
		}
	}
}

// A token ends itself and what was made with it; only the owner ends others.
func TestWhoEndsAToken(t *testing.T) {
	s := serve(t)
	mint := func(by string) (token, id string) {
		t.Helper()
		header := []string{"Content-Type", "application/json"}
		if by != "" {
			header = append(header, "Authorization", "Bearer "+by)
		}
		var made struct{ Token, ID string }
		status, text, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"n","scopes":["auth:write"]}`, header...)
		if status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		fromJSON(t, text, &made)
		return made.Token, made.ID
	}
	first, firstID := mint("")
	child, childID := mint(first)
	other, otherID := mint("")
	for _, c := range []struct {
		by, id string
		status int
	}{
		{child, firstID, 403}, {child, otherID, 403}, {first, otherID, 403}, {first, strings.Repeat("a", 26), 404},
		{first, childID, 204}, {other, otherID, 204}, {"", firstID, 204},
	} {
		var header []string
		if c.by != "" {
			header = []string{"Authorization", "Bearer " + c.by}
		}
		if status, text, _ := ask(t, s, "DELETE", "/api/auth/tokens/"+c.id, "", header...); status != c.status {
			t.Errorf("%+v: %d %s", c, status, text)
		}
	}
}
