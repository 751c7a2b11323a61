package main

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
)

// capture saves what a machine proves to its owner's client, good or bad, where
// SHED_CAPTURE names a directory: the attack corpus reads it from
// scripts/attacks/testdata. The release's key and the endorsement root that
// judge it are saved beside.
func (w *world) capture(name, machine string) {
	w.t.Helper()
	dir := os.Getenv("SHED_CAPTURE")
	if dir == "" {
		return
	}
	trust, err := readTrust(w.place.client())
	w.must(err)
	var saved *bundle.Bundle
	trust.Captured = func(b *bundle.Bundle) error { saved = b; return nil }
	u, err := url.Parse(machine)
	w.must(err)
	session, err := trust.Connect(w.t.Context(), u, nil)
	if err == nil {
		session.Close()
	} else if refused := (*client.RefusedError)(nil); !errors.As(err, &refused) {
		w.t.Fatal(err)
	}
	encoded, err := saved.Encode()
	w.must(err)
	w.must(os.MkdirAll(filepath.Join(dir, name), 0o755))
	w.must(os.WriteFile(filepath.Join(dir, name, "bundle"), encoded, 0o644))
	for _, file := range []string{"release.pub", "ek-root.pem"} {
		b, err := os.ReadFile(filepath.Join(w.place.client(), file))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(dir, name, file), b, 0o644))
	}
}
