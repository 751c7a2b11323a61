package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers/libvirttest"
)

// place is where one local run lives.
type place struct {
	// root is the state directory, absolute; runtime holds sockets, whose
	// paths must be short.
	root, runtime string
	// bin holds the programs, cache what the image builder fetched.
	bin, cache string
	// architecture is that of the machines, board.AMD64 where it is empty.
	architecture string
	// plain leaves Secure Boot off.
	plain bool
	// memoryMB is what machines have; localShape's where it is 0.
	memoryMB int
	// hosts run libvirt; none where machines are QEMU's on this one.
	hosts []*libvirttest.Host
	// cloud is a provider of a test's own; nil for those.
	cloud *backend
}

// withPlace lays out a place as the one it is to be like, whose root may be
// empty.
func withPlace(like place, fallback string, f func(place) error) error {
	p, err := newPlace(first(like.root, os.Getenv("SHED_STATE"), fallback))
	if err != nil {
		return err
	}
	p.architecture, p.plain, p.memoryMB = like.architecture, like.plain, like.memoryMB
	return f(p)
}

// withFreshPlace uses a directory that nothing else does, so that two runs side
// by side do not meet. A state that was asked for must not be there yet.
func withFreshPlace(like place, f func(place) error) error {
	var err error
	if like.root == "" {
		like.root, err = os.MkdirTemp("", "shed-local-")
	} else {
		err = os.Mkdir(like.root, 0o700)
	}
	if err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	return withPlace(like, "", f)
}

func newPlace(state string) (place, error) {
	root, err := filepath.Abs(state)
	if err != nil {
		return place{}, fmt.Errorf("finding the state directory: %w", err)
	}
	bin, err := filepath.Abs("bin")
	if err != nil {
		return place{}, fmt.Errorf("finding the programs: %w", err)
	}
	cache, err := filepath.Abs(filepath.Join(".cache", "image"))
	if err != nil {
		return place{}, fmt.Errorf("finding the cache: %w", err)
	}
	digest := sha256.Sum256([]byte(root))
	base := first(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir())
	return place{root: root, bin: bin, cache: cache, runtime: filepath.Join(base, "shed-"+hex.EncodeToString(digest[:4]))}, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// in names a file below the state directory.
func (p place) in(elements ...string) string {
	return filepath.Join(append([]string{p.root}, elements...)...)
}

func (p place) program(name string) string { return filepath.Join(p.bin, name) }

// measured is a program that goes into the image.
func (p place) measured(name string) string {
	if p.architecture == board.ARM64 {
		return filepath.Join(p.bin, p.architecture, name)
	}
	return p.program(name)
}

func (p place) config() string     { return p.in("control", "shed.yaml") }
func (p place) release() string    { return p.in("releases", "dev") }
func (p place) client() string     { return p.in("client") }
func (p place) provider() string   { return p.in("provider", "qemu") }
func (p place) pidFile() string    { return p.in("run.pid") }
func (p place) serveLog() string   { return p.in("control", "serve.log") }
func (p place) releaseKey() string { return p.in("keys", "dev-release.key") }

// secureBootKeys are those of the release's machines.
func (p place) secureBootKeys() string { return p.in("keys", "secure-boot") }

// make makes the directories, each for nobody else to read.
func (p place) make() error {
	for _, dir := range []string{p.in("control"), p.in("releases"), p.in("keys"), p.client(), p.provider(), p.runtime} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the state directory: %w", err)
		}
	}
	return nil
}

// environment keeps the control plane's temporary files and its plugin's in the
// runtime directory, where tidy finds them.
func (p place) environment() []string { return append(os.Environ(), "TMPDIR="+p.runtime) }

// tidy removes the sockets and temporary files that killed processes left.
func (p place) tidy() error {
	if err := os.RemoveAll(p.runtime); err != nil {
		return fmt.Errorf("removing %s: %w", p.runtime, err)
	}
	return nil
}

// remove destroys the whole run's state.
func (p place) remove() error {
	return errors.Join(os.RemoveAll(p.root), os.RemoveAll(p.runtime))
}
