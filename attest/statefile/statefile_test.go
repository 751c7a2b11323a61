package statefile_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// Whoever reads while a file is replaced sees all of one content or all of
// another, and nothing else is left beside it.
func TestWriteReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	contents := [][]byte{bytes.Repeat([]byte{'a'}, 1<<20), bytes.Repeat([]byte{'b'}, 1<<19)}
	if err := statefile.Write(path, 0o600, contents[0]); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			if err := statefile.Write(path, 0o600, contents[i%2]); err != nil {
				t.Error(err)
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(b, contents[0]) && !bytes.Equal(b, contents[1]) {
			t.Fatalf("%d bytes that are neither content, error %v", len(b), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
}

// The mode is what was asked for, whatever the file had before and the process
// takes away from new ones.
func TestModeIsTheOneAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, mode := range []os.FileMode{0o600, 0o666, 0o640, 0o600} {
		if err := statefile.Write(path, mode, []byte("content")); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, want %v: %v", info.Mode(), mode, err)
		}
	}
}

func TestWriteThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "by a directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := statefile.Write(path, 0o600, []byte("content")); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLockKeepsOthersOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := statefile.TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statefile.TryLock(path); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("error %v, want %v", err, statefile.ErrLocked)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := statefile.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

// TestWriteSparesWhatIsNoFile is `--save /dev/null` by root.
func TestWriteSparesWhatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip("no sockets in the file system: ", err)
	}
	defer l.Close()
	if err := statefile.Write(path, 0o600, []byte("content")); !errors.Is(err, statefile.ErrNotRegular) {
		t.Errorf("got %v, want %v", err, statefile.ErrNotRegular)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("it was replaced: %v", err)
	}
}

func TestSweepRemovesWhatAKilledWriteLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "head")
	for _, name := range []string{"head", ".head-123", ".header", ".other-123"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := statefile.Sweep(path); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("%v is left, error %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".head-123")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left of head: %v", err)
	}
}
