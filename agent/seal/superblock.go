package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
)

// superblock is how dm-integrity begins a volume (struct superblock in
// drivers/md/dm-integrity.c, Linux 6.12). Nothing authenticates it: what it says
// of the layout is fixed here, and what it says of the size is the disk's own.
type superblock struct {
	Magic             [8]byte
	Version           uint8
	Log2Interleave    uint8
	TagBytes          uint16
	JournalSections   uint32
	Provided          uint64
	Flags             uint32
	Log2SectorsPerBlk uint8
	Log2BlocksPerBit  uint8
}

// superblockBytes is what is read of it.
const superblockBytes = 30

var superblockMagic = [8]byte{'i', 'n', 't', 'e', 'g', 'r', 't', 0}

// flagFixedPadding is SB_FLAG_FIXED_PADDING, the only flag of ours.
const flagFixedPadding = 0x8

// checkSuperblock refuses a disk whose volume is gone, or laid out otherwise
// than Make does.
func checkSuperblock(disk string) error {
	f, err := os.Open(disk)
	if err != nil {
		return fmt.Errorf("opening data disk: %w", err)
	}
	defer f.Close()
	b := make([]byte, superblockBytes)
	if _, err := f.ReadAt(b, payloadOffset); err != nil {
		return fmt.Errorf("reading how the volume begins: %w", err)
	}
	return parseSuperblock(b)
}

func parseSuperblock(b []byte) error {
	var s superblock
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, &s); err != nil {
		return fmt.Errorf("%w: reading how the volume begins: %w", ErrForeign, err)
	}
	switch {
	case s.Magic == [8]byte{}:
		return fmt.Errorf("%w: the header is there, and the volume behind it is gone", ErrForeign)
	case s.Magic != superblockMagic:
		return fmt.Errorf("%w: the volume begins with %x", ErrForeign, s.Magic)
	case s.TagBytes != tagBytes:
		return fmt.Errorf("%w: the volume has tags of %d bytes, want %d", ErrForeign, s.TagBytes, tagBytes)
	case s.Flags != flagFixedPadding:
		return fmt.Errorf("%w: the volume has flags %#x, want %#x", ErrForeign, s.Flags, flagFixedPadding)
	case int(s.Log2SectorsPerBlk) != bits.TrailingZeros(cryptSector/sectorBytes):
		return fmt.Errorf("%w: the volume has blocks of 2^%d sectors, want %d", ErrForeign, s.Log2SectorsPerBlk, cryptSector/sectorBytes)
	}
	return nil
}
