package disk

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/toolshed-cloud/shed/agent/esp"
)

// The file system's geometry (Microsoft, FAT32 File System Specification).
const (
	sectorsPerCluster = 8
	clusterSize       = sectorsPerCluster * sectorSize
	reservedSectors   = 32
	totalSectors      = partitionSize / sectorSize
	// sectorsPerFAT is rounded up to a cluster, so that clusters are aligned
	// on the disk.
	sectorsPerFAT = (totalSectors/sectorsPerCluster*4/sectorSize + sectorsPerCluster) / sectorsPerCluster * sectorsPerCluster
	dataSector    = reservedSectors + 2*sectorsPerFAT
	clusterCount  = (totalSectors - dataSector) / sectorsPerCluster
	firstCluster  = 2
	endOfChain    = 0x0fffffff
	media         = 0xf8
	dirEntrySize  = 32
	attrDirectory = 0x10
	attrArchive   = 0x20
	volumeSerial  = 0x53686564
)

// node is a directory or a file of the tree, in the order first named.
type node struct {
	name     [11]byte
	dir      bool
	children []*node
	data     []byte
	cluster  uint32
}

func writeFAT(w io.WriterAt, files []File) error {
	root := &node{dir: true}
	for _, f := range files {
		if err := root.insert(strings.Split(f.Path, "/"), f.Data); err != nil {
			return fmt.Errorf("%w: %q: %w", ErrLayout, f.Path, err)
		}
	}
	table := []uint32{0x0fffff00 | media, endOfChain}
	if err := root.place(&table); err != nil {
		return err
	}
	if err := writeHead(w, table); err != nil {
		return err
	}
	return root.write(w, 0)
}

func (n *node) insert(names []string, data []byte) error {
	short, err := esp.ShortName(names[0])
	if err != nil {
		return err
	}
	var child *node
	for _, c := range n.children {
		if c.name == short {
			child = c
		}
	}
	leaf := len(names) == 1
	if child == nil {
		child = &node{name: short, dir: !leaf, data: nil}
		n.children = append(n.children, child)
	} else if leaf || !child.dir {
		return fmt.Errorf("%s is there already", names[0])
	}
	if leaf {
		child.data = data
		return nil
	}
	return child.insert(names[1:], data)
}

// place gives every node one run of clusters, its parent's first.
func (n *node) place(table *[]uint32) error {
	if size := n.size(); size > 0 {
		clusters := (size + clusterSize - 1) / clusterSize
		if len(*table)+clusters > firstCluster+clusterCount {
			return fmt.Errorf("%w: the partition has %d bytes", ErrLayout, partitionSize)
		}
		n.cluster = uint32(len(*table))
		for i := 1; i < clusters; i++ {
			*table = append(*table, uint32(len(*table))+1)
		}
		*table = append(*table, endOfChain)
	}
	for _, c := range n.children {
		if err := c.place(table); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) size() int {
	if n.dir {
		return (2 + len(n.children)) * dirEntrySize
	}
	return len(n.data)
}

func (n *node) write(w io.WriterAt, parent uint32) error {
	if n.cluster != 0 {
		data := n.data
		if n.dir {
			data = n.directory(parent)
		}
		at := int64(dataSector)*sectorSize + int64(n.cluster-firstCluster)*clusterSize
		if _, err := w.WriteAt(data, at); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		// A parent that is the root is named 0, whatever its cluster.
		own := n.cluster
		if n.name == ([11]byte{}) {
			own = 0
		}
		if err := c.write(w, own); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) directory(parent uint32) []byte {
	var b []byte
	if n.name != ([11]byte{}) {
		b = append(b, dirEntry([11]byte([]byte(".          ")), attrDirectory, n.cluster, 0)...)
		b = append(b, dirEntry([11]byte([]byte("..         ")), attrDirectory, parent, 0)...)
	}
	for _, c := range n.children {
		attributes := byte(attrArchive)
		if c.dir {
			attributes = attrDirectory
		}
		b = append(b, dirEntry(c.name, attributes, c.cluster, uint32(len(c.data)))...)
	}
	return b
}

// fatDate is 1980-01-01, the earliest there is.
const fatDate = 1<<5 | 1

func dirEntry(name [11]byte, attributes byte, cluster, size uint32) []byte {
	b := make([]byte, dirEntrySize)
	copy(b, name[:])
	b[11] = attributes
	binary.LittleEndian.PutUint16(b[16:], fatDate)
	binary.LittleEndian.PutUint16(b[18:], fatDate)
	binary.LittleEndian.PutUint16(b[24:], fatDate)
	binary.LittleEndian.PutUint16(b[20:], uint16(cluster>>16))
	binary.LittleEndian.PutUint16(b[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(b[28:], size)
	return b
}

// writeHead writes the boot sector and its copy, the information sector and
// its copy, and both tables.
func writeHead(w io.WriterAt, table []uint32) error {
	fat := make([]byte, 0, len(table)*4)
	for _, next := range table {
		fat = binary.LittleEndian.AppendUint32(fat, next)
	}
	used := uint32(len(table)) - firstCluster
	for _, part := range []struct {
		sector int64
		data   []byte
	}{
		{0, bootSector()},
		{1, informationSector(clusterCount-used, uint32(len(table)))},
		{6, bootSector()},
		{7, informationSector(clusterCount-used, uint32(len(table)))},
		{reservedSectors, fat},
		{reservedSectors + sectorsPerFAT, fat},
	} {
		if _, err := w.WriteAt(part.data, part.sector*sectorSize); err != nil {
			return err
		}
	}
	return nil
}

func bootSector() []byte {
	b := make([]byte, sectorSize)
	copy(b, []byte{0xeb, 0x58, 0x90})
	copy(b[3:], "SHED    ")
	binary.LittleEndian.PutUint16(b[11:], sectorSize)
	b[13] = sectorsPerCluster
	binary.LittleEndian.PutUint16(b[14:], reservedSectors)
	b[16] = 2
	b[21] = media
	binary.LittleEndian.PutUint16(b[24:], 63)
	binary.LittleEndian.PutUint16(b[26:], 255)
	binary.LittleEndian.PutUint32(b[28:], firstLBA)
	binary.LittleEndian.PutUint32(b[32:], totalSectors)
	binary.LittleEndian.PutUint32(b[36:], sectorsPerFAT)
	binary.LittleEndian.PutUint32(b[44:], firstCluster)
	binary.LittleEndian.PutUint16(b[48:], 1)
	binary.LittleEndian.PutUint16(b[50:], 6)
	b[64] = 0x80
	b[66] = 0x29
	binary.LittleEndian.PutUint32(b[67:], volumeSerial)
	// There is no label: the root directory would have to hold it too.
	copy(b[71:], "NO NAME    FAT32   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

func informationSector(free, next uint32) []byte {
	b := make([]byte, sectorSize)
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	binary.LittleEndian.PutUint32(b[488:], free)
	binary.LittleEndian.PutUint32(b[492:], next)
	b[510], b[511] = 0x55, 0xaa
	return b
}
