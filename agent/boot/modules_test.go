package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

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

func TestInterruptedCallIsMadeAgain(t *testing.T) {
	for _, want := range []error{nil, unix.ENODEV} {
		answers := []error{unix.EINTR, unix.EINTR, want}
		err := uninterrupted(func() error {
			answer := answers[0]
			answers = answers[1:]
			return answer
		})
		if !errors.Is(err, want) || len(answers) > 0 {
			t.Errorf("got %v, want %v; %d answers are left", err, want, len(answers))
		}
	}
}

// Every machine's card has its driver, and Amazon's machines theirs.
func TestLoadNetworkModules(t *testing.T) {
	const loaded, missing = "", "/no/such/module.ko\n"
	amazons := fstest.MapFS{
		"sys/bus/pci/devices/0000:00:05.0/class":  {Data: []byte(pciEthernet)},
		"sys/bus/pci/devices/0000:00:05.0/vendor": {Data: []byte(pciAmazon)},
	}
	for name, c := range map[string]struct {
		machine         fs.FS
		network, amazon string
		want            error
	}{
		"a machine":                    {fstest.MapFS{}, loaded, missing, nil},
		"a machine without its driver": {fstest.MapFS{}, missing, loaded, fs.ErrNotExist},
		"Amazon's":                     {amazons, loaded, loaded, nil},
		"Amazon's without its driver":  {amazons, loaded, missing, fs.ErrNotExist},
	} {
		list := filepath.Join(t.TempDir(), "modules")
		for suffix, text := range map[string]string{".network": c.network, ".ena": c.amazon} {
			if err := os.WriteFile(list+suffix, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := loadNetworkModules(c.machine, list); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
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
