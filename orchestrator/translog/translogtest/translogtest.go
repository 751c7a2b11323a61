// Package translogtest has directories for the transparency logs of tests.
//
// Invariant: none is removed while anything still writes to it.
package translogtest

import (
	"bytes"
	"runtime"
	"testing"
	"time"
)

// storage is in the name of all that a log's storage runs.
const storage = "transparency-dev/tessera"

// patience is far above what an end takes.
const patience = time.Minute

// TempDir is the test's TempDir for a log that the test closes. A log's storage is told
// to end then, and may be writing a checkpoint for a moment more. Where tests with
// logs run side by side, each waits for the others' too.
func TempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	// What is registered after the removal comes before it.
	t.Cleanup(func() { awaitEnd(t) })
	return dir
}

func awaitEnd(t testing.TB) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for late := time.After(patience); ; {
		all := stacks()
		if !bytes.Contains(all, []byte(storage)) {
			return
		}
		select {
		case <-ticker.C:
		case <-late:
			t.Errorf("a log's storage runs on\n%s", all)
			return
		}
	}
}

// stacks are those of all goroutines.
func stacks() []byte {
	for size := 1 << 16; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size {
			return b[:n]
		}
	}
}
