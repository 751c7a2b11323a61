package sign_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

func noPassword() (string, error) { return "", errors.New("no password") }

// sampleRelease is a directory with a manifest in it.
func sampleRelease(t *testing.T) string {
	t.Helper()
	registers := func(n int) map[string]string {
		return map[string]string{"4": strings.Repeat("04", n), "9": strings.Repeat("09", n), "11": strings.Repeat("11", n)}
	}
	m := release.Manifest{
		Schema: release.SchemaVersion, Version: "1.2.3", Epoch: 4, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: imagebuild.DiskName, SHA256: attest.Sum(nil), Bytes: 1},
		UKI:    release.File{Name: imagebuild.UKIName, SHA256: attest.Sum(nil), Bytes: 1},
		Boots:  []release.Boot{{SHA256: registers(32), SHA384: registers(48)}},
		Inputs: []release.Input{{Name: "init", SHA256: attest.Sum(nil), Bytes: 1}},
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, imagebuild.ManifestName), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func pkcs8(t *testing.T, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// keyFiles are a key of each accepted kind.
func keyFiles(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	p256, ed := filepath.Join(dir, "p256.key"), filepath.Join(dir, "ed25519.key")
	if err := sign.Generate(rand.Reader, p256); err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ed, pkcs8(t, private), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"ECDSA P-256": p256, "Ed25519": ed}
}

// signedRelease signs a sample release and returns its directory and the file
// of the public key.
func signedRelease(t *testing.T, keyFile string) (dir, public string) {
	t.Helper()
	dir = sampleRelease(t)
	key, err := sign.Load(t.Context(), keyFile, noPassword)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := sign.Release(t.Context(), dir, key)
	if err != nil {
		t.Fatal(err)
	}
	if want := attest.ReleaseDigest(attest.Sum(read(t, dir, imagebuild.ManifestName))); digest != want {
		t.Errorf("release %s, want %s", digest, want)
	}
	public = filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(public, key.Public(), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, public
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOurVerifierAccepts(t *testing.T) {
	for kind, file := range keyFiles(t) {
		t.Run(kind, func(t *testing.T) {
			dir, public := signedRelease(t, file)
			key, err := release.ParsePublicKey(read(t, public))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := release.Verify(read(t, dir, imagebuild.ManifestName), read(t, dir, sign.BundleName), key); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSigstoreAccepts holds the bundle and the trusted root against Sigstore's
// own verifier.
func TestSigstoreAccepts(t *testing.T) {
	for kind, file := range keyFiles(t) {
		t.Run(kind, func(t *testing.T) {
			dir, public := signedRelease(t, file)
			if err := sigstoreVerify(t, dir, public); err != nil {
				t.Error(err)
			}
			manifest := filepath.Join(dir, imagebuild.ManifestName)
			altered := bytes.Replace(read(t, manifest), []byte(`"epoch": 4`), []byte(`"epoch": 5`), 1)
			if err := os.WriteFile(manifest, altered, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := sigstoreVerify(t, dir, public); err == nil {
				t.Error("an altered manifest is accepted")
			}
		})
	}
}

func sigstoreVerify(t *testing.T, dir, public string) error {
	t.Helper()
	b, err := bundle.LoadJSONFromPath(filepath.Join(dir, sign.BundleName))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := root.NewTrustedRootFromPath(filepath.Join(dir, sign.TrustedRootName))
	if err != nil {
		t.Fatal(err)
	}
	key, err := release.ParsePublicKey(read(t, public))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	material := root.TrustedMaterialCollection{trusted, &keyMaterial{verifier: verifier}}
	v, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		t.Fatal(err)
	}
	manifest := bytes.NewReader(read(t, dir, imagebuild.ManifestName))
	_, err = v.Verify(b, verify.NewPolicy(verify.WithArtifact(manifest), verify.WithKey()))
	return err
}

// TestCosignAccepts runs the command that the help names.
func TestCosignAccepts(t *testing.T) {
	cosign := findCosign(t)
	for kind, file := range keyFiles(t) {
		t.Run(kind, func(t *testing.T) {
			dir, public := signedRelease(t, file)
			check := func() ([]byte, error) {
				cmd := exec.CommandContext(t.Context(), cosign, "verify-blob", "--key", public, "--bundle", sign.BundleName,
					"--new-bundle-format", "--trusted-root", sign.TrustedRootName, "--insecure-ignore-tlog", imagebuild.ManifestName)
				cmd.Dir = dir
				return cmd.CombinedOutput()
			}
			if out, err := check(); err != nil || !bytes.Contains(out, []byte("Verified OK")) {
				t.Fatalf("%v\n%s", err, out)
			}
			if err := os.WriteFile(filepath.Join(dir, imagebuild.ManifestName), []byte("{}"), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := check(); err == nil {
				t.Errorf("another manifest is accepted:\n%s", out)
			}
		})
	}
}

// findCosign looks where make test puts it.
func findCosign(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("SHED_COSIGN"), "../../.cache/tools/cosign", "../../bin/cosign"} {
		if file, err := filepath.Abs(name); err == nil && name != "" {
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	t.Skip("no cosign: set SHED_COSIGN, or run make test, which puts it at .cache/tools/cosign")
	return ""
}

func TestBundleDoesNotVaryInForm(t *testing.T) {
	dir, _ := signedRelease(t, keyFiles(t)["Ed25519"])
	if root := string(read(t, dir, sign.TrustedRootName)); root !=
		"{\n  \"mediaType\": \"application/vnd.dev.sigstore.trustedroot+json;version=0.1\"\n}\n" {
		t.Errorf("trusted root %q", root)
	}
}

func TestGenerateNeverOverwrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "release.key")
	if err := sign.Generate(rand.Reader, file); err != nil {
		t.Fatal(err)
	}
	before := read(t, file)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := sign.Generate(rand.Reader, file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(read(t, file), before) {
		t.Error("the key was overwritten")
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"P-384": pkcs8(t, p384), "RSA": pkcs8(t, rsaKey), "not PEM": []byte("key"), "empty": nil,
	} {
		file := filepath.Join(dir, "key")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sign.Load(t.Context(), file, noPassword); !errors.Is(err, sign.ErrKey) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := sign.Load(t.Context(), filepath.Join(dir, "absent"), noPassword); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v", err)
	}
	if _, err := sign.Load(t.Context(), "nosuchkms://key", noPassword); err == nil {
		t.Error("a service that does not exist has a key")
	}
}

func TestReleaseWithoutManifest(t *testing.T) {
	key, err := sign.Load(t.Context(), keyFiles(t)["Ed25519"], noPassword)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign.Release(t.Context(), t.TempDir(), key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, imagebuild.ManifestName), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sign.Release(t.Context(), dir, key); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("something was written beside a refused manifest: %v %v", entries, err)
	}
}

// keyMaterial trusts one key and nothing else.
type keyMaterial struct {
	root.BaseTrustedMaterial
	verifier signature.Verifier
}

func (k *keyMaterial) PublicKeyVerifier(hint string) (root.TimeConstrainedVerifier, error) {
	if hint == "" {
		return nil, fmt.Errorf("the bundle names no key")
	}
	return root.NewExpiringKey(k.verifier, time.Time{}, time.Time{}), nil
}
