package kernel

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// module is an ELF file with nothing but a .modinfo section.
func module(info string) []byte {
	const names = "\x00.modinfo\x00.shstrtab\x00"
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1,
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	infoAt := uint64(64)
	namesAt := infoAt + uint64(len(info))
	header.Shoff = namesAt + uint64(len(names))
	var b bytes.Buffer
	for _, part := range []any{
		header, []byte(info), []byte(names), elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: infoAt, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func packed(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// samplePackage has modules of every kind: compressed and not, with hard and
// soft dependencies, in a circle.
func samplePackage(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"./boot/vmlinuz-6.12.1-test":                              []byte("kernel"),
		"./usr/lib/modules/6.12.1-test/modules.builtin":           []byte("kernel/crypto/ecb.ko\nkernel/drivers/virtio/virtio-pci.ko\n"),
		"./usr/lib/modules/6.12.1-test/kernel/md/dm-mod.ko.xz":    packed(t, module("license=GPL\x00depends=\x00")),
		"./usr/lib/modules/6.12.1-test/kernel/md/dm-crypt.ko.xz":  packed(t, module("depends=dm-mod\x00")),
		"./usr/lib/modules/6.12.1-test/kernel/crypto/xts.ko":      module("softdep=pre: ecb alias-of-one gf128mul post: late\x00"),
		"./usr/lib/modules/6.12.1-test/kernel/crypto/gf128mul.ko": module(""),
		"./usr/lib/modules/6.12.1-test/kernel/a.ko":               module("depends=b\x00"),
		"./usr/lib/modules/6.12.1-test/kernel/b.ko":               module("depends=a\x00"),
		"./usr/lib/modules/6.12.1-test/kernel/torn.ko.xz":         []byte("not xz"),
		"./usr/lib/modules/6.12.1-test/kernel/plain.ko":           []byte("not ELF"),
		"./usr/lib/modules/6.12.1-test/kernel/orphan.ko":          module("depends=absent\x00"),
		"./usr/share/doc/README":                                  []byte("skipped"),
	}
}

func archive(t testing.TB, files map[string][]byte) *tar.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return tar.NewReader(&b)
}

// read is Open of an archive that is unpacked already.
func read(archive *tar.Reader) (*Kernel, error) {
	k := &Kernel{builtin: map[string]bool{}, packed: map[string]packedModule{}}
	return k.complete(debian.Read(archive, maxUnpacked, wanted, k.keep))
}

func sampleKernel(t testing.TB) *Kernel {
	t.Helper()
	k, err := read(archive(t, samplePackage(t)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestReadKeepsTheKernel(t *testing.T) {
	k := sampleKernel(t)
	if string(k.Image) != "kernel" || k.Release != "6.12.1-test" {
		t.Errorf("kernel %q, release %q", k.Image, k.Release)
	}
}

func TestReadRefusesOtherPackages(t *testing.T) {
	for _, missing := range []string{"vmlinuz", "modules.builtin", ".ko"} {
		files := samplePackage(t)
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.Contains(name, missing) })
		if _, err := read(archive(t, files)); !errors.Is(err, ErrPackage) {
			t.Errorf("without %s: got %v", missing, err)
		}
	}
	if _, err := read(tar.NewReader(strings.NewReader("not a tar archive, by any means"))); !errors.Is(err, ErrPackage) {
		t.Errorf("no archive: got %v", err)
	}
}

func TestModulesComeAfterWhatTheyNeed(t *testing.T) {
	modules, err := sampleKernel(t).Modules([]string{"dm-crypt", "xts", "dm-mod", "virtio_pci"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range modules {
		names = append(names, m.Name)
		if !bytes.HasPrefix(m.Data, []byte("\x7fELF")) {
			t.Errorf("%s is not unpacked", m.Name)
		}
	}
	if got, want := strings.Join(names, " "), "dm_mod dm_crypt gf128mul xts"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestModulesRefuse(t *testing.T) {
	for _, name := range []string{"absent", "a", "torn", "plain", "orphan"} {
		if _, err := sampleKernel(t).Modules([]string{name}); !errors.Is(err, ErrPackage) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConcreteKernel(t *testing.T) {
	name, version, err := Concrete("linux-base, linux-image-6.12.1+deb12-cloud-amd64 (= 6.12.1-1~deb12u1)")
	if name != "linux-image-6.12.1+deb12-cloud-amd64" || version != "6.12.1-1~deb12u1" || err != nil {
		t.Errorf("got %q %q %v", name, version, err)
	}
	for _, depends := range []string{"", "linux-image-6.12", "linux-image-6.12 (>= 6.12)", "bash (= 5)", "linux-image-1 (= 2)2)", "linux-image-1 (=  2)", "linux-image-1=3 (= 2)"} {
		if _, _, err := Concrete(depends); !errors.Is(err, ErrPackage) {
			t.Errorf("%q: got %v", depends, err)
		}
	}
}

func FuzzConcreteKernel(f *testing.F) {
	f.Add("linux-base, linux-image-1 (= 2)")
	f.Fuzz(func(t *testing.T, depends string) {
		name, version, err := Concrete(depends)
		if err == nil && (name == "" || version == "" || strings.ContainsAny(name+version, "()= /\x00")) {
			t.Errorf("name %q, version %q", name, version)
		}
	})
}

func FuzzDependencies(f *testing.F) {
	f.Add(module("depends=a,b-c\x00softdep=pre: d post: e\x00"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		needs, soft, err := dependencies(b)
		if needs = append(needs, soft...); err == nil && slices.ContainsFunc(needs, func(s string) bool { return strings.ContainsAny(s, "-.") }) {
			t.Errorf("not module names: %q", needs)
		}
	})
}
