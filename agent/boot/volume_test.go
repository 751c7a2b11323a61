package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What mkfs.btrfs looks at before it writes is zero, and nothing else of a disk
// is written.
func TestWriteProbed(t *testing.T) {
	const size = secondMirror + 4<<20
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, bytes.Repeat([]byte{0xff}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeProbed(name); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil || len(b) != size {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	for at := 0; at < size; at += probed {
		want := byte(0xff)
		if at == 0 || at == 64<<20 || at == size-probed {
			want = 0
		}
		if got := bytes.Count(b[at:at+probed], []byte{want}); got != probed {
			t.Errorf("of the %d bytes at %d, %d are %#x", probed, at, got, want)
		}
	}
}

// A disk that is too small is mkfs.btrfs's to refuse.
func TestWriteProbedOnASmallDisk(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, probed/2), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeProbed(name); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(name); err != nil || info.Size() != probed/2 {
		t.Errorf("it has grown: %v, %v", info, err)
	}
}
