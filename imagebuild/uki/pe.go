// Package uki joins a systemd-stub, a kernel and what belongs to them into one
// EFI program (a unified kernel image), and hashes EFI programs as firmware
// does.
//
// Invariants: the same parts give the same bytes; a section's VirtualSize is
// the exact length of its data, since that is what the stub measures; every
// offset that a file names is checked against its length before use.
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat says that bytes are not a PE32+ program that this package can use.
var ErrFormat = errors.New("not a usable EFI program")

// Offsets of the Microsoft PE/COFF specification, relative to the part that
// the name begins with.
const (
	dosHeaderOffset       = 0x3c
	coffSize              = 24 // with the signature in front
	coffSections          = 6
	coffSymbols           = 12
	coffSymbolCount       = 16
	coffOptionalSize      = 20
	optionalMagic         = 0
	optionalInitialized   = 8
	optionalAlignment     = 32
	optionalFileAlignment = 36
	optionalImageSize     = 56
	optionalHeadersSize   = 60
	optionalCheckSum      = 64
	optionalDirectories   = 108
	optionalCertificates  = 112 + 4*8
	optionalMinimum       = optionalCertificates + 8
	sectionSize           = 40
	magicPE32Plus         = 0x20b
	certificateDirectory  = 4
)

// program is a PE32+ file with its headers found and checked.
type program struct {
	data     []byte
	coff     int
	optional int
	table    int
	sections []section
}

type section struct {
	name            string
	virtualSize     uint32
	virtualAddress  uint32
	rawSize         uint32
	rawOffset       uint32
	characteristics uint32
}

func parse(data []byte) (*program, error) {
	if len(data) < dosHeaderOffset+4 || !bytes.HasPrefix(data, []byte("MZ")) {
		return nil, fmt.Errorf("%w: no MZ header", ErrFormat)
	}
	p := &program{data: data}
	coff := int64(binary.LittleEndian.Uint32(data[dosHeaderOffset:]))
	if coff+coffSize+optionalMinimum > int64(len(data)) || !bytes.HasPrefix(data[coff:], []byte("PE\x00\x00")) {
		return nil, fmt.Errorf("%w: no PE header", ErrFormat)
	}
	p.coff = int(coff)
	p.optional = p.coff + coffSize
	if p.u16(p.optional+optionalMagic) != magicPE32Plus {
		return nil, fmt.Errorf("%w: not PE32+", ErrFormat)
	}
	if p.u32(p.optional+optionalDirectories) <= certificateDirectory {
		return nil, fmt.Errorf("%w: no certificate directory", ErrFormat)
	}
	p.table = p.optional + int(p.u16(p.coff+coffOptionalSize))
	return p, p.readSections()
}

func (p *program) readSections() error {
	count := int(p.u16(p.coff + coffSections))
	if p.table+count*sectionSize > len(p.data) || p.table < p.optional+optionalMinimum {
		return fmt.Errorf("%w: section table is cut off", ErrFormat)
	}
	for i := range count {
		at := p.table + i*sectionSize
		s := section{
			name:            string(bytes.TrimRight(p.data[at:at+8], "\x00")),
			virtualSize:     p.u32(at + 8),
			virtualAddress:  p.u32(at + 12),
			rawSize:         p.u32(at + 16),
			rawOffset:       p.u32(at + 20),
			characteristics: p.u32(at + 36),
		}
		if int64(s.rawOffset)+int64(s.rawSize) > int64(len(p.data)) {
			return fmt.Errorf("%w: section %q is cut off", ErrFormat, s.name)
		}
		p.sections = append(p.sections, s)
	}
	return nil
}

func (p *program) section(name string) ([]byte, bool) {
	for _, s := range p.sections {
		if s.name == name {
			return p.data[s.rawOffset : int64(s.rawOffset)+int64(min(s.rawSize, s.virtualSize))], true
		}
	}
	return nil, false
}

func (p *program) u16(at int) uint16 { return binary.LittleEndian.Uint16(p.data[at:]) }
func (p *program) u32(at int) uint32 { return binary.LittleEndian.Uint32(p.data[at:]) }
func (p *program) put16(at int, v uint16) {
	binary.LittleEndian.PutUint16(p.data[at:], v)
}
func (p *program) put32(at int, v uint32) {
	binary.LittleEndian.PutUint32(p.data[at:], v)
}
