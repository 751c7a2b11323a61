package imagebuild_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// signatureList holds one thing that stands for a certificate.
func signatureList(content string) []byte {
	b := []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	for _, n := range []int{28 + 16 + len(content), 0, 16 + len(content)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return append(append(b, make([]byte, 16)...), content...)
}

// A release for a cloud's firmware has Secure Boot's keys beside its disk, as the
// manifest names them; the next build takes away what is not its own.
func TestKeysLieBesideTheDisk(t *testing.T) {
	o := sampleOptions(t)
	o.SecureBootKeys = t.TempDir()
	for _, name := range []string{"PK.esl", "KEK.esl", "db.esl", "dbx.esl"} {
		if err := os.WriteFile(filepath.Join(o.SecureBootKeys, name), signatureList(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := built(t, o)
	there := contents(t, o.Output)
	for _, name := range []string{"PK.esl", "KEK.esl", "db.esl", "dbx.esl"} {
		named := slices.ContainsFunc(m.Inputs, func(in release.Input) bool { return in.Name == name && in.SHA256 == there[name] })
		if !named || there[name] != attest.Sum(signatureList(name)) {
			t.Errorf("%s is %s, and the manifest has %+v", name, there[name], m.Inputs)
		}
	}

	if err := os.Remove(filepath.Join(o.SecureBootKeys, "dbx.esl")); err != nil {
		t.Fatal(err)
	}
	built(t, o)
	if _, left := contents(t, o.Output)["dbx.esl"]; left {
		t.Error("dbx.esl of an earlier build is left")
	}
	o.SecureBootKeys = ""
	signature := []string{imagebuild.BundleName, imagebuild.TrustedRootName, imagebuild.EntryName}
	for _, name := range signature {
		if err := os.WriteFile(filepath.Join(o.Output, name), []byte("of the manifest before"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	built(t, o)
	for name := range contents(t, o.Output) {
		if strings.HasSuffix(name, ".esl") || slices.Contains(signature, name) {
			t.Errorf("%s of an earlier build is left", name)
		}
	}
}
