package esp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// entryOf is the place of the entry with this short name, on the disk.
func entryOf(t *testing.T, f *os.File, name string) int64 {
	t.Helper()
	b := make([]byte, 4<<20)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(name))
	if at < 0 {
		t.Fatalf("there is no %q", name)
	}
	return int64(at)
}

func cluster(t *testing.T, f *os.File, entry int64) uint16 {
	t.Helper()
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, entry+26); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint16(b)
}

func point(t *testing.T, f *os.File, entry int64, to uint16) {
	t.Helper()
	if _, err := f.WriteAt(binary.LittleEndian.AppendUint16(nil, to), entry+26); err != nil {
		t.Fatal(err)
	}
}

// A file that has the clusters of another is not removed, since these would be free
// then, and the running image with them.
func TestFilesThatShareClusters(t *testing.T) {
	old := blob(1, 100_000)
	f := image(t, disk.File{Path: boot, Data: old}, disk.File{Path: next, Data: blob(2, 50_000)})
	point(t, f, entryOf(t, f, "NEXTX64 EFI"), cluster(t, f, entryOf(t, f, "BOOTX64 EFI")))
	v := open(t, f)
	if err := v.Remove(next); !errors.Is(err, esp.ErrLayout) {
		t.Errorf("removing it: %v", err)
	}
	if err := v.Write(next, 3, bytes.NewReader([]byte("new"))); !errors.Is(err, esp.ErrLayout) {
		t.Errorf("writing it anew: %v", err)
	}
	if got := content(t, open(t, f), boot); !bytes.Equal(got, old) {
		t.Error("the image that runs is another")
	}
}

// Directories that are each other's hold nothing up.
func TestDirectoriesInCircles(t *testing.T) {
	f := image(t, disk.File{Path: boot, Data: blob(1, 100)})
	efi := cluster(t, f, entryOf(t, f, "EFI        "))
	inside := entryOf(t, f, "BOOTX64 EFI") / 512 * 512
	entry := make([]byte, 32)
	for n := range int64(12) {
		copy(entry, []byte{'A' + byte(n), ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', 0x10})
		binary.LittleEndian.PutUint16(entry[26:], efi)
		if _, err := f.WriteAt(entry, inside+(n+3)*32); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(t, f).Write(next, 3, bytes.NewReader([]byte("new"))); !errors.Is(err, esp.ErrLayout) {
		t.Errorf("writing beside: %v", err)
	}
}
