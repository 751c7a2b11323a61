package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest/board"
)

// Machines for arm64 pass signup, verify and claim as those for amd64 do, with
// Secure Boot and without: their registers are the predicted ones. The one with it
// goes on to another release and changes its db. It compiles all that is measured
// once more, which takes minutes where nothing is cached, and boots two emulated
// machines several times: too long for every change.
func TestVMLongARM64(t *testing.T) {
	if os.Getenv("SHED_LONG") == "" {
		t.Skip("compiles for arm64 and boots seven times: set SHED_LONG=1, as make test-long does")
	}
	for _, c := range []struct {
		name string
		with func(place) []string
		then func(*world, instance, file)
	}{
		{"secure boot", func(p place) []string { return []string{"--secure-boot-keys", p.secureBootKeys()} }, (*world).goesForward},
		{"plain", func(place) []string { return nil }, func(*world, instance, file) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			dir := w.place.in("arm64")
			w.must(os.MkdirAll(dir, 0o700))
			w.must(compileARM64(filepath.Join(built.dir, "bin", board.ARM64)))
			w.place.architecture = board.ARM64
			builder := w.place
			builder.root = built.dir
			w.must(builder.buildAndSign(t.Context(), dir, c.with(builder)...))
			w.use(dir)
			w.start()
			w.signUp("ada")
			i := w.ready("ada")
			if n := len(w.processes("qemu-system-aarch64")); n != 1 {
				t.Fatalf("%d machines are emulated", n)
			}
			w.exits(0, []string{"verify", i.URL}, "accepted", "pcr 0, 1, 4, 9, 11 as signed", "owner: nobody's yet")
			w.exits(0, []string{"claim", i.URL}, "is yours")
			kept := w.keep(i.URL, "green")
			w.stop()
			w.start()
			w.ready("ada")
			w.exits(0, []string{"verify", i.URL}, "as pinned", "accepted", "owner: yours")
			w.holds(i.URL, kept)
			c.then(w, i, kept)
		})
	}
}

// goesForward wants ada's machine, which is claimed, to come to the next release and
// to have the db that this one has, with its file there.
func (w *world) goesForward(i instance, kept file) {
	w.t.Helper()
	keys, with := w.changedKeys()
	next := w.nextRelease("1.1.0", "2", "", with, "--secure-boot-keys-before", keys)
	w.offer("ada", next)
	w.waitStep("ada", "awaiting-approval")
	w.approve(i.URL, "1.1.0")
	w.waitStep("ada", "done")
	if now := w.ready("ada"); now.Release != next {
		w.t.Errorf("it runs %s, want %s", now.Release, next)
	}
	w.eventually(0, "verify", i.URL)
	w.serves(i.URL)
	w.exits(0, []string{"verify", i.URL}, "release 1.1.0", "owner: yours", "db is as it was before")
	w.changesDB(i.URL, next)
	w.holds(i.URL, kept)
}

// compileARM64 compiles what goes into an image.
func compileARM64(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", dir+"/", "./cmd/shed-agent", "./cmd/toolshed")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+board.ARM64)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
