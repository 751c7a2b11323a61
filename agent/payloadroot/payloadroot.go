// Package payloadroot puts a payload's root in its place: the file system on the
// boot disk that the measured command line names.
//
// Invariants: the boot disk is the host's, so nothing of it is used but by the way
// of dm-verity, under the hash that was measured; a block that does not fit is an
// error of reading; what is mounted is read-only.
package payloadroot

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/devicemapper"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/verity"
)

// The names of the two mappings: the file's pieces as one, and what of it is the
// release's.
const (
	fileMapping   = "payload-file"
	verityMapping = "payload"
)

const sectorBytes = 512

// ErrNoRoot says that no disk has the file.
var ErrNoRoot = errors.New("no disk has the payload's root")

// OfMachine is the root that the measured command line names, nil for none. The
// error is verity.ErrRoot, or the system's.
func OfMachine() (*verity.Root, error) {
	b, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("reading the command line: %w", err)
	}
	return verity.Parse(string(b))
}

// Mount finds the root's file on the boot disk within the limit and mounts it.
// Errors match ErrNoRoot, or are the kernel's; of a failure nothing stays mapped.
func Mount(r *verity.Root, target string, limit time.Duration) error {
	disk, extents, err := find(r, limit)
	if err != nil {
		return err
	}
	d, err := devicemapper.Open()
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // it was only asked
	device, err := mapRoot(d, r, disk, extents)
	if err != nil {
		return err
	}
	if err := unix.Mount(device.Path(), target, "erofs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return errors.Join(fmt.Errorf("mounting the payload's root: %w", err), d.Remove(verityMapping), d.Remove(fileMapping))
	}
	return nil
}

func mapRoot(d devicemapper.Mapper, r *verity.Root, disk string, extents []esp.Extent) (devicemapper.Device, error) {
	_, whole, err := devicemapper.Block(disk)
	if err != nil {
		return devicemapper.Device{}, fmt.Errorf("opening the boot disk: %w", err)
	}
	file, err := d.MapReadOnly(fileMapping, linear(whole, extents)...)
	if err != nil {
		return devicemapper.Device{}, err
	}
	checked, err := d.MapReadOnly(verityMapping, devicemapper.Target{
		Sectors: uint64(r.DataBytes / sectorBytes), Kind: "verity", Parameters: r.Table(file.String()),
	})
	if err != nil {
		return devicemapper.Device{}, errors.Join(err, d.Remove(fileMapping))
	}
	return checked, nil
}

// linear are the file's pieces one after another.
func linear(disk devicemapper.Device, extents []esp.Extent) []devicemapper.Target {
	targets := make([]devicemapper.Target, len(extents))
	for i, e := range extents {
		targets[i] = devicemapper.Target{
			Sectors: uint64(e.Bytes / sectorBytes), Kind: "linear", Parameters: fmt.Sprintf("%s %d", disk, e.Offset/sectorBytes),
		}
	}
	return targets
}

// pollInterval is short: it is added to a boot.
const pollInterval = 5 * time.Millisecond

// find looks at disks, as they appear, for one that has the file.
func find(r *verity.Root, limit time.Duration) (disk string, extents []esp.Extent, err error) {
	for deadline := time.Now().Add(limit); ; {
		why := ErrNoRoot
		disk, err = boot.FindImage(func(device string) bool {
			var err error
			extents, err = onDisk(r, device)
			why = errors.Join(why, err)
			return err == nil
		})
		if err == nil {
			return disk, extents, nil
		}
		if time.Now().After(deadline) {
			return "", nil, errors.Join(err, why)
		}
		time.Sleep(pollInterval)
	}
}

// onDisk is where the file lies, whole.
func onDisk(r *verity.Root, disk string) ([]esp.Extent, error) {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v, err := esp.Open(f)
	if err != nil {
		return nil, err
	}
	extents, err := v.Extents(r.FileName())
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, e := range extents {
		if e.Offset%sectorBytes != 0 || e.Bytes%sectorBytes != 0 {
			return nil, fmt.Errorf("%w: %s lies at no sector's edge", esp.ErrLayout, r.FileName())
		}
		total += e.Bytes
	}
	if total != r.Bytes() {
		return nil, fmt.Errorf("%w: %s has %d bytes, want %d", esp.ErrLayout, r.FileName(), total, r.Bytes())
	}
	return extents, nil
}
