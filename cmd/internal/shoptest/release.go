package shoptest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

// imageDigest is what every pinned register of the tests' release measured.
var imageDigest = attest.Sum([]byte("image"))

// writeRelease makes a signed release, and the key and root that accept it.
func (s *Shop) writeRelease() {
	s.t.Helper()
	registers := func(bytes int) map[string]string {
		m := map[string]string{}
		for _, r := range []int{4, 9, 11} {
			m[strconv.Itoa(r)] = strings.Repeat("0", 2*bytes)
			if bytes == 32 {
				m[strconv.Itoa(r)] = attest.Extend(attest.Digest{}, imageDigest).String()
			}
		}
		return m
	}
	disk := []byte("disk")
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: "disk.raw", SHA256: attest.Sum(disk), Bytes: int64(len(disk))},
		UKI:    release.File{Name: "uki.efi", SHA256: attest.Sum([]byte("uki")), Bytes: 3},
		Boots:  []release.Boot{{SHA256: registers(32), SHA384: registers(48)}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Sum([]byte("a")), Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		s.t.Fatal(err)
	}
	digest := attest.Sum(manifest)
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"dGVzdA=="}},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`, release.BundleMediaType,
		base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(ed25519.Sign(private, manifest)))
	s.write("manifest.json", manifest)
	s.write(sign.BundleName, bundle)
	s.write("disk.raw", disk)
	s.write("release.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	s.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.tpm.Root.Raw}))
}

func (s *Shop) write(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Release, name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}
