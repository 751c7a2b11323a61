package uki

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// tinyStub is a PE32+ program with one section, room in its headers for seven
// more, and a COFF symbol tail like that of systemd's stub.
func tinyStub() []byte {
	const peOffset, optional = 0x80, 240
	b := make([]byte, 0x400)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[dosHeaderOffset:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[peOffset+4:], 0x8664)
	binary.LittleEndian.PutUint16(b[peOffset+coffSections:], 1)
	binary.LittleEndian.PutUint32(b[peOffset+coffSymbols:], 0x600)
	binary.LittleEndian.PutUint32(b[peOffset+coffSymbolCount:], 1)
	binary.LittleEndian.PutUint16(b[peOffset+coffOptionalSize:], optional)
	o := b[peOffset+coffSize:]
	binary.LittleEndian.PutUint16(o, magicPE32Plus)
	binary.LittleEndian.PutUint32(o[optionalAlignment:], 0x10)
	binary.LittleEndian.PutUint32(o[optionalFileAlignment:], 0x200)
	binary.LittleEndian.PutUint32(o[optionalHeadersSize:], 0x400)
	binary.LittleEndian.PutUint32(o[optionalCheckSum:], 0xdeadbeef)
	binary.LittleEndian.PutUint32(o[optionalDirectories:], 16)
	magic := "#### LoaderInfo: systemd-stub 252.39-1 ####"
	s := o[optional:]
	copy(s, ".sdmagic")
	binary.LittleEndian.PutUint32(s[8:], uint32(len(magic)))
	binary.LittleEndian.PutUint32(s[12:], 0x19100)
	binary.LittleEndian.PutUint32(s[16:], 0x200)
	binary.LittleEndian.PutUint32(s[20:], 0x400)
	b = append(b, make([]byte, 0x200)...)
	copy(b[0x400:], magic)
	return append(b, "symbol tail"...)
}

func sampleSections() []Section {
	return []Section{
		{Name: ".osrel", Data: []byte("ID=shed\n")},
		{Name: ".cmdline", Data: []byte("quiet")},
		{Name: ".linux", Data: bytes.Repeat([]byte{0xaa}, 5000)},
	}
}

func assembled(t testing.TB) []byte {
	t.Helper()
	image, err := Assemble(tinyStub(), sampleSections())
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestAssembleIsReadableByOthers holds the result against Go's own PE reader.
func TestAssembleIsReadableByOthers(t *testing.T) {
	image := assembled(t)
	file, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	var top uint32
	for _, want := range sampleSections() {
		s := file.Section(want.Name)
		if s == nil {
			t.Fatalf("no section %s", want.Name)
		}
		data, err := s.Data()
		if err != nil || s.VirtualSize != uint32(len(want.Data)) || !bytes.Equal(data[:s.VirtualSize], want.Data) {
			t.Errorf("%s: %d bytes (virtual %d), %v", want.Name, len(data), s.VirtualSize, err)
		}
		if s.VirtualAddress < top || s.VirtualAddress%pageSize != 0 {
			t.Errorf("%s lies at %#x, over what is below %#x", want.Name, s.VirtualAddress, top)
		}
		top = s.VirtualAddress + s.VirtualSize
	}
	header := file.OptionalHeader.(*pe.OptionalHeader64)
	if header.SizeOfImage < top || header.CheckSum != 0 || file.PointerToSymbolTable != 0 || file.NumberOfSymbols != 0 {
		t.Errorf("headers: %+v %+v", file.FileHeader, header)
	}
	if bytes.Contains(image, []byte("symbol tail")) {
		t.Error("the symbol tail is still there")
	}
}

func TestAssembleIsReproducible(t *testing.T) {
	if !bytes.Equal(assembled(t), assembled(t)) {
		t.Error("two images of the same parts differ")
	}
}

func TestAssembleLeavesTheStubAlone(t *testing.T) {
	stub := tinyStub()
	before := bytes.Clone(stub)
	if _, err := Assemble(stub, sampleSections()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stub, before) {
		t.Error("the stub was changed in place")
	}
}

func TestAssembleRefuses(t *testing.T) {
	many := make([]Section, 8)
	for i := range many {
		many[i] = Section{Name: "." + strings.Repeat("x", i+1)[:min(i+1, 6)] + string(rune('a'+i)), Data: []byte{1}}
	}
	for name, c := range map[string]struct {
		stub     []byte
		sections []Section
	}{
		"no program":         {[]byte("hello"), sampleSections()},
		"cut off":            {tinyStub()[:0x90], sampleSections()},
		"section cut off":    {tinyStub()[:0x500], sampleSections()},
		"name taken":         {tinyStub(), []Section{{Name: ".sdmagic"}}},
		"name too long":      {tinyStub(), []Section{{Name: ".toolongname"}}},
		"no room in headers": {tinyStub(), append(many, many...)},
	} {
		if _, err := Assemble(c.stub, c.sections); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestStubVersion(t *testing.T) {
	if v, err := StubVersion(tinyStub()); v != 252 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
	other := bytes.Replace(tinyStub(), []byte("systemd-stub"), []byte("another-stub"), 1)
	if _, err := StubVersion(other); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func digest(t *testing.T, image []byte) [32]byte {
	t.Helper()
	h := sha256.New()
	if err := Authenticode(image, h); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestAuthenticodeLeavesOut checks what may change without changing the hash,
// and that all else may not.
func TestAuthenticodeLeavesOut(t *testing.T) {
	image := assembled(t)
	want := digest(t, image)
	p, err := parse(image)
	if err != nil {
		t.Fatal(err)
	}
	same := bytes.Clone(image)
	same[p.optional+optionalCheckSum] ^= 0xff
	if digest(t, same) != want {
		t.Error("the checksum counts")
	}
	signed := append(bytes.Clone(image), "certificates"...)
	binary.LittleEndian.PutUint32(signed[p.optional+optionalCertificates:], uint32(len(image)))
	binary.LittleEndian.PutUint32(signed[p.optional+optionalCertificates+4:], uint32(len("certificates")))
	if digest(t, signed) != want {
		t.Error("the certificates count")
	}
	for _, at := range []int{0, p.coff + 4, p.optional + 2, len(image) - 1} {
		other := bytes.Clone(image)
		other[at] ^= 1
		h := sha256.New()
		if err := Authenticode(other, h); err == nil && [32]byte(h.Sum(nil)) == want {
			t.Errorf("byte %#x does not count", at)
		}
	}
	if digest(t, append(bytes.Clone(image), 'x')) == want {
		t.Error("what follows the sections does not count")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(tinyStub())
	image, err := Assemble(tinyStub(), sampleSections())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Sections(b); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("sections: %v", err)
		}
		if err := Authenticode(b, sha256.New()); err != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("authenticode: %v", err)
		}
		out, err := Assemble(b, sampleSections())
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("assemble: %v", err)
			}
			return
		}
		got, err := Sections(out)
		if err != nil || string(got[".cmdline"]) != "quiet" {
			t.Errorf("what was added does not come back: %v", err)
		}
	})
}
