package erofs

import (
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The format's sizes. An inode is known by its place: the number of the slot that
// it begins in.
const (
	blockBits   = 12
	blockBytes  = 1 << blockBits
	superOffset = 1024
	slotBytes   = 32
	inodeBytes  = 32
	direntBytes = 12
)

// The format's values, of those that are used.
const (
	magic = 0xE0F5E1E2
	// featureChecksum is compatible; an incompatible one there is none.
	featureChecksum = 1
	// The data are in blocks, or behind the inode where the last block would be.
	layoutPlain  = 0
	layoutInline = 2
	layoutShift  = 1
	// What a directory says of an entry, and the inode.
	typeFile, modeFile           = 1, 0o100000
	typeDirectory, modeDirectory = 2, 0o040000
	typeLink, modeLink           = 7, 0o120000
	modeSticky                   = 0o1000
)

// uuid is fixed: what an image is known by is its hash.
const uuid = "Shedpayload\x00\x00\x00\x00\x01"

// place gives everything its place: the superblock has the first block to itself,
// so that its checksum is of nothing else; then come the inodes, then the blocks.
func (i *Image) place() {
	at := int64(blockBytes)
	for _, n := range i.nodes {
		n.size = int64(len(n.Link)) + n.Bytes
		if n.Mode.IsDir() {
			n.size = int64(len(n.directory()))
		}
		at = roundUp(at, slotBytes)
		behind := inodeBytes
		if !n.inBlocks() {
			behind += int(n.size)
		}
		// What is behind an inode may not cross the edge of a block.
		if at%blockBytes+int64(behind) > blockBytes {
			at = roundUp(at, blockBytes)
		}
		n.offset = at
		at += int64(behind)
	}
	i.blocks = roundUp(at, blockBytes) / blockBytes
	for _, n := range i.nodes {
		if n.inBlocks() {
			n.block = i.blocks
			i.blocks += roundUp(n.size, blockBytes) / blockBytes
		}
	}
}

// inBlocks says that the data do not fit behind the inode.
func (n *node) inBlocks() bool { return inodeBytes+n.size > blockBytes }

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// superblock is the first block from superOffset on.
func (i *Image) superblock() []byte {
	b := make([]byte, blockBytes-superOffset)
	le := binary.LittleEndian
	le.PutUint32(b, magic)
	le.PutUint32(b[8:], featureChecksum)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(i.nodes[0].offset/slotBytes))
	le.PutUint64(b[16:], uint64(len(i.nodes)))
	le.PutUint32(b[36:], uint32(i.blocks))
	copy(b[48:64], uuid)
	// The kernel's crc32c is not inverted at the end, as Go's is.
	le.PutUint32(b[4:], ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// inode is a node's in the compact form.
func (n *node) inode() []byte {
	b := make([]byte, inodeBytes)
	le := binary.LittleEndian
	layout, links := uint16(layoutInline), uint16(1)
	if n.inBlocks() || n.size == 0 {
		layout = layoutPlain
	}
	if n.Mode.IsDir() {
		links = uint16(2 + n.directories)
	}
	le.PutUint16(b, layout<<layoutShift)
	le.PutUint16(b[4:], n.mode())
	le.PutUint16(b[6:], links)
	le.PutUint32(b[8:], uint32(n.size))
	le.PutUint32(b[16:], uint32(n.block))
	le.PutUint32(b[20:], n.number)
	return b
}

func (n *node) mode() uint16 {
	m := uint16(n.Mode.Perm())
	if n.Mode&fs.ModeSticky != 0 {
		m |= modeSticky
	}
	switch n.Mode.Type() {
	case fs.ModeDir:
		return modeDirectory | m
	case fs.ModeSymlink:
		return modeLink | 0o777
	}
	return modeFile | m
}

// dirent is one name in a directory.
type dirent struct {
	name string
	*node
}

func (d *dirent) kind() byte {
	switch d.Mode.Type() {
	case fs.ModeDir:
		return typeDirectory
	case fs.ModeSymlink:
		return typeLink
	}
	return typeFile
}

// directory are the data of one. Its blocks are searched by their first names, and
// each by its names, so that `.` and `..` stand where they sort.
func (n *node) directory() []byte {
	all := append(make([]dirent, 0, len(n.children)+2), dirent{".", n}, dirent{"..", n.parent})
	for _, child := range n.children {
		all = append(all, dirent{path.Base(child.Name), child})
	}
	slices.SortFunc(all, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	var data []byte
	first, used := 0, 0
	for i, d := range all {
		need := direntBytes + len(d.name)
		if used+need > blockBytes {
			data = appendDirents(data, all[first:i])
			data = append(data, make([]byte, blockBytes-used)...)
			first, used = i, 0
		}
		used += need
	}
	return appendDirents(data, all[first:])
}

// appendDirents appends a block: what each name stands for, then the names.
func appendDirents(data []byte, block []dirent) []byte {
	at := len(block) * direntBytes
	for _, d := range block {
		data = binary.LittleEndian.AppendUint64(data, uint64(d.offset/slotBytes))
		data = binary.LittleEndian.AppendUint16(data, uint16(at))
		data = append(data, d.kind(), 0)
		at += len(d.name)
	}
	for _, d := range block {
		data = append(data, d.name...)
	}
	return data
}
