package bootentry

import (
	"os"
	"path/filepath"
	"testing"
)

// stuck puts something in a variable's place that is neither written nor removed.
func stuck(t *testing.T, v Variables, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(string(v), name, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func isFile(v Variables, name string) bool {
	info, err := os.Stat(filepath.Join(string(v), name))
	return err == nil && info.Mode().IsRegular()
}

// A cut between two writes never leaves a BootNext that names no entry: the entry is
// there before its name is, and is gone after it.
func TestNoNameOfAMissingEntry(t *testing.T) {
	file := File{Partition: 1, FirstLBA: 2048, Sectors: 100, Path: "EFI/BOOT/NEXTX64.EFI"}
	v := firmware(t, map[string][]byte{})
	stuck(t, v, entry)
	if err := v.StartOnce(file); err == nil || isFile(v, next) {
		t.Errorf("without its entry BootNext is there: %t, error %v", isFile(v, next), err)
	}
	v = firmware(t, map[string][]byte{})
	stuck(t, v, next)
	if err := v.StartOnce(file); err == nil || !isFile(v, entry) {
		t.Errorf("the entry is there: %t, error %v", isFile(v, entry), err)
	}
	if err := v.Forget(); err == nil || !isFile(v, entry) {
		t.Errorf("while BootNext stays, its entry is there: %t, error %v", isFile(v, entry), err)
	}
}
