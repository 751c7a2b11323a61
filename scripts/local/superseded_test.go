package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeShed is a shed that finds no package unless it is told of another lock, and
// writes down what it is asked.
func fakeShed(t *testing.T, script string) (p place, asked func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	text := "#!/bin/sh\necho \"$* by $SHED_IMAGE_LOCK\" >>'" + log + "'\n" + script
	if err := os.WriteFile(filepath.Join(dir, "shed"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(lockVariable, "")
	return place{root: dir, bin: dir, cache: dir}, func() string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// TestSupersededLockGoesOn wants a run to go on with what Debian has now, where
// it no longer has what the lock names, and only then.
func TestSupersededLockGoesOn(t *testing.T) {
	p, asked := fakeShed(t, `case "$*" in *lock*) exit 0 ;; esac; test -n "$SHED_IMAGE_LOCK" || exit 3`+"\n")
	if err := p.buildLocked(t.Context(), []string{"image", "build"}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(asked()), "\n")
	if len(lines) != 3 || lines[0] != "image build by " || !strings.Contains(lines[1], "image lock --cache") || lines[2] != "image build by "+filepath.Join(p.cache, "superseded.lock") {
		t.Errorf("asked %q", lines)
	}
	for name, script := range map[string]string{"another failure": "exit 4\n", "with a lock that was named": "exit 3\n"} {
		p, asked := fakeShed(t, script)
		if name != "another failure" {
			t.Setenv(lockVariable, "mine.lock")
		}
		if err := p.buildLocked(t.Context(), []string{"image", "build"}); err == nil {
			t.Errorf("%s: it succeeds", name)
		}
		if strings.Contains(asked(), "image lock") {
			t.Errorf("%s: asked %q", name, asked())
		}
	}
	p, _ = fakeShed(t, "exit 3\n")
	if err := p.buildLocked(t.Context(), []string{"image", "build"}); err == nil {
		t.Error("it succeeds though Debian cannot be asked")
	}
}
