package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/agent/devicemapper"
)

// DMCrypt maps a disk through dm-crypt over dm-integrity: each sector has a
// fresh nonce and a tag over itself and its place (docs/decisions/0068). What is
// in the tables are constants: a header on disk could be forged.
type DMCrypt struct {
	// Name is the mapping's name; the one below it has TagsSuffix.
	Name string
	// Ready, where set, waits for the kernel's modules.
	Ready func() error
}

var _ Mapper = (*DMCrypt)(nil)

// tagsSuffix names the mapping of sectors with room for their tags.
const tagsSuffix = "-tags"

const (
	// dmCipher is AEGIS-128 with a nonce drawn anew for each write: 128 bits,
	// so that two that are the same do not come about.
	dmCipher    = "capi:aegis128-random"
	tagBytes    = 32 // nonce and tag
	sectorBytes = 512
	cryptSector = 4096
)

// Make forgets what was there and maps an empty volume. Errors are device
// mapper's; none of a failed mapping is left.
func (m *DMCrypt) Make(disk string, key []byte) (string, error) {
	if err := eraseSuperblock(disk); err != nil {
		return "", err
	}
	return m.mapDisk(disk, key)
}

// Map maps a volume that was made. The error is ErrForeign where there is none,
// so that the kernel does not make one; others are device mapper's. None of a
// failed mapping is left.
func (m *DMCrypt) Map(disk string, key []byte) (string, error) {
	if err := checkSuperblock(disk); err != nil {
		return "", err
	}
	return m.mapDisk(disk, key)
}

func (m *DMCrypt) mapDisk(disk string, key []byte) (path string, err error) {
	if m.Ready != nil {
		if err := m.Ready(); err != nil {
			return "", err
		}
	}
	below, err := dataDisk(disk)
	if err != nil {
		return "", err
	}
	d, err := devicemapper.Open()
	if err != nil {
		return "", err
	}
	defer d.Close() //nolint:errcheck // it was only asked
	sectors, tags, err := m.mapTags(d, below)
	if err != nil {
		return "", err
	}
	table := fmt.Sprintf("%s %s 0 %s 0 2 integrity:%d:aead sector_size:%d", dmCipher, hex.EncodeToString(key), tags, tagBytes, cryptSector)
	plain, err := d.Map(m.Name, devicemapper.Target{Sectors: sectors, Kind: "crypt", Parameters: table})
	if err != nil {
		return "", errors.Join(err, d.Remove(m.Name+tagsSuffix))
	}
	return plain.Path(), nil
}

// dataDisk is a disk that is large enough.
func dataDisk(path string) (devicemapper.Device, error) {
	size, d, err := devicemapper.Block(path)
	if err != nil {
		return d, fmt.Errorf("opening data disk: %w", err)
	}
	if size < minDiskBytes {
		return d, fmt.Errorf("data disk has %d bytes, want %d at the least", size, minDiskBytes)
	}
	return d, nil
}

// mapTags maps the sectors with their tags, as many as the disk has room for
// now: dm-integrity alone knows, once it is mapped, and so is mapped twice.
func (m *DMCrypt) mapTags(d devicemapper.Mapper, below devicemapper.Device) (sectors uint64, tags devicemapper.Device, err error) {
	name := m.Name + tagsSuffix
	table := fmt.Sprintf("%s %d %d J 2 block_size:%d fix_padding", below, payloadOffset/sectorBytes, tagBytes, cryptSector)
	if _, err := d.Map(name, devicemapper.Target{Sectors: cryptSector / sectorBytes, Kind: "integrity", Parameters: table}); err != nil {
		return 0, tags, err
	}
	status, err := d.Status(name)
	if err = errors.Join(err, d.Remove(name)); err != nil {
		return 0, tags, err
	}
	if sectors, err = provided(status); err != nil {
		return 0, tags, err
	}
	tags, err = d.Map(name, devicemapper.Target{Sectors: sectors, Kind: "integrity", Parameters: table})
	return sectors, tags, err
}

// errStatus says that dm-integrity says of itself what this does not know.
var errStatus = errors.New("status of dm-integrity is not known")

// provided reads how many sectors dm-integrity has room for from its status:
// mismatches, provided data sectors, and how far a recalculation is
// (Documentation/admin-guide/device-mapper/dm-integrity.rst of the kernel).
func provided(status string) (uint64, error) {
	fields := strings.Fields(status)
	if len(fields) < 2 {
		return 0, fmt.Errorf("%w: %.80q", errStatus, status)
	}
	n, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil || n == 0 || n%(cryptSector/sectorBytes) != 0 {
		return 0, fmt.Errorf("%w: %.80q", errStatus, status)
	}
	return n, nil
}

// Unmap removes the mapping; without one it does nothing. Errors are device
// mapper's.
func (m *DMCrypt) Unmap() error {
	d, err := devicemapper.Open()
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // it was only asked
	return errors.Join(d.Remove(m.Name), d.Remove(m.Name+tagsSuffix))
}

// eraseSuperblock lets dm-integrity make the volume anew.
func eraseSuperblock(disk string) error {
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening data disk: %w", err)
	}
	_, err = f.WriteAt(make([]byte, 2*cryptSector), payloadOffset)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("erasing what the volume was: %w", err)
	}
	return nil
}
