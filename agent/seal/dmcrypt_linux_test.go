package seal

import (
	"os"
	"path/filepath"
	"testing"
)

// A disk that is too small for a header and something behind it is none.
func TestDiskTooSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for size, fits := range map[int64]bool{2 * blankProbe: true, 2*blankProbe - 1: false, 0: false} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if sectors, _, _, err := blockDevice(path); (err == nil) != fits || fits && sectors != uint64(size)/512 {
			t.Errorf("%d bytes: %d sectors, %v", size, sectors, err)
		}
	}
}
