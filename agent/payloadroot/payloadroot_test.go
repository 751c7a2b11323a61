package payloadroot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/agent/devicemapper"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// bootDisk has a root of three blocks and its tree, less what is cut.
func bootDisk(t *testing.T, cut int) (*verity.Root, string) {
	t.Helper()
	data := bytes.Repeat([]byte("payload."), 3*verity.BlockBytes/8)
	root, tree, err := verity.Tree(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file := append(data, tree...)
	if err := errors.Join(f.Truncate(disk.Size), disk.Write(f, []disk.File{
		{Path: "EFI/BOOT/BOOTX64.EFI", Data: []byte("an image")}, {Path: root.FileName(), Data: file[:len(file)-cut]},
	})); err != nil {
		t.Fatal(err)
	}
	return &root, path
}

// The file is found by its hash, and what is mapped are its very bytes.
func TestOnDisk(t *testing.T) {
	root, path := bootDisk(t, 0)
	extents, err := onDisk(root, path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file []byte
	for _, e := range extents {
		file = append(file, b[e.Offset:e.Offset+e.Bytes]...)
	}
	if again, _, err := verity.Tree(bytes.NewReader(file[:root.DataBytes])); err != nil || again != *root {
		t.Errorf("the extents hold %+v, error %v", again, err)
	}
}

func TestWhatIsNoRoot(t *testing.T) {
	root, path := bootDisk(t, 512)
	if _, err := onDisk(root, path); !errors.Is(err, esp.ErrLayout) {
		t.Errorf("a file that is cut: %v", err)
	}
	other := *root
	other.Hash[0] ^= 1
	if _, err := onDisk(&other, path); !errors.Is(err, esp.ErrNoFile) {
		t.Errorf("another's file: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := onDisk(root, path); !errors.Is(err, esp.ErrLayout) {
		t.Errorf("no boot disk: %v", err)
	}
	if _, _, err := find(&other, 0); !errors.Is(err, ErrNoRoot) {
		t.Errorf("on no disk: %v", err)
	}
}

func TestLinear(t *testing.T) {
	got := linear(devicemapper.Device{Major: 254, Minor: 3}, []esp.Extent{{Offset: 1 << 20, Bytes: 8192}, {Offset: 4096, Bytes: 512}})
	want := []devicemapper.Target{{Sectors: 16, Kind: "linear", Parameters: "254:3 2048"}, {Sectors: 1, Kind: "linear", Parameters: "254:3 8"}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
}
