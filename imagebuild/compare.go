package imagebuild

import (
	"bufio"
	"bytes"
	"debug/pe"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// comparison holds a release against what its inputs made.
type comparison struct {
	rebuilt *Rebuilt
	// original is the directory of the release; empty where there is none.
	original, made               string
	statedManifest, madeManifest *release.Manifest
}

func (c *comparison) differs(d Difference) { c.rebuilt.Differences = append(c.rebuilt.Differences, d) }

func (c *comparison) compare(original, encoded []byte) error {
	if err := c.values(original, encoded); err != nil {
		return err
	}
	pairs := [][2]release.File{
		{c.statedManifest.UKI, c.madeManifest.UKI}, {c.statedManifest.Disk, c.madeManifest.Disk},
	}
	if f, g := c.statedManifest.Firmware, c.madeManifest.Firmware; f != nil && g != nil {
		pairs = append(pairs, [2]release.File{f.Code, g.Code}, [2]release.File{f.Variables, g.Variables})
	}
	if d, e := c.statedManifest.Documents, c.madeManifest.Documents; d != nil && e != nil {
		pairs = append(pairs, [2]release.File{d.SBOM, e.SBOM}, [2]release.File{d.Provenance, e.Provenance})
	}
	if p, q := c.statedManifest.Payload, c.madeManifest.Payload; p != nil && q != nil && p.Root != nil && q.Root != nil {
		pairs = append(pairs, [2]release.File{p.Root.File, q.Root.File})
	}
	for _, pair := range pairs {
		if err := c.file(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// maxDifferences bounds how many values of a manifest are named.
const maxDifferences = 16

// values names the values of the manifest that are other than rebuilt.
func (c *comparison) values(original, encoded []byte) error {
	var stated, made any
	if err := errors.Join(json.Unmarshal(original, &stated), json.Unmarshal(encoded, &made)); err != nil {
		return fmt.Errorf("comparing manifests: %w", err)
	}
	paths := differing("", stated, made)
	if c.statedManifest.UKI != c.madeManifest.UKI {
		// They follow from the image, which is told apart below.
		paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(p, ".boots") })
	}
	for _, path := range paths[:min(len(paths), maxDifferences)] {
		c.differs(Difference{File: ManifestName, Where: strings.TrimPrefix(path, "."), Offset: -1})
	}
	if len(paths) == 0 && !bytes.Equal(original, encoded) {
		c.differs(Difference{File: ManifestName, Where: "the spelling of its JSON", Offset: -1})
	}
	return nil
}

// differing are the paths of JSON values at which two documents differ.
func differing(path string, a, b any) (paths []string) {
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			keys := maps.Clone(a)
			maps.Copy(keys, b)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				paths = append(paths, differing(path+"."+key, a[key], b[key])...)
			}
			return paths
		}
	case []any:
		if b, ok := b.([]any); ok && len(a) == len(b) {
			for n := range a {
				paths = append(paths, differing(path+"["+strconv.Itoa(n)+"]", a[n], b[n])...)
			}
			return paths
		}
	default:
		if a == b {
			return nil
		}
	}
	return []string{path}
}

// file compares one file by its digests, and byte by byte where it is beside
// the manifest.
func (c *comparison) file(stated, made release.File) error {
	path := filepath.Join(c.original, filepath.Base(stated.Name))
	digest, size, err := files.Digest(path)
	there := c.original != "" && err == nil
	switch {
	case c.original != "" && err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("comparing %s: %w", stated.Name, err)
	case !there && stated == made:
		return nil
	case !there:
		c.differs(Difference{File: stated.Name, Where: "somewhere: the file is not beside the manifest, only digests were compared", Offset: -1})
		return nil
	}
	c.rebuilt.Compared = append(c.rebuilt.Compared, stated.Name)
	if digest != stated.SHA256 || size != stated.Bytes {
		c.differs(Difference{File: stated.Name, Where: "the file beside the manifest is not the one whose digest the manifest states", Offset: -1})
	}
	if digest == made.SHA256 {
		return nil
	}
	offset, err := firstDifference(path, filepath.Join(c.made, made.Name))
	if err != nil {
		return err
	}
	return c.explain(stated, path, offset)
}

