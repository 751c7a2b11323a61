package devicemapper

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A table of several targets is one after another, in sectors and in bytes
// (include/uapi/linux/dm-ioctl.h).
func TestTable(t *testing.T) {
	b := table([]Target{{Sectors: 8, Kind: "linear", Parameters: "254:0 2048"}, {Sectors: 24, Kind: "linear", Parameters: "254:0 9"}})
	order := binary.LittleEndian
	start := uint64(0)
	for i, want := range []struct {
		sectors    uint64
		parameters string
	}{{8, "254:0 2048"}, {24, "254:0 9"}} {
		next := int(order.Uint32(b[20:]))
		if next%8 != 0 || next > len(b) || order.Uint64(b) != start || order.Uint64(b[8:]) != want.sectors ||
			string(b[24:31]) != "linear\x00" || string(b[40:40+len(want.parameters)+1]) != want.parameters+"\x00" {
			t.Fatalf("target %d: % x", i, b)
		}
		start += want.sectors
		b = b[next:]
	}
	if len(b) != 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}

func TestBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 4097), 0o600); err != nil {
		t.Fatal(err)
	}
	if size, _, err := Block(path); err != nil || size != 4097 {
		t.Errorf("%d bytes, error %v", size, err)
	}
	if _, _, err := Block(path + "-"); err == nil || !strings.Contains(fmt.Sprint(err), path) {
		t.Errorf("error %v", err)
	}
}
