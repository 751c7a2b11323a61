package sandbox

import (
	"testing"

	experimental "github.com/tetratelabs/wazero/experimental/sys"
)

// What is open is the host's memory, and bounded; what is closed is not counted.
func TestOpenDescriptorsAreBounded(t *testing.T) {
	s := newScratch()
	var last experimental.File
	for range maxScratchOpen {
		f, errno := s.OpenFile("x", experimental.O_CREAT|experimental.O_RDWR|experimental.O_TRUNC, 0o600)
		if errno != 0 {
			t.Fatal(errno)
		}
		last = f
	}
	for _, name := range []string{"x", "."} {
		if _, errno := s.OpenFile(name, 0, 0); errno != experimental.EIO {
			t.Errorf("one more of %s: %v", name, errno)
		}
	}
	if errno := last.Close(); errno != 0 {
		t.Fatal(errno)
	}
	if _, errno := s.OpenFile(".", 0, 0); errno != 0 {
		t.Errorf("after one was closed: %v", errno)
	}
}
