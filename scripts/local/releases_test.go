package main

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// another is a release beside the world's own, of the same programs unless its payload
// is another.
type another struct {
	version string
	epoch   uint64
	// payload is the directory of a program in the toolshed's place; empty for the
	// toolshed.
	payload string
	// plain is for worlds of newPlainWorld.
	plain bool
}

// sick is a payload that is never healthy.
const sick = "./scripts/local/testdata/sick"

// another builds and signs a release with the world's keys, where an update in place
// may take a machine of the world's own.
func (w *world) another(r another) (dir string) {
	w.t.Helper()
	payload := w.place.measured("toolshed")
	if r.payload != "" {
		payload = compile(w.t, r.payload)
	}
	ours := place{root: built.dir}
	var with []string
	if !r.plain {
		with = []string{"--secure-boot-keys", ours.secureBootKeys()}
	}
	dir = w.place.in("releases", r.version)
	w.must(w.place.shed(w.t.Context(), nil, append([]string{
		"image", "build", "--output", dir, "--cache", w.place.cache, "--version", r.version, "--epoch", strconv.FormatUint(r.epoch, 10),
		"--agent", w.place.measured("shed-agent"), "--toolshed", payload, "--shapes", localShape.String(),
	}, with...)...))
	w.must(w.place.shed(w.t.Context(), nil, append([]string{"image", "sign", "--key", ours.releaseKey(), dir}, with...)...))
	return dir
}

// addAnother builds a release, and has the control plane log and add it. It answers
// the release's digest. What new machines are made from is not changed by it where
// the configuration names a release; a higher epoch is the default otherwise.
func (w *world) addAnother(r another) (digest string) {
	w.t.Helper()
	var added adminclient.Release
	w.must(w.place.shed(w.t.Context(), &added, "release", "add", w.another(r)))
	return added.Digest
}

// compile builds a payload of one static file.
func compile(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "toolshed")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, dir)
	build.Dir = "../.."
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", dir, err, text)
	}
	return out
}

// A release beside the world's own is built, logged and added, and the default for new
// machines where its epoch is higher. One that is older than the world's own takes a
// world that begins with w.use(w.another(...)) of a higher epoch.
func TestVMAnotherRelease(t *testing.T) {
	w := newWorld(t)
	w.start()
	digest := w.addAnother(another{version: "1.2.0", epoch: 3, payload: sick})
	var all adminclient.Releases
	w.must(w.place.shed(t.Context(), &all, "release", "list"))
	if len(all.Releases) != 2 || all.Releases[0].Digest != digest || all.Releases[0].Epoch != 3 || !all.Releases[0].Default {
		t.Errorf("%+v", all.Releases)
	}
}
