package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestOnEC2(t *testing.T) {
	const path = "sys/class/dmi/id/sys_vendor"
	for vendor, want := range map[string]bool{"Amazon EC2\n": true, "Amazon EC2 too\n": false, "QEMU\n": false, "": false} {
		if got, err := onEC2(fstest.MapFS{path: {Data: []byte(vendor)}}); got != want || err != nil {
			t.Errorf("%q: %v, %v", vendor, got, err)
		}
	}
	if got, err := onEC2(fstest.MapFS{}); got || err != nil {
		t.Errorf("without tables: %v, %v", got, err)
	}
	if _, err := onEC2(fstest.MapFS{path: {Mode: fs.ModeDir}}); err == nil {
		t.Error("what cannot be read says something")
	}
}

// nvme adds a controller with a disk to a tree like sysfs.
func nvme(root fstest.MapFS, slot, name, serial string) {
	device := "sys/bus/pci/devices/" + slot
	root[device+"/class"] = &fstest.MapFile{Data: []byte(pciNVMe + "\n")}
	root[device+"/vendor"] = &fstest.MapFile{Data: []byte(pciAmazon + "\n")}
	if name != "" {
		root[device+"/nvme/nvme0/"+name+"/uevent"] = &fstest.MapFile{}
		root["sys/block/"+name+"/device/serial"] = &fstest.MapFile{Data: []byte(serial + "  \n")}
	}
}

func TestVolumes(t *testing.T) {
	root := fstest.MapFS{"sys/block/vda/serial": {Data: []byte("vol0123456789abcdef0")}}
	nvme(root, "0000:00:04.0", "nvme1n1", "vol0123456789abcdef0")
	nvme(root, "0000:00:1e.0", "nvme0n1", "AWS22A4E2A6DD1A4CE7F")
	nvme(root, "0000:00:1f.0", "nvme2n1", "vol0123456789abcdef1")
	nvme(root, "0000:00:1f.1", "nvme2c0n1", "vol0123456789abcdef1")
	nvme(root, "0000:00:1f.2", "nvme3n1", "vol0123456789abcdef22")
	root["sys/block/nvme2c0n1/hidden"] = &fstest.MapFile{Data: []byte("1\n")}
	want := []volume{{"/dev/nvme1n1", "vol0123456789abcdef0"}, {"/dev/nvme2n1", "vol0123456789abcdef1"}}
	if got, settled, err := volumes(root); !slices.Equal(got, want) || !settled || err != nil {
		t.Errorf("got %v, settled %v, %v", got, settled, err)
	}
	nvme(root, "0000:00:20.0", "", "")
	if got, settled, err := volumes(root); len(got) != 2 || settled || err != nil {
		t.Errorf("with a controller that has no disk yet: %v, settled %v, %v", got, settled, err)
	}
}

// arriving is a tree in which something happens whenever the disks are listed.
type arriving struct {
	root   fstest.MapFS
	listed func()
}

func (a arriving) Open(name string) (fs.File, error) { return a.root.Open(name) }

func (a arriving) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := a.root.ReadDir(name)
	if name == "sys/block" {
		a.listed()
	}
	return all, err
}

// What comes while the disks are listed is to come, not there.
func TestVolumeThatComesMeanwhile(t *testing.T) {
	root := fstest.MapFS{}
	nvme(root, "0000:00:04.0", "nvme0n1", "vol00000001")
	nvme(root, "0000:00:1f.0", "", "")
	tree := arriving{root, func() { nvme(root, "0000:00:1f.0", "nvme1n1", "vol00000002") }}
	if all, settled, err := volumes(tree); len(all) != 1 || settled || err != nil {
		t.Errorf("got %v, settled %v, %v", all, settled, err)
	}
}

