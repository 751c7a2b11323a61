package agent_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/bootentry"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/signaturelist"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// The files of the boot disk's two slots.
const (
	running = "EFI/BOOT/BOOTX64.EFI"
	other   = "EFI/BOOT/NEXTX64.EFI"
)

// starter stands where firmware is: a real boot disk, whose images are texts, and a
// directory for the boot variables. The tests that boot machines have the real one.
type starter struct {
	t         *testing.T
	disk      string
	variables bootentry.Variables
	// booted are the files that were started.
	booted []string
	// lists are db and dbx; nil without Secure Boot. unwilling is what it does with a
	// change of them: nothing, and answers this, or that it was done where that is nil.
	lists     map[string][]byte
	unwilling bool
	answer    error
	// vouchers are the entries of db that vouch for images, where that is another.
	vouchers map[string]string
}

var _ update.Lists = (*starter)(nil)

// Write implements update.Lists as firmware does that takes every signature.
func (s *starter) Write(variable string, write []byte) error {
	if s.unwilling || s.answer != nil {
		return s.answer
	}
	contents, err := signaturelist.Contents(write)
	if err == nil {
		s.lists[variable] = contents
	}
	return err
}

// secure has the firmware have Secure Boot on by these lists.
func (s *starter) secure(lists map[string][]byte) {
	s.t.Helper()
	s.lists = lists
	name := filepath.Join(string(s.variables), bootName("SecureBoot"))
	if err := os.WriteFile(name, []byte{6, 0, 0, 0, 1}, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// seven are the events of register 7 with lists, at a boot of an image; none without
// Secure Boot.
func (s *starter) seven(lists map[string][]byte, image string) (events []attest.Digest) {
	if lists == nil {
		return nil
	}
	for _, name := range []string{"SecureBoot", "PK", "KEK"} {
		events = append(events, attest.Sum([]byte(name)))
	}
	for _, name := range []string{release.VariableDB, release.VariableDBX} {
		events = append(events, signaturelist.Event(name, lists[name]))
	}
	return append(events, attest.Sum([]byte{0, 0, 0, 0}), attest.Sum([]byte("vouched for by "+s.vouchers[image])))
}

// bootName is of a variable of the UEFI specification.
func bootName(name string) string { return name + "-8be4df61-93ca-11d2-aa0d-00e098032b8c" }

func newStarter(t *testing.T) *starter {
	t.Helper()
	s := &starter{t: t, disk: filepath.Join(t.TempDir(), "boot.raw"), variables: bootentry.Variables(t.TempDir())}
	f, err := os.Create(s.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(disk.Size); err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(f, []disk.File{{Path: running, Data: []byte("image")}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *starter) open() (update.BootDisk, error) { return os.OpenFile(s.disk, os.O_RDWR, 0) }

func (s *starter) slots() update.Slots {
	return update.Slots{Open: s.open, Running: running, Other: other}
}

// boot is the image that starts, as firmware chooses it: what BootNext names, once,
// or the first. noise says that the one named did not start, which shows in a
// register.
func (s *starter) boot() (image string, noise bool) {
	s.t.Helper()
	dir := string(s.variables)
	current, path := []byte{6, 0, 0, 0, 1, 0}, running
	if b, err := os.ReadFile(filepath.Join(dir, bootName("BootNext"))); err == nil {
		if err := os.Remove(filepath.Join(dir, bootName("BootNext"))); err != nil {
			s.t.Fatal(err)
		}
		current, path = append([]byte{6, 0, 0, 0}, b[4:]...), other
	}
	image = s.read(path)
	if path == other && image == "broken" {
		current, noise, image = []byte{6, 0, 0, 0, 1, 0}, true, s.read(running)
		path = running
	}
	s.booted = append(s.booted, path)
	if err := os.WriteFile(filepath.Join(dir, bootName("BootCurrent")), current, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return image, noise
}

func (s *starter) read(path string) string {
	s.t.Helper()
	f, err := os.Open(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	v, err := esp.Open(f)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := v.Reader(path)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// write has the host write a file of the boot disk.
func (s *starter) write(path, text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.disk, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	v, err := esp.Open(f)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := v.Write(path, int64(len(text)), strings.NewReader(text)); err != nil {
		s.t.Fatal(err)
	}
}