func firstDifference(a, b string) (int64, error) {
	f, err := os.Open(a)
	if err != nil {
		return 0, fmt.Errorf("comparing: %w", err)
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return 0, fmt.Errorf("comparing: %w", err)
	}
	defer g.Close()
	const step = 1 << 20
	one, two := bufio.NewReaderSize(f, step), bufio.NewReaderSize(g, step)
	x, y := make([]byte, step), make([]byte, step)
	for at := int64(0); ; at += step {
		n, errOne := io.ReadFull(one, x)
		m, errTwo := io.ReadFull(two, y)
		for i := range min(n, m) {
			if x[i] != y[i] {
				return at + int64(i), nil
			}
		}
		if n != m || errOne != nil || errTwo != nil {
			return at + int64(min(n, m)), nil
		}
	}
}

// explain says which parts of a file differ, and which input makes each.
func (c *comparison) explain(stated release.File, original string, offset int64) error {
	switch stated.Name {
	case UKIName:
		theirs, err := os.ReadFile(original)
		if err != nil {
			return fmt.Errorf("comparing images: %w", err)
		}
		return c.images(stated.Name, "", theirs, offset)
	case DiskName:
		return c.disks(original, offset)
	case SBOMName, ProvenanceName:
		c.differs(Difference{File: stated.Name, Where: "the document", Offset: offset, Input: LockName})
		return nil
	case PayloadName:
		c.differs(Difference{File: stated.Name, Where: payloadPart, Offset: offset, Input: c.payloadInput()})
		return nil
	}
	c.differs(Difference{File: stated.Name, Where: "the firmware", Offset: offset, Input: platforms[c.statedManifest.Architecture].firmware})
	return nil
}

// payloadPart is how differences name the payload's root.
const payloadPart = "the payload's root"

// payloadInput is what the root of a payload on the boot disk is made from; empty
// where the payload is in the image.
func (c *comparison) payloadInput() string {
	m := c.madeManifest
	switch {
	case m.Payload == nil || m.Payload.Root == nil:
		return ""
	case m.OtherPayload() == nil:
		return inputToolshed
	}
	return inputPayloadTar
}

// sections are those of an image that parses, by name.
func sections(image []byte) map[string][]byte {
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		return nil
	}
	all := map[string][]byte{}
	for _, s := range f.Sections {
		// One that cannot be read is as good as none.
		if data, err := s.Data(); err == nil {
			all[s.Name] = data
		}
	}
	return all
}

// images compares two images section by section: one that is longer moves all
// behind it.
func (c *comparison) images(file, within string, theirs []byte, offset int64) error {
	made, err := os.ReadFile(filepath.Join(c.made, UKIName))
	if err != nil {
		return fmt.Errorf("comparing images: %w", err)
	}
	a, b, found := sections(theirs), sections(made), false
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if bytes.Equal(a[name], b[name]) {
			continue
		}
		where, input := "section "+name, inputStub
		switch name {
		case ".linux":
			input = inputKernel
		case ".initrd":
			var entry string
			entry, input = differingEntry(a[name], b[name])
			where += entry
		case ".cmdline":
			// It names the payload's root where that is on the boot disk.
			input = c.payloadInput()
		case ".osrel":
			input = ""
		}
		found = true
		c.differs(Difference{File: file, Where: within + where, Offset: offset, Input: input})
	}
	if !found {
		c.differs(Difference{File: file, Where: within + "outside of the sections", Offset: offset, Input: inputStub})
	}
	return nil
}

