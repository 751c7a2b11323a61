package boot

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// disk is a btrfs file system on a loop device, which needs the rights to mount.
type dataDisk struct {
	t      *testing.T
	device string
	mount  DataMount
}

func newDataDisk(t *testing.T) *dataDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("it mounts file systems, and this user may not")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 128<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.btrfs", "--quiet", image)
	device := run(t, "losetup", "--find", "--show", image)
	d := &dataDisk{t: t, device: device, mount: DataMount{Path: t.TempDir(), Volume: t.TempDir(), UID: 1000, GID: 1000}}
	t.Cleanup(func() {
		if err := d.mount.Unmount(); err != nil {
			t.Error(err)
		}
		run(t, "losetup", "--detach", device)
	})
	return d
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// boots mounts the data anew.
func (d *dataDisk) boots(use Use) {
	d.t.Helper()
	if err := d.mount.Unmount(); err != nil {
		d.t.Fatal(err)
	}
	if err := d.mount.Device(d.device, use); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dataDisk) write(text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.mount.Path, "note"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dataDisk) reads(want string) {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.mount.Path, "note"))
	if err != nil || string(b) != want {
		d.t.Errorf("the data says %q, want %q: %v", b, want, err)
	}
}

func (d *dataDisk) has(want ...string) {
	d.t.Helper()
	entries, err := os.ReadDir(d.mount.Volume)
	if err != nil {
		d.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		d.t.Errorf("the volume has %q, want %q", names, want)
	}
}

// A trial works on a copy, which becomes the data while it is in use, or is gone.
func TestTrialsOfTheData(t *testing.T) {
	d := newDataDisk(t)
	d.boots(UseSettled)
	d.write("one")
	d.boots(UseTrial)
	d.reads("one")
	d.write("tried")
	d.boots(UseRestored)
	d.reads("one")
	d.has("data")
	d.boots(UseTrial)
	d.write("two")
	if err := d.mount.KeepTrial(); err != nil {
		t.Fatal(err)
	}
	d.write("three")
	d.has("before", "data")
	if err := d.mount.Tidy(); err != nil {
		t.Fatal(err)
	}
	d.has("data")
	d.boots(UseSettled)
	d.reads("three")
	info, err := os.Stat(d.mount.Path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data is open to others: %v, %v", info.Mode(), err)
	}
}

// Whatever a crash left between two steps, the next boot goes on from.
func TestTrialsThatAreCutShort(t *testing.T) {
	for name, c := range map[string]struct {
		use  Use
		left func(v subvolumes) error
		want string
	}{
		"copied again":            {UseTrial, func(subvolumes) error { return nil }, "old"},
		"kept, nothing moved":     {UseKept, func(subvolumes) error { return nil }, "new"},
		"kept, the old one moved": {UseKept, func(v subvolumes) error { return v.move("data", "before") }, "new"},
		"kept, both moved":        {UseKept, subvolumes.keep, "new"},
		"settled, both moved":     {UseSettled, subvolumes.keep, "new"},
		"settled, one moved":      {UseSettled, func(v subvolumes) error { return v.move("data", "before") }, "new"},
		"settled, the new one gone": {UseSettled, func(v subvolumes) error {
			return errors.Join(v.keep(), v.remove("data"))
		}, "old"},
		"restored, one moved":  {UseRestored, func(v subvolumes) error { return v.move("data", "before") }, "old"},
		"restored, both moved": {UseRestored, subvolumes.keep, "old"},
		"restored, new one gone": {UseRestored, func(v subvolumes) error {
			return errors.Join(v.keep(), v.remove("data"))
		}, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataDisk(t)
			d.boots(UseSettled)
			d.write("old")
			d.boots(UseTrial)
			d.write("new")
			run(t, "umount", d.mount.Path)
			if err := c.left(subvolumes{dir: d.mount.Volume}); err != nil {
				t.Fatal(err)
			}
			d.boots(c.use)
			d.reads(c.want)
			d.boots(c.use)
			d.reads(c.want)
		})
	}
}

// A volume from which the data is gone is nobody's to fill anew in an update.
func TestNoDataToTry(t *testing.T) {
	d := newDataDisk(t)
	for _, use := range []Use{UseTrial, UseKept, UseRestored} {
		if err := d.mount.Device(d.device, use); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("use %d: %v", use, err)
		}
		if err := d.mount.Unmount(); err != nil {
			t.Fatal(err)
		}
	}
}
