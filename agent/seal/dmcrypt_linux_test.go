package seal

import (
	"os"
	"path/filepath"
	"testing"
)

// A disk that is too small for a header and something behind it is none.
func TestDiskTooSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	for size, fits := range map[int64]bool{minDiskBytes: true, minDiskBytes - 1: false, 0: false} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if _, err := dataDisk(path); (err == nil) != fits {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// What dm-integrity says of its size is read whole or refused.
func TestProvidedSectors(t *testing.T) {
	for status, want := range map[string]uint64{
		"0 32768 -": 32768, "3 8 0": 8,
		"": 0, "0": 0, "0 x -": 0, "0 0 -": 0, "0 9 -": 0, "0 -8 -": 0, "0 99999999999999999999 -": 0,
	} {
		got, err := provided(status)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v", status, got, err)
		}
	}
}
