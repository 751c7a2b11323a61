// Package esp reads and writes the EFI system partition of the disk that the
// machine boots from, so that a release can be put beside the one that runs.
//
// Invariants: the partition is the host's to write, so everything on it is checked
// and capped before it is followed, and nothing of it is believed; at every moment
// each file is there whole or not at all, whenever the power is cut: its data is
// on the disk before its chain, and its chain before its name; two files change
// places by the write of one sector.
package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Disk is what the partition lies on.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns once what was written will outlive the power.
	Sync() error
}

// The sentinels of this package.
var (
	// ErrLayout says that the disk does not hold what an image has there.
	ErrLayout = errors.New("the boot disk is not laid out as an image's")
	// ErrNoFile says that there is no file of that name.
	ErrNoFile = errors.New("no such file on the EFI system partition")
	// ErrNoRoom says that a file does not fit.
	ErrNoRoom = errors.New("no room on the EFI system partition")
)

const sectorBytes = 512

// Volume is the file system of the partition. It is for one caller at a time.
type Volume struct {
	disk Disk
	partition
	// start is the partition's, and data the first cluster's, in bytes of the disk.
	start, data int64
	// clusterBytes is a cluster's size; table has an entry for each cluster and the
	// two before them (Microsoft, FAT32 File System Specification, section 4).
	clusterBytes int64
	table        []uint32
	// tableAt is the first of the two tables', tableBytes its length, and
	// informationAt where the count of free clusters stands.
	tableAt, tableBytes, informationAt int64
	root                               uint32
}

// partition is where the partition lies, by the partition table, for a boot entry
// that names it.
type partition struct {
	Number       uint32
	FirstLBA     uint64
	Sectors      uint64
	UniqueGUID   [16]byte
	partitionEnd int64
}

// espType is C12A7328-F81F-11D2-BA4B-00A0C93EC93B (UEFI specification 2.10, table
// 5.7) as it lies on disk.
var espType = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// Open reads where the partition is and how it is laid out. Errors match
// ErrLayout, or are the disk's.
func Open(disk Disk) (*Volume, error) {
	v := &Volume{disk: disk}
	if err := v.findPartition(); err != nil {
		return nil, err
	}
	if err := v.readGeometry(); err != nil {
		return nil, err
	}
	return v, nil
}

func layout(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLayout, fmt.Sprintf(format, args...))
}

// maxPartitions is how many entries of a partition table are looked at, and
// maxDisk what no boot disk is larger than, in sectors.
const (
	maxPartitions = 128
	maxDisk       = 1 << 32
)

// findPartition reads the first partition table (UEFI specification 2.10, section
// 5.3); the firmware has compared its checksums.
func (v *Volume) findPartition() error {
	head, err := v.read(sectorBytes, sectorBytes)
	if err != nil {
		return err
	}
	if !bytes.Equal(head[:8], []byte("EFI PART")) {
		return layout("it has no partition table")
	}
	little := binary.LittleEndian
	at, count, size := little.Uint64(head[72:]), little.Uint32(head[80:]), little.Uint32(head[84:])
	if at < 2 || at > maxDisk || count > maxPartitions || size != 128 {
		return layout("its partition table has %d entries of %d bytes at sector %d", count, size, at)
	}
	entries, err := v.read(int64(at)*sectorBytes, int(count*size))
	if err != nil {
		return err
	}
	for n := range count {
		entry := entries[n*size : (n+1)*size]
		if !bytes.Equal(entry[:16], espType[:]) {
			continue
		}
		first, last := little.Uint64(entry[32:]), little.Uint64(entry[40:])
		if first < 2 || last < first || last > maxDisk {
			return layout("its EFI system partition is from sector %d to %d", first, last)
		}
		v.partition = partition{Number: n + 1, FirstLBA: first, Sectors: last - first + 1, UniqueGUID: [16]byte(entry[16:32])}
		v.start, v.partitionEnd = int64(first)*sectorBytes, int64(last+1)*sectorBytes
		return nil
	}
	return layout("it has no EFI system partition")
}

// The first sector of a FAT32 file system has these at these places (Microsoft,
// FAT32 File System Specification, section 3).
const (
	placeSectorBytes     = 11
	placeClusterSectors  = 13
	placeReservedSectors = 14
	placeTables          = 16
	placeSectors         = 32
	placeTableSectors    = 36
	placeRoot            = 44
)

// maxClusters caps the table that is read, 16 MiB.
const maxClusters = 4 << 20

func (v *Volume) readGeometry() error {
	boot, err := v.read(v.start, sectorBytes)
	if err != nil {
		return err
	}
	little := binary.LittleEndian
	perCluster, tables := int64(boot[placeClusterSectors]), int64(boot[placeTables])
	reserved, perTable := int64(little.Uint16(boot[placeReservedSectors:])), int64(little.Uint32(boot[placeTableSectors:]))
	sectors := int64(little.Uint32(boot[placeSectors:]))
	switch {
	case little.Uint16(boot[placeSectorBytes:]) != sectorBytes, boot[510] != 0x55, boot[511] != 0xaa:
		return layout("its file system has no first sector of FAT32")
	case perCluster == 0 || perCluster&(perCluster-1) != 0 || tables != 2 || reserved == 0 || perTable == 0:
		return layout("its file system has clusters of %d sectors, and %d tables of %d behind %d", perCluster, tables, perTable, reserved)
	case v.start+sectors*sectorBytes > v.partitionEnd:
		return layout("its file system has %d sectors, more than its partition", sectors)
	}
	before := reserved + tables*perTable
	clusters := (sectors - before) / perCluster
	if clusters < 1 || clusters > maxClusters || (clusters+firstCluster)*4 > perTable*sectorBytes {
		return layout("its file system has %d clusters, and tables of %d sectors", clusters, perTable)
	}
	v.data, v.clusterBytes = v.start+before*sectorBytes, perCluster*sectorBytes
	v.table = make([]uint32, clusters+firstCluster)
	v.tableAt, v.tableBytes = v.start+reserved*sectorBytes, perTable*sectorBytes
	if v.root = little.Uint32(boot[placeRoot:]); !v.isCluster(v.root) {
		return layout("its root directory is at cluster %d", v.root)
	}
	v.informationAt = v.start + int64(little.Uint16(boot[48:]))*sectorBytes
	return v.readTable()
}

func (v *Volume) read(at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := v.disk.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("reading the boot disk: %w", err)
	}
	return b, nil
}

func (v *Volume) write(at int64, b []byte) error {
	if _, err := v.disk.WriteAt(b, at); err != nil {
		return fmt.Errorf("writing the boot disk: %w", err)
	}
	return nil
}

func (v *Volume) sync() error {
	if err := v.disk.Sync(); err != nil {
		return fmt.Errorf("writing the boot disk: %w", err)
	}
	return nil
}
