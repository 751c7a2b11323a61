package main

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/board"
)

// nextRelease builds, signs and adds a release beside the one that machines are made
// from, for the same machines, whose Secure Boot is by a directory of keys; toolshed
// is its payload, empty for the same one. It answers its digest.
func (w *world) nextRelease(version, epoch, toolshed, keys string, more ...string) string {
	w.t.Helper()
	dir := filepath.Join(w.place.root, "releases", version)
	if toolshed == "" {
		toolshed = w.place.measured("toolshed")
	}
	build := []string{
		"image", "build", "--output", dir, "--cache", w.place.cache, "--version", version, "--epoch", epoch,
		"--arch", cmp.Or(w.place.architecture, board.AMD64), "--agent", w.place.measured("shed-agent"), "--toolshed", toolshed, "--shapes", localShape.String(), "--secure-boot-keys", keys,
	}
	w.must(w.place.shed(w.t.Context(), nil, append(build, more...)...))
	w.must(w.place.shed(w.t.Context(), nil, "image", "sign", "--key", filepath.Join(built.dir, "keys", "dev-release.key"),
		"--secure-boot-keys", keys, dir))
	var added struct {
		Digest string `json:"digest"`
	}
	w.must(w.place.shed(w.t.Context(), &added, "release", "add", dir))
	return added.Digest
}

// offer offers a release to the user's machine.
func (w *world) offer(user, digest string) {
	w.t.Helper()
	w.must(w.place.shed(w.t.Context(), nil, "instance", "update", user, "--release", digest))
}

// waitStep waits until the user's machine says that it is at a step of what it was
// offered.
func (w *world) waitStep(user, step string) instance {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 4*time.Minute)
	defer cancel()
	var found instance
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		all, err := w.place.instances(ctx)
		for _, i := range all {
			if i.UserID == user {
				found = i
			}
		}
		return found.Update != nil && found.Update.Step == step, err
	})
	if err != nil {
		w.t.Fatalf("waiting for %s: %v; it is %s, update %+v\n%s", step, err, found.State, found.Update, w.console())
	}
	return found
}

// A machine with data in it is offered releases: it waits for its owner, is back
// where it was when the power is cut in the midst of a trial, goes forward, refuses
// an older release, changes Secure Boot's db, and falls back from a release whose
// payload does not do well; with every acknowledged write there, and its owner's client
// told each time.
func TestVMUpdate(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	kept := w.keep(i.URL, "green")
	first := i.Release
	keys, with := w.changedKeys()
	next := w.nextRelease("1.1.0", "2", "", with, "--secure-boot-keys-before", keys)

	// What the owner did not approve is not tried, whoever signed it.
	w.offer("ada", next)
	w.waitStep("ada", "awaiting-approval")
	w.exits(0, []string{"update", "status", i.URL}, "1.1.0", "awaiting-approval", "secure boot: db gets", "by itself once it runs")
	w.holds(i.URL, kept)

	// The power is cut in the midst of the trial.
	w.approve(i.URL, "1.1.0")
	w.waitStep("ada", "trying")
	w.cutPower()
	if back := w.waitStep("ada", "fell-back"); back.Update.Reason != "not-started" {
		t.Errorf("it fell back for %q", back.Update.Reason)
	}
	w.serves(i.URL)
	w.holds(i.URL, kept)

	// Forward.
	w.offer("ada", next)
	w.waitStep("ada", "done")
	if i = w.ready("ada"); i.Release != next || next == first {
		t.Errorf("it runs %s, want %s", i.Release, next)
	}
	w.eventually(0, "verify", i.URL)
	w.serves(i.URL)
	w.exits(0, []string{"verify", i.URL}, "release 1.1.0", "epoch 2", "owner: yours", "db is as it was before")
	w.holds(i.URL, kept)
	before := w.changesDB(i.URL, next)
	w.holds(i.URL, kept)

	// An older one is not offered.
	if err := w.place.shed(t.Context(), nil, "instance", "update", "ada", "--release", first); err == nil {
		t.Error("an older release was offered")
	}

	// Forward and back by itself.
	broken := w.nextRelease("1.2.0", "3", w.failing(), with)
	w.offer("ada", broken)
	w.waitStep("ada", "awaiting-approval")
	w.approve(i.URL, "1.2.0")
	if back := w.waitStep("ada", "fell-back"); back.Update.Reason != "payload-unhealthy" {
		t.Errorf("it fell back for %q", back.Update.Reason)
	}
	if i = w.ready("ada"); i.Release != next {
		t.Errorf("it runs %s, want %s", i.Release, next)
	}
	w.serves(i.URL)
	w.holds(i.URL, kept)
	w.stop()
	restore := w.replaceVariables(before)
	w.start()
	w.closedWithOldDB(i.URL)
	w.stop()
	restore()
	w.start()
	w.ready("ada")
	w.holds(i.URL, kept)
}

// serves waits until the payload answers: a machine says what became of a trial
// before that.
func (w *world) serves(url string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var last error
	err := poll(ctx, time.Second, func() (bool, error) {
		x, err := w.place.connect(ctx, url, 0)
		if err != nil {
			last = err
			return false, nil //nolint:nilerr // it is asked again
		}
		_, last = x.ask(ctx, "GET", "/api/kv/colour", "")
		return last == nil, x.stop()
	})
	if err != nil {
		w.t.Fatalf("waiting for the payload: %v: %v", err, last)
	}
}

// approve gives the owner's word for what the machine is offered.
func (w *world) approve(url, version string) {
	w.t.Helper()
	if out, code := w.owner("update", "approve", url); code != 0 || !strings.Contains(out, version) {
		w.t.Fatalf("approving %s: exit code %d, %s", version, code, out)
	}
}

// cutPower ends the machine as a power cut does. The control plane starts it again.
func (w *world) cutPower() {
	w.t.Helper()
	pids := w.processes("qemu-system-x86_64")
	if len(pids) != 1 {
		w.t.Fatalf("%d machines run, want 1", len(pids))
	}
	p, err := os.FindProcess(pids[0])
	w.must(err)
	w.must(p.Kill())
}

// failing is a payload that ends as soon as it starts.
func (w *world) failing() string {
	w.t.Helper()
	program := filepath.Join(w.t.TempDir(), "failing")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./scripts/local/testdata/failing")
	build.Dir = "../.."
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("building a payload that fails: %v\n%s", err, out)
	}
	return program
}
