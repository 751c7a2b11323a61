package esp

import (
	"encoding/binary"
	"fmt"
)

// A table's entries (Microsoft, FAT32 File System Specification, section 4): the
// upper four bits are not the entry's, and what is not below endOfChain ends one.
const (
	firstCluster = 2
	entryMask    = 0x0fffffff
	endOfChain   = 0x0ffffff8
	lastOfChain  = 0x0fffffff
)

// Extent is a run of bytes of the disk.
type Extent struct{ Offset, Bytes int64 }

func (v *Volume) isCluster(n uint32) bool { return n >= firstCluster && int(n) < len(v.table) }

func (v *Volume) offset(cluster uint32) int64 {
	return v.data + int64(cluster-firstCluster)*v.clusterBytes
}

func (v *Volume) readTable() error {
	b, err := v.read(v.tableAt, len(v.table)*4)
	if err != nil {
		return err
	}
	for n := range v.table {
		v.table[n] = binary.LittleEndian.Uint32(b[n*4:]) & entryMask
	}
	return nil
}

// chain is the clusters from the first on, which hold size bytes and no more than
// the cluster that those end in.
func (v *Volume) chain(first uint32, size int64) ([]uint32, error) {
	want := (size + v.clusterBytes - 1) / v.clusterBytes
	if want > int64(len(v.table)) {
		return nil, layout("a file claims %d bytes", size)
	}
	clusters := make([]uint32, 0, want)
	for n := first; int64(len(clusters)) < want; n = v.table[n] {
		if !v.isCluster(n) {
			return nil, layout("a file of %d bytes ends after %d clusters", size, len(clusters))
		}
		clusters = append(clusters, n)
	}
	return clusters, nil
}

// wholeChain is the clusters of a directory, which says no size.
func (v *Volume) wholeChain(first uint32) ([]uint32, error) {
	var clusters []uint32
	for n := first; n < endOfChain; n = v.table[n] {
		if !v.isCluster(n) || len(clusters) == maxDirectoryClusters {
			return nil, layout("a directory has no end, or cluster %d", n)
		}
		clusters = append(clusters, n)
	}
	return clusters, nil
}

// extents joins clusters that lie side by side; the last has what is left of size.
func (v *Volume) extents(clusters []uint32, size int64) []Extent {
	var runs []Extent
	for _, c := range clusters {
		n := min(v.clusterBytes, size)
		size -= n
		if last := len(runs) - 1; last >= 0 && runs[last].Offset+runs[last].Bytes == v.offset(c) {
			runs[last].Bytes += n
			continue
		}
		runs = append(runs, Extent{Offset: v.offset(c), Bytes: n})
	}
	return runs
}

// allocate finds clusters for size bytes among those that no file or directory
// has, whatever the table says: what a power cut left allocated is taken again.
func (v *Volume) allocate(size int64) ([]uint32, error) {
	used, err := v.used()
	if err != nil {
		return nil, err
	}
	want := int((size + v.clusterBytes - 1) / v.clusterBytes)
	free := make([]uint32, 0, want)
	for n := firstCluster; n < len(v.table) && len(free) < want; n++ {
		if !used[n] {
			free = append(free, uint32(n))
		}
	}
	if len(free) < want {
		return nil, fmt.Errorf("%w: %d bytes are free of %d", ErrNoRoom, int64(len(free))*v.clusterBytes, size)
	}
	return free, nil
}

// used are the clusters that a file or a directory has. The error is ErrLayout where
// two have one: what removed the one would take it from the other, and what went
// from directory to directory would never end.
func (v *Volume) used() ([]bool, error) {
	used := make([]bool, len(v.table))
	return used, v.markUsed(v.root, used, 0)
}

func (v *Volume) markUsed(directory uint32, used []bool, depth int) error {
	if depth > maxDepth {
		return layout("its directories are more than %d deep", maxDepth)
	}
	clusters, err := v.wholeChain(directory)
	if err != nil {
		return err
	}
	if err := mark(used, clusters); err != nil {
		return err
	}
	entries, err := v.entries(clusters)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.dots() || e.cluster == 0:
		case e.directory():
			if err := v.markUsed(e.cluster, used, depth+1); err != nil {
				return err
			}
		default:
			clusters, err := v.chain(e.cluster, int64(e.size))
			if err != nil {
				return err
			}
			if err := mark(used, clusters); err != nil {
				return err
			}
		}
	}
	return nil
}

func mark(used []bool, clusters []uint32) error {
	for _, c := range clusters {
		if used[c] {
			return layout("two files have cluster %d", c)
		}
		used[c] = true
	}
	return nil
}

// link chains clusters in both tables.
func (v *Volume) link(clusters []uint32) error {
	for i, c := range clusters {
		v.table[c] = lastOfChain
		if i+1 < len(clusters) {
			v.table[c] = clusters[i+1]
		}
	}
	return v.writeTable(clusters)
}

// release frees clusters in both tables.
func (v *Volume) release(clusters []uint32) error {
	for _, c := range clusters {
		v.table[c] = 0
	}
	return v.writeTable(clusters)
}

// writeTable writes the sectors that hold the clusters' entries, in both tables,
// and makes the count of free clusters unknown (Microsoft, FAT32 File System
// Specification, section 5).
func (v *Volume) writeTable(clusters []uint32) error {
	const perSector = sectorBytes / 4
	written := map[int]bool{}
	for _, c := range clusters {
		n := int(c) / perSector
		if written[n] {
			continue
		}
		written[n] = true
		sector, err := v.read(v.tableAt+int64(n)*sectorBytes, sectorBytes)
		if err != nil {
			return err
		}
		for i := range perSector {
			if at := n*perSector + i; at < len(v.table) && at >= firstCluster {
				binary.LittleEndian.PutUint32(sector[i*4:], v.table[at])
			}
		}
		for copyAt := range int64(2) {
			if err := v.write(v.tableAt+copyAt*v.tableBytes+int64(n)*sectorBytes, sector); err != nil {
				return err
			}
		}
	}
	unknown := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	information, err := v.read(v.informationAt, sectorBytes)
	if err != nil {
		return err
	}
	if string(information[:4]) != "RRaA" {
		return layout("its file system has no information sector")
	}
	copy(information[488:], unknown)
	return v.write(v.informationAt, information)
}
