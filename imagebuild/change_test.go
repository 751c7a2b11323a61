package imagebuild_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/signaturelist"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// keysAfter is a copy of a directory of keys with a change.
func keysAfter(t *testing.T, before string, change func(dir string) error) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "after")
	if err := errors.Join(os.CopyFS(dir, os.DirFS(before)), change(dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exchangeOf is who signs changes of a directory's lists.
func exchangeOf(t *testing.T, dir string) *secureboot.Exchange {
	t.Helper()
	x, err := secureboot.ReadExchange(dir)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// A release that changes db names register 7 before and after, and KEK's signature of
// the change stands beside it; all of it is made again from the archive.
func TestChangedKeysAreRebuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o := sampleOptions(t)
	o.Archive = filepath.Join(t.TempDir(), "archive")
	before, signer := ownKeys(t)
	o.SecureBootKeys = before
	was := built(t, o)
	stranger, _ := ownKeys(t)
	o.SecureBootKeysBefore = before
	o.SecureBootKeys = keysAfter(t, before, func(dir string) error {
		return secureboot.Trust(dir, filepath.Join(stranger, "db.crt"))
	})
	m := built(t, o)
	c := m.SecureBootChange
	if m.Schema != release.SchemaSecureBootChange || c == nil || c.Variable != release.VariableDB || len(c.Adds) != 1 || c.Removes != nil || c.Write != nil {
		t.Fatalf("schema %d, %+v", m.Schema, c)
	}
	for _, in := range m.Inputs {
		if name, list := strings.CutSuffix(in.Name, ".esl"); list && !slices.Contains([]string{"PK", "KEK", "db"}, name) {
			t.Errorf("new machines would have a list %s", name)
		}
	}
	if b := m.BeforeChange(); !maps.Equal(b.SHA256, was.Boots[1].SHA256) || !maps.Equal(b.SHA384, was.Boots[1].SHA384) {
		t.Errorf("before the change it is %v, and the release before has %v", b.SHA256, was.Boots[1].SHA256)
	}
	if err := imagebuild.CheckSigned(m); !errors.Is(err, imagebuild.ErrSigning) {
		t.Errorf("unsigned: %v", err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, imagebuild.ErrSigning) {
		t.Errorf("by a signer of images with another db: %v", err)
	}
	signer, err := secureboot.ReadSigner(o.SecureBootKeys)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, imagebuild.ErrSigning) || !strings.Contains(fmt.Sprint(err), "KEK.key") {
		t.Errorf("without KEK's: %v", err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, exchangeOf(t, before)); !errors.Is(err, imagebuild.ErrSigning) {
		t.Errorf("by KEK's for other lists: %v", err)
	}
	x := exchangeOf(t, o.SecureBootKeys)
	for range 2 {
		if err := imagebuild.SignImage(o.Output, "", signer, x); err != nil {
			t.Fatal(err)
		}
	}
	m = manifestIn(t, o.Output)
	write := contentOf(t, filepath.Join(o.Output, imagebuild.WriteName))
	if m.SecureBootChange.Write == nil || m.SecureBootChange.Write.SHA256 != attest.Sum(write) || input(t, m, imagebuild.WriteName).SHA256 != attest.Sum(write) {
		t.Errorf("the manifest has another write: %+v", m.SecureBootChange)
	}
	if err := imagebuild.CheckSigned(m); err != nil {
		t.Error(err)
	}
	takenByAgent(t, m, write)
	if r := mustRebuild(t, o.Output, o.Archive); !r.Same {
		t.Errorf("with the signatures beside the manifest: %+v", r)
	}
	if err := imagebuild.SignImage(o.Output, o.Archive, signer, x); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if r, err := imagebuild.Rebuild(t.Context(), imagebuild.RebuildOptions{
		Release: filepath.Join(o.Output, imagebuild.ManifestName), Inputs: o.Archive, Output: again,
	}); err != nil || !r.Same {
		t.Fatalf("from the archive alone: %+v, %v", r, err)
	}
	if !bytes.Equal(contentOf(t, filepath.Join(again, imagebuild.WriteName)), write) {
		t.Error("the rebuilt release has another write beside it")
	}
}

// takenByAgent wants the agent, which reads the write and reckons register 7 by code of
// its own, to find what the builder put there.
func takenByAgent(t *testing.T, m *release.Manifest, write []byte) {
	t.Helper()
	contents, err := signaturelist.Contents(write)
	if err != nil {
		t.Fatal(err)
	}
	if got := attest.Sum(contents); got != input(t, m, m.SecureBootChange.Variable+".esl").SHA256 {
		t.Errorf("the agent reads a list with digest %s", got)
	}
	want, err := m.SecureBootChange.Event(*m.AfterChange())
	if err != nil {
		t.Fatal(err)
	}
	if got := signaturelist.Event(m.SecureBootChange.Variable, contents); got != want {
		t.Errorf("to the agent the list makes event %s of register 7, and the release says %s", got, want)
	}
}

// A release that has db lose a certificate is made again too: what db was had two, and
// the archive has to tell which of them signs.
func TestDistrustedCertificateIsRebuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o := sampleOptions(t)
	o.Archive = filepath.Join(t.TempDir(), "archive")
	o.SecureBootKeys, _ = ownKeys(t)
	stranger, _ := ownKeys(t)
	certificate := filepath.Join(stranger, "db.crt")
	o.SecureBootKeysBefore = keysAfter(t, o.SecureBootKeys, func(dir string) error { return secureboot.Trust(dir, certificate) })
	m := built(t, o)
	if c := m.SecureBootChange; c == nil || c.Adds != nil || len(c.Removes) != 1 {
		t.Fatalf("it changes %+v", c)
	}
	if r := mustRebuild(t, o.Output, o.Archive); !r.Same {
		t.Errorf("rebuilt: %+v", r)
	}
}

// What no machine could go through is not built.
func TestChangesThatAreNotBuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o := sampleOptions(t)
	before, signer := ownKeys(t)
	o.SecureBootKeys = before
	built(t, o)
	if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
		t.Fatal(err)
	}
	image := contentOf(t, filepath.Join(o.Output, imagebuild.UKIName))
	stranger, _ := ownKeys(t)
	revoking := keysAfter(t, before, func(dir string) error { return secureboot.Revoke(dir, image) })
	for name, c := range map[string]struct{ before, after, want string }{
		"nothing changed":  {before, before, "the same before and after"},
		"another owner":    {stranger, before, "before the change"},
		"none after":       {before, "", "none after it"},
		"none before":      {t.TempDir(), before, "before the change"},
		"its own image":    {before, revoking, "this very image"},
		"its own, earlier": {revoking, keysAfter(t, revoking, func(dir string) error { return secureboot.Revoke(dir, anotherProgram(image)) }), "this very image"},
	} {
		o.SecureBootKeysBefore, o.SecureBootKeys = c.before, c.after
		if _, err := imagebuild.Build(t.Context(), o); !errors.Is(err, imagebuild.ErrOptions) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// anotherProgram is another program than image.
func anotherProgram(image []byte) []byte {
	other := bytes.Clone(image)
	other[len(other)/2] ^= 1
	return other
}
