package uki

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
)

// Section is one part that the stub looks for by name.
type Section struct {
	Name string
	Data []byte
}

// dataSection is IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ.
const dataSection = 0x40000040

// pageSize is the alignment of each added section, whatever smaller one the
// stub was linked with.
const pageSize = 0x1000

// Assemble returns stub with the sections added, in the order given. Errors
// match ErrFormat.
func Assemble(stub []byte, sections []Section) ([]byte, error) {
	p, err := parse(stub)
	if err != nil {
		return nil, fmt.Errorf("reading stub: %w", err)
	}
	for _, s := range sections {
		if _, taken := p.section(s.Name); taken || len(s.Name) == 0 || len(s.Name) > 8 {
			return nil, fmt.Errorf("%w: section %q cannot be added", ErrFormat, s.Name)
		}
	}
	if p, err = p.stripped(); err != nil {
		return nil, err
	}
	for _, s := range sections {
		if err := p.add(s); err != nil {
			return nil, fmt.Errorf("adding section %s: %w", s.Name, err)
		}
	}
	return p.data, nil
}

// stripped copies the program without whatever follows its sections, such as a
// COFF symbol table, and without a checksum.
func (p *program) stripped() (*program, error) {
	end := p.u32(p.optional + optionalHeadersSize)
	for _, s := range p.sections {
		end = max(end, s.rawOffset+s.rawSize)
	}
	if int64(end) > int64(len(p.data)) || int(end) < p.table {
		return nil, fmt.Errorf("%w: headers are cut off", ErrFormat)
	}
	c := *p
	c.data = slices.Clone(p.data[:end])
	c.sections = slices.Clone(p.sections)
	c.put32(c.coff+coffSymbols, 0)
	c.put32(c.coff+coffSymbolCount, 0)
	c.put32(c.optional+optionalCheckSum, 0)
	return &c, nil
}

func (p *program) add(s Section) error {
	fileAlign := p.u32(p.optional + optionalFileAlignment)
	memAlign := max(p.u32(p.optional+optionalAlignment), pageSize)
	if fileAlign == 0 || fileAlign > pageSize {
		return fmt.Errorf("%w: file alignment %d", ErrFormat, fileAlign)
	}
	header := p.table + len(p.sections)*sectionSize
	if header+sectionSize > int(p.u32(p.optional+optionalHeadersSize)) {
		return fmt.Errorf("%w: no room in the headers after %d sections", ErrFormat, len(p.sections))
	}
	var top uint64
	for _, old := range p.sections {
		top = max(top, uint64(old.virtualAddress)+uint64(old.virtualSize))
	}
	if max(top, uint64(len(p.data)))+uint64(len(s.Data)) > math.MaxInt32/2 {
		return fmt.Errorf("%w: %d bytes are too many", ErrFormat, len(s.Data))
	}
	added := section{
		name:            s.Name,
		virtualSize:     uint32(len(s.Data)),
		virtualAddress:  roundUp(uint32(top), memAlign),
		rawSize:         roundUp(uint32(len(s.Data)), fileAlign),
		rawOffset:       roundUp(uint32(len(p.data)), fileAlign),
		characteristics: dataSection,
	}
	end := int(added.rawOffset + added.rawSize)
	p.data = append(slices.Grow(p.data, end-len(p.data)), make([]byte, end-len(p.data))...)
	copy(p.data[added.rawOffset:], s.Data)
	p.writeHeader(header, added)
	p.sections = append(p.sections, added)
	p.put16(p.coff+coffSections, uint16(len(p.sections)))
	p.put32(p.optional+optionalInitialized, p.u32(p.optional+optionalInitialized)+added.rawSize)
	p.put32(p.optional+optionalImageSize, roundUp(added.virtualAddress+added.virtualSize, memAlign))
	return nil
}

func (p *program) writeHeader(at int, s section) {
	clear(p.data[at : at+sectionSize])
	copy(p.data[at:at+8], s.name)
	p.put32(at+8, s.virtualSize)
	p.put32(at+12, s.virtualAddress)
	p.put32(at+16, s.rawSize)
	p.put32(at+20, s.rawOffset)
	p.put32(at+36, s.characteristics)
}

func roundUp(n, to uint32) uint32 { return (n + to - 1) / to * to }

// magicVersion finds the version in the stub's .sdmagic, such as
// "#### LoaderInfo: systemd-stub 252.39-1~deb12u1 ####".
var magicVersion = regexp.MustCompile(`systemd-stub ([0-9]{1,4})`)

// StubVersion reads which systemd-stub this is; it decides what is measured.
// Errors match ErrFormat.
func StubVersion(stub []byte) (int, error) {
	p, err := parse(stub)
	if err != nil {
		return 0, err
	}
	magic, ok := p.section(".sdmagic")
	if !ok {
		return 0, fmt.Errorf("%w: no .sdmagic section: not a systemd-stub", ErrFormat)
	}
	found := magicVersion.FindSubmatch(magic)
	if found == nil {
		return 0, fmt.Errorf("%w: .sdmagic %.80q names no version of systemd-stub", ErrFormat, magic)
	}
	return strconv.Atoi(string(found[1]))
}

// Sections returns the data of every section of an EFI program by name, as
// long as the program says it is. Errors match ErrFormat.
func Sections(image []byte) (map[string][]byte, error) {
	p, err := parse(image)
	if err != nil {
		return nil, err
	}
	m := make(map[string][]byte, len(p.sections))
	for _, s := range p.sections {
		m[s.name], _ = p.section(s.name)
	}
	return m, nil
}