// differingEntry names the first entry of the initrd that differs. Where the
// original's does not unpack, it says so.
func differingEntry(original, made []byte) (where, input string) {
	theirs, err := initrd.Unpack(bytes.NewReader(original))
	if err != nil {
		return ", which does not unpack", ""
	}
	ours, err := initrd.Unpack(bytes.NewReader(made))
	if err != nil {
		return "", ""
	}
	for _, name := range slices.Sorted(maps.Keys(merged(theirs, ours))) {
		if theirs[name] != ours[name] {
			return ", entry " + name, inputOf(name)
		}
	}
	return ", as it is compressed", ""
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func inputOf(entry string) string {
	switch {
	case entry == payloadDir+"/"+inputToolshed:
		return inputToolshed
	case strings.HasPrefix(entry, payloadDir+"/"):
		return inputPayloadTar
	case entry == inputInit, entry == inputMkfs:
		return entry
	case strings.HasPrefix(entry, "lib/modules/"):
		return inputKernel
	case strings.HasPrefix(entry, "lib"), strings.HasPrefix(entry, "usr/lib"):
		return entry
	}
	return ""
}

// disks names the part of the disk at an offset. What is in the image is
// explained as the image is.
func (c *comparison) disks(original string, offset int64) error {
	image, err := c.within(UKIName, c.statedManifest.UKI.Bytes, offset)
	if err != nil {
		return err
	}
	if image == nil {
		return c.besideImage(offset)
	}
	f, err := os.Open(original)
	if err != nil {
		return fmt.Errorf("comparing disks: %w", err)
	}
	defer f.Close()
	theirs, err := io.ReadAll(io.NewSectionReader(f, image.start, image.bytes))
	if err != nil {
		return fmt.Errorf("comparing disks: %w", err)
	}
	return c.images(DiskName, "the image, ", theirs, offset)
}

// besideImage names the part of the disk at an offset that the image does not have.
func (c *comparison) besideImage(offset int64) error {
	if p := c.madeManifest.Payload; p != nil && p.Root != nil {
		root, err := c.within(PayloadName, p.Root.File.Bytes, offset)
		if err != nil {
			return err
		}
		if root != nil {
			c.differs(Difference{File: DiskName, Where: payloadPart, Offset: offset, Input: c.payloadInput()})
			return nil
		}
	}
	c.differs(Difference{File: DiskName, Where: disk.Describe(offset), Offset: offset})
	return nil
}

// run is where a file lies on a disk: in whole clusters, one after another.
type run struct{ start, bytes int64 }

// within is where the file lies that was made, on the disk that was made, if an
// offset is in its first so many bytes; otherwise nil.
func (c *comparison) within(name string, bytes, offset int64) (*run, error) {
	start, err := c.onDisk(name)
	if err != nil {
		return nil, err
	}
	if in := offset - start; in < 0 || in >= bytes || bytes > disk.Size {
		return nil, nil //nolint:nilnil // elsewhere is an answer
	}
	return &run{start: start, bytes: bytes}, nil
}

func (c *comparison) onDisk(name string) (int64, error) {
	f, err := os.Open(filepath.Join(c.made, DiskName))
	if err != nil {
		return 0, fmt.Errorf("comparing disks: %w", err)
	}
	defer f.Close()
	file, err := os.Open(filepath.Join(c.made, name))
	if err != nil {
		return 0, fmt.Errorf("comparing disks: %w", err)
	}
	defer file.Close()
	const cluster = 4096
	head, at := make([]byte, cluster), make([]byte, cluster)
	if _, err := io.ReadFull(file, head); err != nil {
		return 0, fmt.Errorf("comparing disks: %w", err)
	}
	for offset := int64(0); ; offset += 512 {
		if _, err := f.ReadAt(at, offset); err != nil {
			return 0, fmt.Errorf("comparing disks: %s is not on the rebuilt one: %w", name, err)
		}
		if bytes.Equal(at, head) {
			return offset, nil
		}
	}
}
