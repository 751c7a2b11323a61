package secureboot

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// keysDir makes a directory of keys.
func keysDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if made, err := Generate(rand.Reader, dir); err != nil || !slices.Equal(made, []string{"PK", "KEK", "db"}) {
		t.Fatalf("made %v, %v", made, err)
	}
	return dir
}

func TestKeysAreTheirOwnersAlone(t *testing.T) {
	dir := keysDir(t)
	for _, name := range []string{"PK.key", "KEK.key", "db.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	before := contents(t, dir)
	if made, err := Generate(rand.Reader, dir); err != nil || len(made) > 0 {
		t.Errorf("made %v again, %v", made, err)
	}
	if after := contents(t, dir); after != before {
		t.Error("keys that were there have changed")
	}
}

// Another db under the same PK and KEK is a db moved away, and a new one.
func TestOneKeyIsMadeAnew(t *testing.T) {
	dir := keysDir(t)
	before, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "db.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(rand.Reader, dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a certificate without its key: %v", err)
	}
	for _, name := range []string{"db.crt", "db.esl"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if made, err := Generate(rand.Reader, dir); err != nil || !slices.Equal(made, []string{"db"}) {
		t.Fatalf("made %v, %v", made, err)
	}
	after, err := Read(dir)
	if err != nil || !bytes.Equal(after.PK, before.PK) || !bytes.Equal(after.KEK, before.KEK) || bytes.Equal(after.DB, before.DB) {
		t.Errorf("%v: more or less than db has changed", err)
	}
}

func contents(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// A certificate holds nothing but what follows from its key.
func TestCertificateFollowsFromItsKey(t *testing.T) {
	dir := keysDir(t)
	signer, err := ReadSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := certify(signer.key, "db")
	if err != nil || !bytes.Equal(again, signer.certificate.Raw) {
		t.Errorf("another certificate of the same key, %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "db.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(text); block == nil || !bytes.Equal(block.Bytes, again) {
		t.Error("db.crt is another than db.esl has")
	}
	if err := signer.certificate.CheckSignature(x509.SHA256WithRSA, signer.certificate.RawTBSCertificate, signer.certificate.Signature); err != nil {
		t.Error(err)
	}
}

func TestSignerIsTheListed(t *testing.T) {
	dir, other := keysDir(t), keysDir(t)
	key := filepath.Join(dir, "db.key")
	stranger, err := os.ReadFile(filepath.Join(other, "db.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"another's": string(stranger), "not PEM": "key", "no key": "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSigner(dir); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSigner(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
}

func TestRevokedHashesAreListedOnce(t *testing.T) {
	dir := keysDir(t)
	image, other := testProgram(1), testProgram(2)
	for _, p := range [][]byte{image, other, image} {
		if err := Revoke(dir, p); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	digests, err := readDigests(keys.DBX)
	if err != nil || !slices.Equal(digests, [][32]byte{hashOf(t, image), hashOf(t, other)}) {
		t.Errorf("dbx has %d digests, %v", len(digests), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dbx.esl"), []byte("else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Revoke(dir, image); !errors.Is(err, ErrKeys) {
		t.Errorf("a list of something else: %v", err)
	}
}

// dbx takes as many hashes as firmware does, and stays as it was when it is full;
// a list that we would not have written is not added to.
func TestRevokedHashesAreBounded(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "dbx.esl")
	full := make([][32]byte, (maxVariable-listHead)/(len(owner)+32))
	list := digestList(full)
	for what, bad := range map[string][]byte{
		"full":           list,
		"too long":       append(list, make([]byte, maxVariable)...),
		"another owner":  func() []byte { b := digestList(full[:2]); b[listHead]++; return b }(),
		"another kind":   func() []byte { b := digestList(full[:2]); b[0]++; return b }(),
		"a header":       func() []byte { b := digestList(full[:2]); b[20]++; return b }(),
		"another length": func() []byte { b := digestList(full[:2]); b[16]++; return b }(),
	} {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Revoke(dir, testProgram(1)); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v", what, err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, bad) {
			t.Errorf("%s: the list has changed, %v", what, err)
		}
	}
	if err := os.WriteFile(name, digestList(full[1:]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Revoke(dir, testProgram(1)); err != nil {
		t.Errorf("the last that there is room for: %v", err)
	}
}

// A serial number is positive and has at most 20 octets (RFC 5280, section
// 4.1.2.2).
func TestSerialNumbersFit(t *testing.T) {
	signer, err := ReadSigner(keysDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if n := signer.certificate.SerialNumber; n.Sign() <= 0 || n.BitLen() > 20*8-1 {
		t.Errorf("serial number %x", n)
	}
}

func TestFilesAreCapped(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for size, want := range map[int]error{maxFile: nil, maxFile + 1: ErrKeys} {
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if data, err := readCapped(name); !errors.Is(err, want) || err == nil && len(data) != size {
			t.Errorf("%d bytes: %d, %v", size, len(data), err)
		}
	}
}

func hashOf(t *testing.T, image []byte) [32]byte {
	t.Helper()
	h := sha256.New()
	authenticode(t, image, h)
	return [32]byte(h.Sum(nil))
}
