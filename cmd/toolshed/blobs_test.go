package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A kill in the midst of an upload loses nothing that was acknowledged and
// leaves nothing that belongs to nobody.
func TestKilledUpload(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	content := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{7}).Read(content)
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	auth := []string{"Authorization", "Bearer " + tokenText.FindString(p.line()), "Tus-Resumable", "1.0.0"}
	_, _, h := p.ask("POST", "/api/blobs/uploads", "", append(auth, "Upload-Length", fmt.Sprint(len(content)))...)
	at := h.Get("Location")
	acknowledged := 0
	for round := range 6 {
		patch := append(auth, "Content-Type", "application/offset+octet-stream", "Upload-Offset", fmt.Sprint(acknowledged))
		if status, text, h := p.ask("PATCH", at, string(content[acknowledged:acknowledged+1000]), patch...); status != 204 {
			t.Fatalf("%d %s", status, text)
		} else if _, err := fmt.Sscan(h.Get("Upload-Offset"), &acknowledged); err != nil {
			t.Fatal(err)
		}
		p.killWhile(at, auth, content, acknowledged, 1<<20*(round*3+1))
		p = start(t, dir, nil, "--listen", "127.0.0.1:0")
		_, _, h := p.ask("HEAD", at, "", auth...)
		var now int
		if _, err := fmt.Sscan(h.Get("Upload-Offset"), &now); err != nil || now < acknowledged {
			t.Fatalf("round %d: it is at %d, %d were acknowledged", round, now, acknowledged)
		}
		acknowledged = now
		if acknowledged+1000 > len(content) {
			break
		}
	}
	patch := append(auth, "Content-Type", "application/offset+octet-stream", "Upload-Offset", fmt.Sprint(acknowledged))
	if status, text, _ := p.ask("PATCH", at, string(content[acknowledged:]), patch...); status != 204 {
		t.Fatalf("the rest: %d %s", status, text)
	}
	hash := fmt.Sprintf("%x", sha256.Sum256(content))
	if status, got, _ := p.ask("GET", "/api/blobs/"+hash, "", auth...); status != 200 || got != string(content) {
		t.Fatalf("%d, %d bytes", status, len(got))
	}
	if status, text, _ := p.ask("POST", "/api/blobs/sweep", "", auth...); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	p.stop()
	wantFiles(t, dir, filepath.Join("blobs", hash[:2], hash))
}

// killWhile sends a part and kills the program once so much of it was sent.
func (p *program) killWhile(at string, auth []string, content []byte, offset, sent int) {
	p.t.Helper()
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPatch, p.url+at, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(auth); i += 2 {
		req.Header.Set(auth[i], auth[i+1])
	}
	req.Header.Set("Content-Type", "application/offset+octet-stream")
	req.Header.Set("Upload-Offset", fmt.Sprint(offset))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := p.client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	// What the program no longer takes is the kill's, not an error.
	_, _ = w.Write(content[offset:min(offset+sent, len(content))])
	p.cmd.Process.Kill()
	p.cmd.Wait()
	w.Close()
	<-ended
}

// A kill between the last byte and the blob: the upload becomes one later.
func TestKilledAtTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, dir, nil, "--listen", "127.0.0.1:0")
	auth := []string{"Authorization", "Bearer " + tokenText.FindString(p.line()), "Tus-Resumable", "1.0.0"}
	text := strings.Repeat("much that shrinks\n", 400_000)
	made := map[string]bool{}
	for i := range 5 {
		content := fmt.Sprint(i, text)
		_, _, h := p.ask("POST", "/api/blobs/uploads", "", append(auth, "Upload-Length", fmt.Sprint(len(content)))...)
		p.killWhile(h.Get("Location"), auth, []byte(content), 0, len(content))
		p = start(t, dir, nil, "--listen", "127.0.0.1:0")
		status, _, now := p.ask("HEAD", h.Get("Location"), "", auth...)
		if status != 200 {
			t.Fatalf("the upload is gone: %d", status)
		}
		patch := append(auth, "Content-Type", "application/offset+octet-stream", "Upload-Offset", now.Get("Upload-Offset"))
		var offset int
		if _, err := fmt.Sscan(now.Get("Upload-Offset"), &offset); err != nil {
			t.Fatal(err)
		}
		status, said, now := p.ask("PATCH", h.Get("Location"), content[offset:], patch...)
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content))); status != 204 || now.Get("Blob-SHA256") != sum {
			t.Errorf("%d %s %v, want %s", status, said, now, sum)
		}
		made[now.Get("Blob-SHA256")] = true
	}
	if _, text, _ := p.ask("GET", "/api/blobs", "", auth...); strings.Count(text, `"sha256"`) != len(made) {
		t.Errorf("listed %s", text)
	}
	var swept map[string]any
	if _, text, _ := p.ask("POST", "/api/blobs/sweep", "", auth...); json.Unmarshal([]byte(text), &swept) != nil {
		t.Errorf("%s", text)
	}
	p.stop()
	var want []string
	for sum := range made {
		want = append(want, filepath.Join("blobs", sum[:2], sum+".zst"))
	}
	wantFiles(t, dir, want...)
}

// wantFiles sees that no other file is kept.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, name := range want {
		missing[name] = true
	}
	for _, folder := range []string{"blobs", "uploads"} {
		err := filepath.WalkDir(filepath.Join(dir, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if !missing[name] {
				t.Errorf("%s belongs to nothing", name)
			}
			delete(missing, name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range missing {
		t.Errorf("%s is missing", name)
	}
}
