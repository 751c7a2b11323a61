// Package manifesttest signs plugins in tests.
//
// Invariant: the key is drawn anew each time, so that nothing signed here is
// ever taken elsewhere.
package manifesttest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/providers/manifest"
)

// Sign signs text as the manifest of a program, whatever it says, and answers
// the file with the public key.
func Sign(t *testing.T, program string, text []byte) (keyFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	sum := attest.Sum(text)
	bundle := fmt.Appendf(nil,
		`{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"test"}},"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
		release.BundleMediaType, base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(ed25519.Sign(private, text)))
	keyFile = filepath.Join(t.TempDir(), "maker.pub")
	for name, b := range map[string][]byte{
		program + manifest.FileSuffix: text, program + manifest.BundleSuffix: bundle,
		keyFile: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return keyFile
}

// SignAs signs the manifest of a program under a provider's name.
func SignAs(t *testing.T, program, name string, contract int) (keyFile string) {
	t.Helper()
	m, err := manifest.Of(program, name, "1.0.0", contract)
	if err != nil {
		t.Fatal(err)
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return Sign(t, program, text)
}
