package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Sizes and places of the UEFI specification, section 5.3.
const (
	entrySize    = 128
	entryCount   = 128
	entrySectors = entrySize * entryCount / sectorSize
	headerSize   = 92
	lastLBA      = Size/sectorSize - 1
	firstLBA     = partitionStart / sectorSize
	endLBA       = (partitionStart+partitionSize)/sectorSize - 1
)

// The identifiers, as they lie on disk. They are fixed: a disk is told from
// another by its machine, and a random one would make each build differ.
var (
	diskGUID      = [16]byte{0x5d, 0x0e, 0x1a, 0x53, 0x68, 0x65, 0x64, 0x4d, 0x8d, 0x69, 0x73, 0x6b, 0x00, 0x00, 0x00, 0x01}
	partitionGUID = [16]byte{0x5d, 0x0e, 0x1a, 0x53, 0x68, 0x65, 0x64, 0x4d, 0x8d, 0x65, 0x73, 0x70, 0x00, 0x00, 0x00, 0x01}
	// espType is C12A7328-F81F-11D2-BA4B-00A0C93EC93B.
	espType = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
)

func writeTable(w io.WriterAt) error {
	entries := make([]byte, entrySectors*sectorSize)
	copy(entries, espType[:])
	copy(entries[16:], partitionGUID[:])
	binary.LittleEndian.PutUint64(entries[32:], firstLBA)
	binary.LittleEndian.PutUint64(entries[40:], endLBA)
	for i, c := range "esp" {
		binary.LittleEndian.PutUint16(entries[56+2*i:], uint16(c))
	}
	checksum := crc32.ChecksumIEEE(entries)
	for _, part := range []struct {
		lba  int64
		data []byte
	}{
		{0, protectiveMBR()},
		{1, tableHeader(1, lastLBA, 2, checksum)},
		{2, entries},
		{lastLBA - entrySectors, entries},
		{lastLBA, tableHeader(lastLBA, 1, lastLBA-entrySectors, checksum)},
	} {
		if _, err := w.WriteAt(part.data, part.lba*sectorSize); err != nil {
			return err
		}
	}
	return nil
}

func tableHeader(own, other, entries uint64, checksum uint32) []byte {
	b := make([]byte, sectorSize)
	copy(b, "EFI PART")
	binary.LittleEndian.PutUint32(b[8:], 0x00010000)
	binary.LittleEndian.PutUint32(b[12:], headerSize)
	binary.LittleEndian.PutUint64(b[24:], own)
	binary.LittleEndian.PutUint64(b[32:], other)
	binary.LittleEndian.PutUint64(b[40:], 2+entrySectors)
	binary.LittleEndian.PutUint64(b[48:], lastLBA-entrySectors-1)
	copy(b[56:], diskGUID[:])
	binary.LittleEndian.PutUint64(b[72:], entries)
	binary.LittleEndian.PutUint32(b[80:], entryCount)
	binary.LittleEndian.PutUint32(b[84:], entrySize)
	binary.LittleEndian.PutUint32(b[88:], checksum)
	binary.LittleEndian.PutUint32(b[16:], crc32.ChecksumIEEE(b[:headerSize]))
	return b
}

// protectiveMBR keeps tools that know no GPT from taking the disk for empty.
func protectiveMBR() []byte {
	b := make([]byte, sectorSize)
	entry := b[446:]
	copy(entry[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], 1)
	binary.LittleEndian.PutUint32(entry[12:], lastLBA)
	b[510], b[511] = 0x55, 0xaa
	return b
}
