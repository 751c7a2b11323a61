package uki_test

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/kernel"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// TestAuthenticodeAgreesWithDebian finds our hash of Debian's signed kernel in
// its signature, which Debian computed with other software.
func TestAuthenticodeAgreesWithDebian(t *testing.T) {
	packages, err := filepath.Glob("../../.cache/image/linux-image-*.deb")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) == 0 {
		t.Skip("no kernel package in .cache/image: shed image build fetches it")
	}
	for _, file := range packages {
		k, err := kernel.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if err := uki.Authenticode(k.Image, h); err != nil {
			t.Fatal(err)
		}
		program, err := pe.NewFile(bytes.NewReader(k.Image))
		if err != nil {
			t.Fatal(err)
		}
		certificates := program.OptionalHeader.(*pe.OptionalHeader64).DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]
		if !bytes.Contains(k.Image[certificates.VirtualAddress:], h.Sum(nil)) {
			t.Errorf("%s: the signature is over another hash", filepath.Base(file))
		}
	}
}
