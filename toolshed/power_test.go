package toolshed_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/backup"
)

// What was acknowledged is on the disk, and not only in the system's memory: a
// copy of the disk as it is then, which is what is left when the power goes, has
// all of it.
func TestPowerIsLost(t *testing.T) {
	image := ext4Image(t)
	p := start(t, mount(t, image, "-o", "loop"))
	noise := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{3}).Read(noise)
	text := strings.Repeat("much that shrinks ", 20_000)
	kind := []string{"Content-Type", "application/json"}

	p.want(204, "PUT", "/api/kv/key", "kept")
	p.want(201, "POST", "/api/queue/q", "message")
	p.want(201, "POST", "/api/queue/done", "message")
	var got struct {
		Messages []struct{ ID, Receipt string }
	}
	fromJSON(t, p.want(200, "POST", "/api/queue/done/receive", ""), &got)
	p.want(204, "POST", "/api/queue/done/messages/"+got.Messages[0].ID+"/ack?receipt="+got.Messages[0].Receipt, "")
	p.want(200, "PUT", "/api/data/collections/c/documents/d", `{"a":1}`, kind...)
	var token struct{ Token string }
	fromJSON(t, p.want(201, "POST", "/api/auth/tokens", `{"name":"n","scopes":["kv:read"]}`, kind...), &token)
	for _, content := range []string{string(noise), text} {
		p.want(201, "POST", "/api/blobs", content, "Content-Type", "text/plain")
	}
	tus := []string{"Tus-Resumable", "1.0.0", "Content-Type", "application/offset+octet-stream"}
	half := string(noise[:150_000])
	_, _, h := ask(t, p.url, "POST", "/api/blobs/uploads", "", "Tus-Resumable", "1.0.0", "Upload-Length", "200000")
	upload := h.Get("Location")
	p.want(204, "PATCH", upload, half, append(tus, "Upload-Offset", "0")...)

	p = start(t, mount(t, copyOf(t, image), "-o", "loop"))
	for path, want := range map[string]string{
		"/api/kv/key":                            "kept",
		"/api/queue/q":                           `"text":"message"`,
		"/api/data/collections/c/documents/d":    `"document":{"a":1}`,
		fmt.Sprintf("/api/blobs/%x", sum(noise)): string(noise),
		fmt.Sprintf("/api/blobs/%x", sum(text)):  text,
		upload:                                   `"offset":150000`,
	} {
		if got := p.want(200, "GET", path, ""); !strings.Contains(got, want) {
			t.Errorf("%s is %.100q, want %.100q", path, got, want)
		}
	}
	if text := p.want(200, "GET", "/api/queue", ""); strings.Contains(text, "done") {
		t.Errorf("what was acknowledged is back: %s", text)
	}
	if _, got, _ := ask(t, p.url, "GET", "/api/whoami", "", "Authorization", "Bearer "+token.Token); !strings.Contains(got, `"name":"n"`) {
		t.Errorf("the token is known as %s", got)
	}
	rest := strings.Repeat("x", 50_000)
	_, said, h := ask(t, p.url, "PATCH", upload, rest, append(tus, "Upload-Offset", "150000")...)
	if want := fmt.Sprintf("%x", sum(half+rest)); h.Get("Blob-SHA256") != want {
		t.Errorf("the upload became %q, want %s: %s", h.Get("Blob-SHA256"), want, said)
	}
}

func sum[T string | []byte](content T) [sha256.Size]byte { return sha256.Sum256([]byte(content)) }

// What was restored is there after a loss of power too: whoever is told that a
// backup was taken may delete it.
func TestPowerIsLostAfterARestore(t *testing.T) {
	image := ext4Image(t)
	content := keptBy(t, "")
	known := func(string) bool { return true }
	fit := func(string) error { return nil }
	if err := backup.Stage(t.Context(), mount(t, image, "-o", "loop"), bytes.NewReader(archived(t, "kv.db", content)), known, fit); err != nil {
		t.Fatal(err)
	}
	dir := mount(t, copyOf(t, image), "-o", "loop")
	if err := backup.PutInPlace(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "kv.db")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes of %d are left: %v", len(got), len(content), err)
	}
}

// copyOf is what is left of a disk when the power goes.
func copyOf(t *testing.T, image string) string {
	t.Helper()
	left, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "left")
	if err := os.WriteFile(copied, left, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}
