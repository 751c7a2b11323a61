package powercut

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// AckBytes is the size of the sector that says how much was acknowledged.
const AckBytes = 512

// ackMagic begins it.
const ackMagic = "powercut"

// PutAck writes a number into the sector.
func PutAck(sector []byte, n int) {
	copy(sector, ackMagic)
	binary.LittleEndian.PutUint64(sector[len(ackMagic):], uint64(n))
}

// Ack reads it. The error is for a sector that has none.
func Ack(sector []byte) (int, error) {
	if len(sector) < AckBytes || string(sector[:len(ackMagic)]) != ackMagic {
		return 0, fmt.Errorf("the first sector says nothing of what was acknowledged")
	}
	return int(binary.LittleEndian.Uint64(sector[len(ackMagic):])), nil
}

// Acknowledged is the highest number that the machine had acknowledged before
// an entry, and the first entry that acknowledged any.
func (l *Log) Acknowledged(before int) (n, first int, err error) {
	first = -1
	for i, e := range l.Entries[:before] {
		if e.At != 0 || e.Bytes != AckBytes {
			continue
		}
		sector, err := l.Read(e)
		if err != nil {
			return 0, 0, err
		}
		acknowledged, err := Ack(sector)
		if err != nil {
			// The header's place, before the first.
			continue
		}
		if first < 0 {
			first = i
		}
		n = max(n, acknowledged)
	}
	return n, first, nil
}

// IsFile says which of what is done is a file; the others are rows.
func IsFile(n int) bool { return n%8 == 7 }

// FileName is the name of one.
func FileName(n int) string { return fmt.Sprintf("file-%d", n) }

// Content is what belongs to a number: a few bytes up to 48 KiB, which do not
// compress.
func Content(n int) []byte {
	random := rand.New(rand.NewPCG(uint64(n), 0x706f776572))
	b := make([]byte, 1+random.IntN(3<<10)*(1+15*(n%2)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}
