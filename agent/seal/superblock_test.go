package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// goodSuperblock is one as dm-integrity writes it for our table.
func goodSuperblock() superblock {
	return superblock{
		Magic: superblockMagic, Version: 5, Log2Interleave: 15, TagBytes: tagBytes, JournalSections: 88,
		Provided: 1 << 15, Flags: flagFixedPadding, Log2SectorsPerBlk: 3,
	}
}

func encodeSuperblock(t testing.TB, s superblock) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The layout is ours whatever the disk says, and a volume that is gone is not
// made anew by the kernel.
func TestSuperblockOfAnotherLayoutIsForeign(t *testing.T) {
	if b := encodeSuperblock(t, goodSuperblock()); len(b) != superblockBytes || parseSuperblock(b) != nil {
		t.Errorf("%d bytes: %v", len(b), parseSuperblock(b))
	}
	for says, spoil := range map[string]func(*superblock){
		"is gone":     func(s *superblock) { *s = superblock{} },
		"begins with": func(s *superblock) { s.Magic[0] = 'I' },
		"tags":        func(s *superblock) { s.TagBytes = 4 },
		// SB_FLAG_RECALCULATING would have the kernel write tags of its own.
		"flags":  func(s *superblock) { s.Flags |= 2 },
		"blocks": func(s *superblock) { s.Log2SectorsPerBlk = 0 },
	} {
		s := goodSuperblock()
		spoil(&s)
		if err := parseSuperblock(encodeSuperblock(t, s)); !errors.Is(err, ErrForeign) || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := parseSuperblock(nil); !errors.Is(err, ErrForeign) {
		t.Errorf("nothing: %v", err)
	}
}

func FuzzSuperblock(f *testing.F) {
	f.Add(encodeSuperblock(f, goodSuperblock()))
	f.Add(make([]byte, superblockBytes))
	f.Add([]byte("integrt\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := parseSuperblock(b); err == nil && !bytes.HasPrefix(b, superblockMagic[:]) {
			t.Errorf("%x was taken", b)
		}
	})
}
