package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"time"
)

// OnEC2 reports whether this machine says of itself that it is an EC2 instance
// (Linux, Documentation/ABI/testing/sysfs-firmware-dmi-tables; the vendor is
// "Amazon EC2" on Nitro, whatever the type). Whoever runs the machine can have it
// say so: it decides where disks and the configuration are looked for, and
// nothing that is proved.
func OnEC2() (bool, error) { return onEC2(os.DirFS("/")) }

func onEC2(root fs.FS) (bool, error) {
	vendor, err := fs.ReadFile(root, "sys/class/dmi/id/sys_vendor")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking whose machine this is: %w", err)
	}
	return strings.TrimSpace(string(vendor)) == "Amazon EC2", nil
}

// Classes of PCI devices (PCI Code and ID Assignment Specification, section 1),
// and Amazon's vendor id.
const (
	pciNVMe     = "0x010802"
	pciEthernet = "0x020000"
	pciAmazon   = "0x1d0f"
)

// LoadNetworkModules loads the drivers of network cards from the lists beside the one
// given: that of virtual machines, and Amazon's where the card is theirs. Errors are
// the kernel's.
func LoadNetworkModules(list string) error { return loadNetworkModules(os.DirFS("/"), list) }

func loadNetworkModules(root fs.FS, list string) error {
	if err := LoadModules(list + ".network"); err != nil {
		return err
	}
	cards, err := pciDevices(root, pciAmazon, pciEthernet)
	if err != nil || len(cards) == 0 {
		return err
	}
	return LoadModules(list + ".ena")
}

// pciDevices are the directories of a class's devices; of every vendor's where
// none is named.
func pciDevices(root fs.FS, vendor, class string) ([]string, error) {
	all, err := fs.Glob(root, "sys/bus/pci/devices/*")
	if err != nil {
		return nil, fmt.Errorf("looking for devices: %w", err)
	}
	var found []string
	for _, device := range all {
		if attribute(root, device, "class") == class && (vendor == "" || attribute(root, device, "vendor") == vendor) {
			found = append(found, device)
		}
	}
	return found, nil
}

// attribute is one of sysfs's; empty where it cannot be read, as of a device that
// has just gone.
func attribute(root fs.FS, elements ...string) string {
	b, err := fs.ReadFile(root, path.Join(elements...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// ErrManyDisks says that more than one disk could be the one that is meant.
var ErrManyDisks = errors.New("more than one disk could be it")

// FindVolume waits for the EBS volume that fits and answers its device. EC2 tells
// a machine neither the names nor the purposes of its volumes, so what is on them
// decides: fits may read a disk and must not write to it. The error is ErrNoDisk
// where none has appeared within the limit, and ErrManyDisks where several fit.
func FindVolume(fits func(device string) (bool, error), limit time.Duration) (string, error) {
	return findVolume(os.DirFS("/"), fits, limit)
}

func findVolume(root fs.FS, fits func(device string) (bool, error), limit time.Duration) (string, error) {
	for deadline := time.Now().Add(limit); ; {
		all, settled, err := volumes(root)
		if err != nil {
			return "", err
		}
		if late := time.Now().After(deadline); settled || late {
			device, err := choose(all, fits)
			// A disk is in sysfs a moment before its device is.
			passes := errors.Is(err, ErrNoDisk) || errors.Is(err, fs.ErrNotExist)
			if late || !passes {
				return device, err
			}
		}
		time.Sleep(pollInterval)
	}
}

// volume is an EBS volume as the kernel shows it.
type volume struct{ device, serial string }

// volumeID is the serial number of a volume: its id without the dash
// (https://docs.aws.amazon.com/ebs/latest/userguide/nvme-ebs-volumes.html). The
// disks of the instance's host, which are EC2's and lose what is on them, have
// others.
var volumeID = regexp.MustCompile(`^vol[0-9a-f]{8,17}$`)

// volumes are those that are there; settled says that no more are to come: every
// NVMe controller had shown its disks before.
func volumes(root fs.FS) (all []volume, settled bool, err error) {
	if settled, err = shown(root); err != nil {
		return nil, false, err
	}
	paths, err := fs.Glob(root, "sys/block/nvme*")
	if err != nil {
		return nil, false, fmt.Errorf("looking for volumes: %w", err)
	}
	for _, p := range paths {
		serial := attribute(root, p, "device/serial")
		// A path to a disk, which has no device of its own, is hidden.
		if volumeID.MatchString(serial) && attribute(root, p, "hidden") != "1" {
			all = append(all, volume{"/dev/" + path.Base(p), serial})
		}
	}
	return all, settled, nil
}

// shown reports whether every NVMe controller shows a disk.
func shown(root fs.FS) (bool, error) {
	controllers, err := pciDevices(root, "", pciNVMe)
	if err != nil {
		return false, err
	}
	for _, c := range controllers {
		disks, err := fs.Glob(root, path.Join(c, "nvme/nvme*/nvme*n*"))
		if err != nil || len(disks) == 0 {
			return false, err
		}
	}
	return true, nil
}

func choose(all []volume, fits func(device string) (bool, error)) (string, error) {
	var fitting []volume
	for _, v := range all {
		ok, err := fits(v.device)
		if err != nil {
			return "", fmt.Errorf("looking at volume %s: %w", v.serial, err)
		}
		if ok {
			fitting = append(fitting, v)
		}
	}
	switch len(fitting) {
	case 0:
		return "", fmt.Errorf("data volume: %w: of %d volumes none is blank or a machine's data", ErrNoDisk, len(all))
	case 1:
		return fitting[0].device, nil
	}
	names := make([]string, len(fitting))
	for i, v := range fitting {
		names[i] = v.serial
	}
	return "", fmt.Errorf("data volume: %w: %s", ErrManyDisks, strings.Join(names, ", "))
}