func TestFindVolume(t *testing.T) {
	const limit = 10 * time.Second
	everything := func(string) (bool, error) { return true, nil }
	for name, c := range map[string]struct {
		late bool // The second controller's disk comes after a second.
		fits func(device string) (bool, error)
		want string
		err  error
		took time.Duration
	}{
		"at once":                 {fits: func(device string) (bool, error) { return device == "/dev/nvme1n1", nil }, want: "/dev/nvme1n1"},
		"one that is to come":     {late: true, fits: func(device string) (bool, error) { return device == "/dev/nvme1n1", nil }, want: "/dev/nvme1n1", took: time.Second},
		"another that is to come": {late: true, fits: everything, err: ErrManyDisks, took: time.Second},
		"none":                    {fits: func(string) (bool, error) { return false, nil }, err: ErrNoDisk, took: limit},
		"no device":               {fits: func(string) (bool, error) { return false, fs.ErrNotExist }, err: fs.ErrNotExist, took: limit},
		"one that cannot be read": {fits: func(string) (bool, error) { return false, fs.ErrPermission }, err: fs.ErrPermission},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			root := fstest.MapFS{}
			nvme(root, "0000:00:04.0", "nvme0n1", "vol00000001")
			nvme(root, "0000:00:1f.0", "", "")
			tree := arriving{root, func() {
				if !c.late || time.Since(began) >= time.Second {
					nvme(root, "0000:00:1f.0", "nvme1n1", "vol00000002")
				}
			}}
			got, err := findVolume(tree, c.fits, limit)
			took := time.Since(began)
			if got != c.want || !errors.Is(err, c.err) || took < c.took || took > c.took+2*pollInterval {
				t.Errorf("%s: %q, %v after %s", name, got, err, took)
			}
		})
	}
}

// A controller that never shows a disk keeps no other's from being found.
func TestFindVolumeBesideAnEmptyController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := fstest.MapFS{}
		nvme(root, "0000:00:04.0", "nvme0n1", "vol00000001")
		nvme(root, "0000:00:1f.0", "", "")
		if got, err := findVolume(root, func(string) (bool, error) { return true, nil }, time.Second); got != "/dev/nvme0n1" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestPCIDevices(t *testing.T) {
	root := fstest.MapFS{}
	nvme(root, "0000:00:04.0", "", "")
	root["sys/bus/pci/devices/0000:00:05.0/class"] = &fstest.MapFile{Data: []byte(pciEthernet)}
	root["sys/bus/pci/devices/0000:00:05.0/vendor"] = &fstest.MapFile{Data: []byte("0x1af4")}
	if got, err := pciDevices(root, pciAmazon, pciEthernet); len(got) != 0 || err != nil {
		t.Errorf("another maker's card counts: %v, %v", got, err)
	}
	root["sys/bus/pci/devices/0000:00:06.0/class"] = &fstest.MapFile{Data: []byte(pciEthernet)}
	root["sys/bus/pci/devices/0000:00:06.0/vendor"] = &fstest.MapFile{Data: []byte(pciAmazon)}
	if got, err := pciDevices(root, pciAmazon, pciEthernet); len(got) != 1 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestChoose(t *testing.T) {
	all := []volume{{"/dev/nvme0n1", "vol00000001"}, {"/dev/nvme1n1", "vol00000002"}, {"/dev/nvme2n1", "vol00000003"}}
	fitting := func(devices ...string) func(string) (bool, error) {
		return func(device string) (bool, error) { return slices.Contains(devices, device), nil }
	}
	if got, err := choose(all, fitting("/dev/nvme1n1")); got != "/dev/nvme1n1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := choose(all, fitting()); !errors.Is(err, ErrNoDisk) {
		t.Errorf("none fits: %v", err)
	}
	_, err := choose(all, fitting("/dev/nvme0n1", "/dev/nvme2n1"))
	if !errors.Is(err, ErrManyDisks) || !strings.Contains(fmt.Sprint(err), "vol00000001, vol00000003") {
		t.Errorf("two fit: %v", err)
	}
	broken := errors.New("broken")
	if _, err := choose(all, func(string) (bool, error) { return true, broken }); !errors.Is(err, broken) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
}
