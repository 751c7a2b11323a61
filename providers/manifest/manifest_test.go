package manifest_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/providers/manifest"
	"github.com/toolshed-cloud/shed/providers/manifest/manifesttest"
)

// signed makes a program with its manifest, signed by a fresh key.
func signed(t *testing.T, change func(*manifest.Manifest)) (program string, key crypto.PublicKey) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "shed-provider-x")
	write(t, program, []byte("program"))
	m, err := manifest.Of(program, "x", "1.0.0", 2)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&m)
		text = []byte(fmt.Sprintf(`{"version":%d,"name":%q,"release":%q,"contract_version":%d,"os":%q,"arch":%q,"sha256":%q,"bytes":%d}`,
			m.Version, m.Name, m.Release, m.ContractVersion, m.OS, m.Arch, m.SHA256, m.Bytes))
	}
	pub, err := os.ReadFile(manifesttest.Sign(t, program, text))
	if err != nil {
		t.Fatal(err)
	}
	if key, err = release.ParsePublicKey(pub); err != nil {
		t.Fatal(err)
	}
	return program, key
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestSignedProgramIsTaken(t *testing.T) {
	program, key := signed(t, nil)
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Verify(program, []crypto.PublicKey{other, key})
	if err != nil || m.Name != "x" || m.Release != "1.0.0" || m.SHA256 != attest.Sum([]byte("program")) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestWhatIsNotAsSignedIsRefused(t *testing.T) {
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(program string) []crypto.PublicKey
		want  error
	}{
		"another program":  {func(p string) []crypto.PublicKey { write(t, p, []byte("Program")); return nil }, manifest.ErrManifest},
		"a longer program": {func(p string) []crypto.PublicKey { write(t, p, []byte("program!")); return nil }, manifest.ErrManifest},
		"another manifest": {func(p string) []crypto.PublicKey { write(t, p+manifest.FileSuffix, []byte("{}")); return nil }, attest.ErrSignature},
		"another key":      {func(string) []crypto.PublicKey { return []crypto.PublicKey{other} }, attest.ErrSignature},
		"no key":           {func(string) []crypto.PublicKey { return []crypto.PublicKey{} }, manifest.ErrManifest},
		"no signature":     {func(p string) []crypto.PublicKey { _ = os.Remove(p + manifest.BundleSuffix); return nil }, os.ErrNotExist},
		"no manifest":      {func(p string) []crypto.PublicKey { _ = os.Remove(p + manifest.FileSuffix); return nil }, os.ErrNotExist},
		"no program":       {func(p string) []crypto.PublicKey { _ = os.Remove(p); return nil }, os.ErrNotExist},
		"an endless bundle": {func(p string) []crypto.PublicKey {
			write(t, p+manifest.BundleSuffix, bytes.Repeat([]byte(" "), release.MaxBundleBytes+1))
			return nil
		}, manifest.ErrManifest},
	} {
		program, key := signed(t, nil)
		keys := c.spoil(program)
		if keys == nil {
			keys = []crypto.PublicKey{key}
		}
		if _, err := manifest.Verify(program, keys); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFieldAtFaultIsNamed(t *testing.T) {
	for field, change := range map[string]func(*manifest.Manifest){
		"version":          func(m *manifest.Manifest) { m.Version = 2 },
		"name":             func(m *manifest.Manifest) { m.Name = "../x" },
		"release":          func(m *manifest.Manifest) { m.Release = strings.Repeat("1", 65) },
		"contract_version": func(m *manifest.Manifest) { m.ContractVersion = 0 },
		"os or arch":       func(m *manifest.Manifest) { m.OS = "" },
		"bytes":            func(m *manifest.Manifest) { m.Bytes = 0 },
		"it is for":        func(m *manifest.Manifest) { m.Arch = "not-" + runtime.GOARCH },
	} {
		program, key := signed(t, change)
		if _, err := manifest.Verify(program, []crypto.PublicKey{key}); !errors.Is(err, manifest.ErrManifest) || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"x","release":"1","contract_version":2,"os":"linux","arch":"amd64","sha256":"00","bytes":1}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"version":1,"extra":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Parse(b)
		if err != nil {
			if !errors.Is(err, manifest.ErrManifest) {
				t.Errorf("unexpected kind of error: %v", err)
			}
			return
		}
		text, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := manifest.Parse(text); err != nil || again != m {
			t.Errorf("%+v came back as %+v, %v", m, again, err)
		}
	})
}
