package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// bootPath is what the firmware starts.
const bootPath = "EFI/BOOT/BOOTX64.EFI"

// image is the release's unified kernel image, as signed.
func (w *world) image() []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.place.release(), imagebuild.UKIName))
	w.must(err)
	return b
}

// alterOnce replaces the only occurrence of a text by one that differs in one
// byte.
func alterOnce(t *testing.T, b []byte, text, other string) []byte {
	t.Helper()
	if n := bytes.Count(b, []byte(text)); n != 1 {
		t.Fatalf("%q stands %d times in what is to be altered, want 1", text, n)
	}
	changed := bytes.Replace(b, []byte(text), []byte(other), 1)
	differing := 0
	for i := range b {
		if b[i] != changed[i] {
			differing++
		}
	}
	if len(changed) != len(b) || differing != 1 {
		t.Fatalf("%d bytes would differ, want 1", differing)
	}
	return changed
}

// alterCommandLine has the kernel log a little more.
func alterCommandLine(t *testing.T, image []byte) []byte {
	t.Helper()
	return alterOnce(t, image, "console=ttyS0 quiet loglevel=4", "console=ttyS0 quiet loglevel=5")
}

// alterKernel changes a byte of the text that names the kernel's maker, in the
// part of it that is not compressed.
func alterKernel(t *testing.T, image []byte) []byte {
	t.Helper()
	const text, other = "(debian-kernel@lists.debian.org)", "(debian-kerneL@lists.debian.org)"
	at := bytes.Index(image, []byte(text))
	if at < 0 {
		t.Fatalf("the kernel does not say %q", text)
	}
	changed := bytes.Clone(image)
	copy(changed[at:], other)
	return changed
}

// alterInitrd changes a byte of the archive's that no boot depends on.
func alterInitrd(t *testing.T, image []byte) []byte {
	t.Helper()
	return alterArchive(t, image, "payload:/data:/nologin", "payload:/data:/nologiN")
}

// alterPayload changes a byte of the toolshed's program, in a text that it says
// to nobody during a boot.
func alterPayload(t *testing.T, image []byte) []byte {
	t.Helper()
	return alterArchive(t, image, "the database has a newer format", "the database has a newer formaT")
}

// alterArchive changes a text of the initrd's. The archive is compressed, so the
// image is put together anew around it, in the same way as the release was.
func alterArchive(t *testing.T, image []byte, text, other string) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sections, err := uki.Sections(image)
	must(err)
	stub, err := os.ReadFile(imagebuild.DefaultStub)
	must(err)
	assemble := func(initrd []byte) []byte {
		var parts []uki.Section
		for _, name := range []string{".osrel", ".cmdline", ".initrd", ".linux"} {
			parts = append(parts, uki.Section{Name: name, Data: sections[name]})
		}
		parts[2].Data = initrd
		b, err := uki.Assemble(stub, parts)
		must(err)
		return b
	}
	if !bytes.Equal(assemble(sections[".initrd"]), image) {
		t.Fatal("more than the initrd would differ from the release's image")
	}
	reader, err := zstd.NewReader(nil)
	must(err)
	defer reader.Close()
	archive, err := reader.DecodeAll(sections[".initrd"], nil)
	must(err)
	// The window and the missing checksum are what the kernel is given in a
	// release.
	writer, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(8<<20))
	must(err)
	altered := alterOnce(t, archive, text, other)
	return assemble(writer.EncodeAll(altered, nil))
}

// importImage has the provider verify and keep the release's disk, as it does
// for the first machine that is made.
func (w *world) importImage() {
	w.t.Helper()
	w.signUp("first")
	first := w.waitState("first", "booting")
	w.must(w.place.shed(w.t.Context(), nil, "instance", "delete", "--wait", first.ID))
}

// replaceImage lays other files on the disk that the provider has verified and
// makes machines from.
func (w *world) replaceImage(files ...disk.File) {
	w.t.Helper()
	base := w.only("images", "*", imagebuild.DiskName)
	f, err := os.Create(base + ".new")
	w.must(err)
	defer f.Close()
	w.must(f.Truncate(disk.Size))
	w.must(disk.Write(f, files))
	w.must(os.Rename(f.Name(), base))
}

// only finds the one file of the provider's that matches.
func (w *world) only(pattern ...string) string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(append([]string{w.place.provider()}, pattern...)...))
	w.must(err)
	if len(found) != 1 {
		w.t.Fatalf("%s: found %d files, want 1", filepath.Join(pattern...), len(found))
	}
	return found[0]
}
