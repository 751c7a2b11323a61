package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/attest/release"
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
	return alterArchive(t, image, "root:x:0:0:root:/:/nologin", "root:x:0:0:root:/:/nologiN")
}

// alterPayload changes a byte of the toolshed's program, in a text that it says
// to nobody during a boot, and has the image want that: the blocks of the program
// of before would not fit any more. It answers the image and the program's file.
func (w *world) alterPayload(image []byte) []disk.File {
	w.t.Helper()
	root, file := w.payload(w.place.release())
	if root == nil {
		w.t.Fatal("the toolshed is in the image")
	}
	altered := alterOnce(w.t, file.Data[:root.DataBytes], "the database has a newer format", "the database has a newer formaT")
	other, hashes, err := verity.Tree(bytes.NewReader(altered))
	w.must(err)
	wanted, parameter := []byte(root.Parameter()), []byte(other.Parameter())
	if n := bytes.Count(image, wanted); n != 1 || len(parameter) != len(wanted) {
		w.t.Fatalf("the image names the payload's root %d times, want 1", n)
	}
	return []disk.File{
		{Path: bootPath, Data: bytes.Replace(image, wanted, parameter, 1)},
		{Path: other.FileName(), Data: append(altered, hashes...)},
	}
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

// bootDisk is what the release has on its boot disk, with this image.
func (w *world) bootDisk(image []byte) []disk.File {
	w.t.Helper()
	return append([]disk.File{{Path: bootPath, Data: image}}, w.payloadFiles(w.place.release())...)
}

// payloadFiles are what a release's boot disk has beside its image.
func (w *world) payloadFiles(dir string) []disk.File {
	w.t.Helper()
	root, file := w.payload(dir)
	if root == nil {
		return nil
	}
	return []disk.File{file}
}

// payload is a release's root on the boot disk; nil where the payload is in the image.
func (w *world) payload(dir string) (*verity.Root, disk.File) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, imagebuild.ManifestName))
	w.must(err)
	m, err := release.ParseManifest(text)
	w.must(err)
	if m.Payload == nil || m.Payload.Root == nil {
		return nil, disk.File{}
	}
	data, err := os.ReadFile(filepath.Join(dir, imagebuild.PayloadName))
	w.must(err)
	root := &verity.Root{Hash: m.Payload.Root.RootHash, DataBytes: m.Payload.Root.DataBytes}
	return root, disk.File{Path: root.FileName(), Data: data}
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
