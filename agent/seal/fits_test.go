package seal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A disk with somebody's file system, or with somebody's data behind an empty
// beginning, is nobody's to format.
func TestFits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for name, c := range map[string]struct {
		at    int64
		bytes string
		want  bool
	}{
		"blank":                   {0, "", true},
		"a header of ours":        {0, string(headerMagic[:]), true},
		"a partition table":       {510, "\x55\xaa", false},
		"a file system's magic":   {1080, "\x53\xef", false},
		"data behind a megabyte":  {payloadOffset + 7, "x", false},
		"a header that is no one": {0, "SHEDVOL", false},
		"a table kept at the end": {4<<20 - 512, "EFI PART", false},
	} {
		b := make([]byte, 4<<20)
		copy(b[c.at:], c.bytes)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Fits(path); got != c.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
		if got, err := Begins(path); got != (name == "a header of ours") || err != nil {
			t.Errorf("%s begins a volume: %v, %v", name, got, err)
		}
	}
	if _, err := Fits(path + ".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if _, err := Begins(path + ".absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}
