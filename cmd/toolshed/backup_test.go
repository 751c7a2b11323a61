package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// token is what a program that is alone prints when it is new.
func (p *program) token() string {
	p.t.Helper()
	line := p.line()
	_, token, ok := strings.Cut(line, ": ")
	if !ok {
		p.t.Fatalf("it prints %q", line)
	}
	return token
}

// backup is a decrypted backup.
func (p *program) backup(token string, identity *age.X25519Identity) []byte {
	p.t.Helper()
	status, sealed, _ := p.ask("GET", "/api/backup?recipient="+identity.Recipient().String(), "", "Authorization", "Bearer "+token)
	if status != http.StatusOK {
		p.t.Fatalf("backing up: %d %s", status, sealed)
	}
	plain, err := age.Decrypt(strings.NewReader(sealed), identity)
	if err != nil {
		p.t.Fatal(err)
	}
	b, err := io.ReadAll(plain)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// contents are a backup's files but the list of them, which bears a time.
func contents(t *testing.T, b []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "manifest.json" {
			all[h.Name] = string(file)
		}
	}
}

// Everything comes back in a fresh toolshed, byte for byte, and the tokens of
// the old one are good there.
func TestBackupAndRestore(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	old := start(t, t.TempDir(), nil, "--listen", "127.0.0.1:0")
	token := old.token()
	value := make([]byte, 700_000)
	rand.Read(value)
	for key, v := range map[string]string{"colour": "green", "noise": string(value)} {
		if status, text, _ := old.ask("PUT", "/api/kv/"+key, v, "Authorization", "Bearer "+token); status != http.StatusNoContent {
			t.Fatalf("%d %s", status, text)
		}
	}
	facts := func(what, object string) {
		t.Helper()
		body := `{"source": "test", "facts": [{"subject": "urn:x:ann", "predicate": "urn:x:` + what + `", "object": "` + object + `"}]}`
		status, text, _ := old.ask("POST", "/api/profile/facts", body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, text)
		}
	}
	facts("kept", "AFactThatIsKept")
	facts("deleted", "AFactThatIsDeleted")
	if !bytes.Contains(old.backup(token, identity), []byte("AFactThatIsDeleted")) {
		t.Error("a fact is in no backup")
	}
	if status, text, _ := old.ask("DELETE", "/api/profile/facts/2", "", "Authorization", "Bearer "+token); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	saved := old.backup(token, identity)
	if bytes.Contains(saved, []byte("AFactThatIsDeleted")) {
		t.Error("what was deleted is in a backup")
	}
	if bytes.Contains(saved[:64], []byte("age-encryption")) || !bytes.Contains(saved, value[:64]) {
		t.Error("the backup is not a plain one")
	}

	fresh := start(t, t.TempDir(), nil, "--listen", "127.0.0.1:0")
	its := fresh.token()
	restore := func(b []byte) (int, string) {
		status, text, _ := fresh.ask("POST", "/api/restore", string(b), "Authorization", "Bearer "+its, "Content-Type", "application/x-tar")
		return status, text
	}
	for name, bad := range map[string][]byte{
		"cut": saved[:len(saved)/2], "without its end": saved[:len(saved)-3072], "nothing": {}, "altered": bytes.Replace(saved, value[:16], value[16:32], 1),
		"climbing": archive(t, "../escaped.db", "x"), "another's file": archive(t, "toolshed.yaml", "x"), "unknown": archive(t, "other.db", "x"),
	} {
		if status, text := restore(bad); status != http.StatusUnprocessableEntity || !strings.Contains(text, "no-backup") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text := restore(saved); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	fresh.eventually(token)
	if _, got, _ := fresh.ask("GET", "/api/kv/noise", "", "Authorization", "Bearer "+token); got != string(value) {
		t.Errorf("%d bytes came back, want %d", len(got), len(value))
	}
	if status, _, _ := fresh.ask("GET", "/api/kv/noise", "", "Authorization", "Bearer "+its); status != http.StatusUnauthorized {
		t.Errorf("the fresh one's token: %d", status)
	}
	_, text, _ := fresh.ask("GET", "/api/profile/facts", "", "Authorization", "Bearer "+token)
	if !strings.Contains(text, "AFactThatIsKept") {
		t.Errorf("no fact came back: %s", text)
	}
	was, is := contents(t, saved), contents(t, fresh.backup(token, identity))
	for name := range was {
		if was[name] != is[name] && !sameButCounters(was[name], is[name]) {
			t.Errorf("%s came back otherwise", name)
		}
	}
	its = token
	if status, text := restore(saved); status != http.StatusConflict || !strings.Contains(text, "not-fresh") {
		t.Errorf("over something: %d %s", status, text)
	}
}

// sameButCounters compares two databases but for what SQLite counts in their
// first page: changes, forms of the schema, and the version that wrote it
// (www.sqlite.org/fileformat.html, section 1.3).
func sameButCounters(a, b string) bool {
	if len(a) != len(b) || len(a) < 100 {
		return false
	}
	return a[:24] == b[:24] && a[28:40] == b[28:40] && a[44:92] == b[44:92] && a[100:] == b[100:]
}

// archive is a tar of one file.
func archive(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// eventually waits until the program, which starts again, knows a token.
func (p *program) eventually(token string) {
	p.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+"/api/whoami", nil)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := p.client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-deadline:
			p.t.Fatalf("it does not come back: %s", p.logged())
		}
	}
}
