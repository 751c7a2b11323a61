package toolshed_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTranscribe(t *testing.T) {
	if testing.Short() {
		t.Skip("hearing takes seconds")
	}
	s := serveWith(t, "transcribe:\n  first: here\n  engines:\n    here: {kind: pocketsphinx, path: /usr/bin/pocketsphinx_continuous, ffmpeg: /usr/bin/ffmpeg}\n")
	wav := filepath.Join(t.TempDir(), "a.wav")
	if out, err := exec.Command("flite", "-voice", "rms", "-t", "hello world this is a test of speech", "-o", wav).CombinedOutput(); err != nil {
		t.Fatalf("flite (Debian package flite): %v\n%s", err, out)
	}
	b, err := os.ReadFile(wav)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{"json": `"words":[{"start":`, "text": "hello world", "srt": " --> 00:00:0", "vtt": "WEBVTT\n\n00:00:0"} {
		status, text, _ := ask(t, s, "POST", "/api/ai/transcribe?format="+format, string(b), "Content-Type", "audio/wav")
		if status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", format, status, text)
		}
	}
	for query, want := range map[string]int{"?engine=nobody": 404, "?format=doc": 422, "?language=de": 422} {
		if status, text, _ := ask(t, s, "POST", "/api/ai/transcribe"+query, string(b), "Content-Type", "audio/wav"); status != want {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	if status, text, _ := ask(t, s, "POST", "/api/ai/transcribe", "x", "Content-Type", "text/plain"); status != 415 {
		t.Errorf("text: %d %s", status, text)
	}
	if status, text, _ := ask(t, s, "POST", "/api/ai/transcribe", "noise", "Content-Type", "audio/mpeg"); status != 422 || !strings.Contains(text, "bad-audio") {
		t.Errorf("noise: %d %s", status, text)
	}
}
