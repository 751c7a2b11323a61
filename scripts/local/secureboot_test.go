package main

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// With Secure Boot on the firmware starts no image but the signed one, to the
// byte: what registers would have caught never runs.
func TestVMFirmwareRefuses(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.importImage()
	bare, err := uki.Detach(w.image())
	w.must(err)
	signature, err := os.ReadFile(filepath.Join(w.place.release(), imagebuild.SignatureName))
	w.must(err)
	attach := func(image, signature []byte) []byte {
		t.Helper()
		signed, err := uki.Attach(image, signature)
		w.must(err)
		return signed
	}
	for _, c := range []struct {
		name  string
		image []byte
	}{
		{"kernel", attach(alterKernel(t, bare), signature)},
		{"command line", attach(alterCommandLine(t, bare), signature)},
		{"initrd", attach(alterInitrd(t, bare), signature)},
		{"payload", attach(w.alterPayload(bare)[0].Data, signature)},
		{"no signature", bare},
		{"another's signature", attach(bare, strangersSignature(t, bare))},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t: t, place: w.place, control: w.control}
			w.replaceImage(w.bootDisk(c.image)...)
			user := strings.ReplaceAll(c.name, " ", "-")
			w.signUp(user)
			w.waitState(user, "booting")
			w.waitConsole("Access Denied")
			i := w.waitState(user, "booting")
			if i.URL != "" {
				t.Errorf("it is routed to at %s", i.URL)
			}
			w.must(w.place.shed(t.Context(), nil, "instance", "delete", "--wait", i.ID))
		})
	}
}

// A host that starts the machine with the firmware's variables as they were
// before the keys turns Secure Boot off, which shows in register 7, and in 4:
// the stub has the firmware start the kernel then.
func TestVMSecureBootOff(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.importImage()
	empty, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	w.must(err)
	pristine := w.only("images", "*", imagebuild.VariablesName)
	w.must(os.Remove(pristine))
	w.must(os.WriteFile(pristine, empty, 0o400))
	w.signUp("ada")
	w.caught("ada", "pcr4", "pcr7")
}

// strangersSignature is by a key that no machine knows.
func strangersSignature(t *testing.T, image []byte) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := secureboot.Generate(rand.Reader, dir); err != nil {
		t.Fatal(err)
	}
	signer, err := secureboot.ReadSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(image)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// waitConsole waits until the only machine has printed a text.
func (w *world) waitConsole(text string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	err := poll(ctx, 100*time.Millisecond, func() (bool, error) {
		found, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*", "console.log"))
		return err == nil && len(found) == 1 && strings.Contains(w.console(), text), err
	})
	if err != nil {
		w.t.Fatalf("waiting for %q on the console: %v; it says %q", text, err, w.console())
	}
}
