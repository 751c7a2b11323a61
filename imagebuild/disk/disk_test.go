package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/filesystem"
)

func sampleFiles() []File {
	large := make([]byte, 3*clusterSize+17)
	for i := range large {
		large[i] = byte(i * 7)
	}
	return []File{
		{Path: "EFI/BOOT/BOOTX64.EFI", Data: large},
		{Path: "EFI/BOOT/A.TXT", Data: []byte("a")},
		{Path: "EXACT.BIN", Data: bytes.Repeat([]byte{1}, clusterSize)},
	}
}

func written(t *testing.T, files []File) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(Size); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, files); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOthersReadIt reads every file back with another implementation of GPT
// and FAT32, which also compares the two tables.
func TestOthersReadIt(t *testing.T) {
	d, err := diskfs.Open(written(t, sampleFiles()), diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	table, err := d.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	if parts := table.GetPartitions(); parts[0].GetStart() != partitionStart || parts[0].GetSize() != partitionSize {
		t.Errorf("partition of %d bytes at %d", parts[0].GetSize(), parts[0].GetStart())
	}
	if err := table.Verify(d.Backend, Size); err != nil {
		t.Errorf("partition table: %v", err)
	}
	fs, err := d.GetFilesystem(1)
	if err != nil {
		t.Fatal(err)
	}
	if fs.Type() != filesystem.TypeFat32 {
		t.Fatalf("file system of type %v", fs.Type())
	}
	for _, want := range sampleFiles() {
		f, err := fs.OpenFile("/"+want.Path, os.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", want.Path, err)
			continue
		}
		got, err := io.ReadAll(f)
		if err != nil || !bytes.Equal(got, want.Data) {
			t.Errorf("%s: %d bytes came back of %d, %v", want.Path, len(got), len(want.Data), err)
		}
	}
}

func TestSameBytesAndSparse(t *testing.T) {
	var sums [2][32]byte
	for i := range sums {
		name := written(t, sampleFiles())
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(b)
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 1<<20 {
			t.Errorf("the disk takes %d bytes for %d of files", used, 5*clusterSize)
		}
	}
	if sums[0] != sums[1] {
		t.Error("two disks of the same files differ")
	}
}

// TestGeometry keeps the file system one that firmware takes for FAT32.
func TestGeometry(t *testing.T) {
	const fewest = 65525
	if clusterCount < fewest {
		t.Errorf("%d clusters make it FAT16", clusterCount)
	}
	if (clusterCount+firstCluster)*4 > sectorsPerFAT*sectorSize {
		t.Errorf("%d clusters do not fit a table of %d sectors", clusterCount, sectorsPerFAT)
	}
	if partitionSize < 256<<20 {
		t.Errorf("the partition has %d bytes", partitionSize)
	}
}

func TestLayoutRefuses(t *testing.T) {
	for name, files := range map[string][]File{
		"lowercase":      {{Path: "efi/BOOT"}},
		"long name":      {{Path: "LONGERNAME.EFI"}},
		"empty name":     {{Path: "EFI//A"}},
		"no name":        {{Path: ""}},
		"parent":         {{Path: "../A"}},
		"two of a name":  {{Path: "A"}, {Path: "A"}},
		"file as folder": {{Path: "A"}, {Path: "A/B"}},
		"too large":      {{Path: "A", Data: make([]byte, partitionSize)}},
	} {
		if err := Write(discard{}, files); !errors.Is(err, ErrLayout) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
