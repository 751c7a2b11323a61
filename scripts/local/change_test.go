package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A machine with data in it is updated to a release that changes db, with db as it
// was, and then changes db, with its owner's word for each: register 7 becomes what
// was predicted, and the data goes on. The firmware's variables from before, which
// the host has kept, open it no more.
func TestVMSecureBootChange(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	kept := w.keep(i.URL, "green")
	next := w.changingRelease("1.1.0", "2")

	w.offer("ada", next)
	w.waitStep("ada", "awaiting-approval")
	w.exits(0, []string{"update", "status", i.URL}, "secure boot: db gets", "by itself once it runs")
	w.approve(i.URL, "1.1.0")
	w.waitStep("ada", "done")
	w.serves(i.URL)
	w.exits(0, []string{"verify", i.URL}, "release 1.1.0", "owner: yours", "db is as it was before")

	// The change is asked for by itself, and made by the firmware.
	before, err := os.ReadFile(w.machineFile("vars.fd"))
	w.must(err)
	w.offer("ada", next)
	w.waitStep("ada", "awaiting-approval")
	w.exits(0, []string{"update", "status", i.URL}, "secure boot: db gets", "no way back")
	w.holds(i.URL, kept)
	w.approve(i.URL, "1.1.0")
	w.waitStep("ada", "done")
	w.serves(i.URL)
	w.exits(0, []string{"verify", i.URL}, "release 1.1.0", "owner: yours", "db is as the release has it")
	w.holds(i.URL, kept)
	w.stop()

	vars := w.machineFile("vars.fd")
	after, err := os.ReadFile(vars)
	w.must(err)
	w.must(os.WriteFile(vars, before, 0o600))
	said := len(w.console())
	w.start()
	w.waitState("ada", "awaiting-owner")
	if console := w.console()[said:]; !strings.Contains(console, "the owner's data stays closed") {
		t.Errorf("with db as it was the machine says\n%s", console)
	}
	w.stop()
	w.must(os.WriteFile(vars, after, 0o600))
	w.start()
	w.ready("ada")
	w.holds(i.URL, kept)
}

// changingRelease is nextRelease with one more certificate in db than the machines'.
func (w *world) changingRelease(version, epoch string) string {
	w.t.Helper()
	dir := filepath.Join(w.place.root, "releases", version)
	before, after, other := filepath.Join(built.dir, "keys", "secure-boot"), w.place.in("keys-after"), w.place.in("keys-other")
	w.must(os.CopyFS(after, os.DirFS(before)))
	shed := func(args ...string) {
		w.t.Helper()
		w.must(w.place.shed(w.t.Context(), nil, args...))
	}
	shed("image", "keys", other)
	shed("image", "keys", after, "--trust", filepath.Join(other, "db.crt"))
	shed("image", "build", "--output", dir, "--cache", w.place.cache, "--version", version, "--epoch", epoch,
		"--agent", w.place.program("shed-agent"), "--toolshed", w.place.program("toolshed"), "--shapes", localShape.String(),
		"--secure-boot-keys", after, "--secure-boot-keys-before", before)
	shed("image", "sign", "--key", filepath.Join(built.dir, "keys", "dev-release.key"), "--secure-boot-keys", after, dir)
	var added struct {
		Digest string `json:"digest"`
	}
	w.must(w.place.shed(w.t.Context(), &added, "release", "add", dir))
	return added.Digest
}
