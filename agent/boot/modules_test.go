package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A module that another list has loaded is passed over; one that is missing or is
// none is an error.
func TestLoadModules(t *testing.T) {
	dir := t.TempDir()
	list, module := filepath.Join(dir, "modules"), filepath.Join(dir, "crc16.ko")
	if err := os.WriteFile(list, []byte(module+"\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := LoadModules(list); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing module: %v", err)
	}
	for text, refused := range map[string]bool{"": false, "no module": true} {
		if err := os.WriteFile(module, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := LoadModules(list); (err != nil) != refused {
			t.Errorf("a module of %q: %v", text, err)
		}
		if b, err := os.ReadFile(module); err != nil || string(b) != text {
			t.Errorf("it is %q afterwards, %v", b, err)
		}
	}
}

// Two lists name the same module: who comes while the other empties it is not refused.
func TestModulesThatNeedNotBeLoaded(t *testing.T) {
	for err, want := range map[error]bool{nil: true, unix.EEXIST: true, unix.ENODEV: true, unix.ETXTBSY: true, unix.ENOEXEC: false, unix.EPERM: false} {
		if isThere(err) != want {
			t.Errorf("%v: %t", err, !want)
		}
	}
}
