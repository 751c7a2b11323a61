package eventlog

import "encoding/binary"

// Encode writes a log that Parse reads, with a SHA-256 bank alone. What comes
// from firmware has more banks; this is for those who make logs of their own.
func Encode(events []Event) []byte {
	u16, u32 := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32
	spec := append([]byte(specSignature), make([]byte, 8)...)
	spec = append(u16(u16(u32(spec, 1), sha256ID), uint16(len(Event{}.Digest))), 0)
	b := append(u32(u32(nil, 0), noAction), make([]byte, 20)...)
	b = append(u32(b, uint32(len(spec))), spec...)
	for _, e := range events {
		b = u16(u32(u32(u32(b, e.Register), e.Type), 1), sha256ID)
		b = append(b, e.Digest[:]...)
		b = append(u32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}
