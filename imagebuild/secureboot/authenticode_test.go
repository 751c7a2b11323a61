package secureboot

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// testProgram is a PE32+ file with headers and one section, which differs by what
// it is given.
func testProgram(content byte) []byte {
	const coff, optional, optionalSize, headers = 0x40, 0x58, 240, 0x200
	b := make([]byte, headers+0x200)
	copy(b, "MZ")
	b[0x3c] = coff
	copy(b[coff:], "PE\x00\x00\x64\x86\x01\x00")
	put16 := func(at int, v uint16) { binary.LittleEndian.PutUint16(b[at:], v) }
	put32 := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	put16(coff+20, optionalSize)
	put16(coff+22, 0x22e)
	put16(optional, 0x20b)
	put32(optional+16, 0x1000)
	put32(optional+32, 0x1000)
	put32(optional+36, 0x200)
	put32(optional+56, 0x2000)
	put32(optional+60, headers)
	put16(optional+68, 10) // an EFI application
	put32(optional+108, 16)
	section := optional + optionalSize
	copy(b[section:], ".text")
	put32(section+8, 0x200)
	put32(section+12, 0x1000)
	put32(section+16, 0x200)
	put32(section+20, headers)
	put32(section+36, 0x60000020)
	b[headers] = content
	return b
}

func authenticode(t *testing.T, image []byte, h hash.Hash) {
	t.Helper()
	if err := uki.Authenticode(image, h); err != nil {
		t.Fatal(err)
	}
}

func TestSignatureIsTheSameEachTime(t *testing.T) {
	signer, err := ReadSigner(keysDir(t))
	if err != nil {
		t.Fatal(err)
	}
	one, err := signer.Sign(testProgram(1))
	if err != nil {
		t.Fatal(err)
	}
	again, err := signer.Sign(testProgram(1))
	if err != nil || !bytes.Equal(one, again) {
		t.Errorf("two signatures of one image differ, %v", err)
	}
	signed, err := uki.Attach(testProgram(1), one)
	if err != nil {
		t.Fatal(err)
	}
	if hashOf(t, signed) != hashOf(t, testProgram(1)) {
		t.Error("the signature is part of the hash")
	}
	if bare, err := uki.Detach(signed); err != nil || !bytes.Equal(bare, testProgram(1)) {
		t.Errorf("what is left without the signature is not the image, %v", err)
	}
	if _, err := signer.Sign([]byte("MZ")); err == nil {
		t.Error("half a program was signed")
	}
}

// SpcIndirectDataContent is as Authenticode's specification has it, byte for byte
// (section "SpcPeImageData": flags of no bit, and the file that is obsolete).
func TestWhatIsSigned(t *testing.T) {
	got, err := build(func(b *cryptobyte.Builder) { indirectData(b, make([]byte, 32)) })
	if err != nil {
		t.Fatal(err)
	}
	const want = "3068" +
		"3033" + "060a2b06010401823702010f" + "3025" + "030100" + "a020" + "a21e" + "801c" + "003c003c003c004f00620073006f006c006500740065003e003e003e" +
		"3031" + "300d" + "0609608648016503040201" + "0500" + "0420"
	if text := hex.EncodeToString(got); text != want+strings.Repeat("00", 32) {
		t.Errorf("got %s", text)
	}
}

// Debian's sbverify, which is not ours, accepts the signature of the image it
// is of, by the certificate it is by, and no other.
func TestSbverifyAcceptsTheSignature(t *testing.T) {
	sbverify, err := exec.LookPath("sbverify")
	if err != nil {
		t.Skip("no sbverify: it is in the package sbsigntool, which make deps installs")
	}
	dir, other := keysDir(t), keysDir(t)
	signer, err := ReadSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(testProgram(1))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "signed.efi")
	verify := func(image []byte, keys string) error {
		t.Helper()
		signed, err := uki.Attach(image, signature)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sbverify, "--cert", filepath.Join(keys, "db.crt"), file).CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := verify(testProgram(1), dir); err != nil {
		t.Errorf("sbverify refuses the signature: %v", err)
	}
	if verify(testProgram(2), dir) == nil {
		t.Error("sbverify accepts it for another image")
	}
	if verify(testProgram(1), other) == nil {
		t.Error("sbverify accepts it for another certificate")
	}
}
