// Package uefidata writes the variables that EC2's firmware starts a new machine
// with, in the form that RegisterImage takes them.
//
// The form is documented by AWS's own tool alone
// (https://github.com/awslabs/python-uefivars, version 0 of "aws"): base64 of a
// magic number, a CRC-32C, a version, and zlib's compression of a count and the
// variables. Invariants: the same variables give the same text; what is longer
// than RegisterImage takes is an error; what is read is capped before it is
// unpacked, and read whole or refused.
package uefidata

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf8"
)

// ErrData says that something is no such text, or can be put into none.
var ErrData = errors.New("unusable uefi data")

// MaxText caps the text:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
const MaxText = 64000

const (
	// maxUnpacked caps what the text holds, in bytes; maxVariables its count.
	maxUnpacked  = 1 << 20
	maxVariables = 1 << 10
	maxName      = 256
	version      = 0
)

var (
	magic      = []byte("AMZNUEFI")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// head is the magic number, the checksum and the version.
const head = 8 + 4 + 4

// The attributes of variables (UEFI specification, section 8.2).
const (
	NonVolatile   = 0x01
	BootService   = 0x02
	Runtime       = 0x04
	Authenticated = 0x20
)

// GUID is a namespace as it lies in memory.
type GUID [16]byte

// The namespaces of Secure Boot's variables (UEFI specification, sections 3.3
// and 32.6.1).
var (
	Global        = GUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	ImageSecurity = GUID{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// Variable is one of the firmware's. Timestamp, an EFI_TIME, and Digest, of who
// may write it, are of one that is Authenticated; both are zero as it is enrolled.
type Variable struct {
	Name       string
	GUID       GUID
	Attributes uint32
	Data       []byte
	Timestamp  [16]byte
	Digest     []byte
}

// emptyDigest is how a digest that there is not is written.
var emptyDigest [32]byte

// SecureBoot are the variables that turn Secure Boot on, each a list of
// EFI_SIGNATURE_LIST; dbx may be empty.
func SecureBoot(pk, kek, db, dbx []byte) []Variable {
	const attributes = NonVolatile | BootService | Runtime | Authenticated
	all := []Variable{
		{Name: "PK", GUID: Global, Attributes: attributes, Data: pk},
		{Name: "KEK", GUID: Global, Attributes: attributes, Data: kek},
		{Name: "db", GUID: ImageSecurity, Attributes: attributes, Data: db},
	}
	if len(dbx) > 0 {
		all = append(all, Variable{Name: "dbx", GUID: ImageSecurity, Attributes: attributes, Data: dbx})
	}
	return all
}

// Encode writes variables. The error is ErrData where they are too many or too
// large.
func Encode(all []Variable) (string, error) {
	if len(all) > maxVariables {
		return "", fmt.Errorf("%w: %d variables, at most %d", ErrData, len(all), maxVariables)
	}
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(all)))
	for _, v := range all {
		if err := v.check(); err != nil {
			return "", err
		}
		raw = v.append(raw)
	}
	if len(raw) > maxUnpacked {
		return "", fmt.Errorf("%w: the variables have %d bytes, at most %d", ErrData, len(raw), maxUnpacked)
	}
	packed := bytes.NewBuffer(binary.LittleEndian.AppendUint32(nil, version))
	w, err := zlib.NewWriterLevel(packed, zlib.BestCompression)
	if err != nil {
		return "", fmt.Errorf("packing variables: %w", err)
	}
	if _, err := w.Write(raw); err != nil {
		return "", fmt.Errorf("packing variables: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("packing variables: %w", err)
	}
	out := binary.LittleEndian.AppendUint32(bytes.Clone(magic), crc32.Checksum(packed.Bytes(), castagnoli))
	text := base64.StdEncoding.EncodeToString(append(out, packed.Bytes()...))
	if len(text) > MaxText {
		return "", fmt.Errorf("%w: the text has %d characters, at most %d", ErrData, len(text), MaxText)
	}
	return text, nil
}

func (v Variable) check() error {
	switch {
	case v.Name == "" || len(v.Name) > maxName || !utf8.ValidString(v.Name):
		return fmt.Errorf("%w: a variable's name has %d bytes, want 1 to %d of UTF-8", ErrData, len(v.Name), maxName)
	case v.Attributes&Authenticated == 0 && (v.Timestamp != [16]byte{} || v.Digest != nil):
		return fmt.Errorf("%w: %s is not authenticated, and has a timestamp or a digest", ErrData, v.Name)
	}
	return nil
}

func (v Variable) append(b []byte) []byte {
	b = appendData(b, []byte(v.Name))
	b = appendData(b, v.Data)
	b = append(b, v.GUID[:]...)
	b = binary.LittleEndian.AppendUint32(b, v.Attributes)
	if v.Attributes&Authenticated == 0 {
		return b
	}
	digest := v.Digest
	if digest == nil {
		digest = emptyDigest[:]
	}
	return appendData(append(b, v.Timestamp[:]...), digest)
}

func appendData(b, data []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(data))), data...)
}

// Decode reads what Encode wrote, and with AWS's dictionary (python-uefivars has
// it) what AWS did. Errors are ErrData.
func Decode(text string, dictionary []byte) ([]Variable, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: the text has %d characters, at most %d", ErrData, len(text), MaxText)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	case len(b) < head || !bytes.Equal(b[:len(magic)], magic):
		return nil, fmt.Errorf("%w: it does not begin with %s", ErrData, magic)
	case binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[12:], castagnoli):
		return nil, fmt.Errorf("%w: the checksum differs", ErrData)
	case binary.LittleEndian.Uint32(b[12:]) != version:
		return nil, fmt.Errorf("%w: version %d, want %d", ErrData, binary.LittleEndian.Uint32(b[12:]), version)
	}
	r, err := zlib.NewReaderDict(bytes.NewReader(b[head:]), dictionary)
	if err != nil {
		return nil, fmt.Errorf("%w: unpacking: %w", ErrData, err)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("%w: unpacking: %w", ErrData, err)
	}
	if len(raw) > maxUnpacked {
		return nil, fmt.Errorf("%w: the variables have more than %d bytes", ErrData, maxUnpacked)
	}
	return parse(raw)
}

func parse(raw []byte) ([]Variable, error) {
	p := parser{rest: raw}
	n := p.number()
	if n > maxVariables {
		return nil, fmt.Errorf("%w: %d variables, at most %d", ErrData, n, maxVariables)
	}
	var all []Variable
	for range n {
		v := p.variable()
		if p.short {
			return nil, fmt.Errorf("%w: it ends within variable %d of %d", ErrData, len(all), n)
		}
		if err := v.check(); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	if p.short || len(p.rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow %d variables", ErrData, len(p.rest), n)
	}
	return all, nil
}

// parser takes a store apart. Once it is short it answers nothing.
type parser struct {
	rest  []byte
	short bool
}

func (p *parser) take(n uint64) []byte {
	if p.short || n > uint64(len(p.rest)) {
		p.short = true
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) number() uint64 {
	if b := p.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (p *parser) variable() (v Variable) {
	v.Name = string(p.take(p.number()))
	v.Data = p.take(p.number())
	copy(v.GUID[:], p.take(16))
	if b := p.take(4); b != nil {
		v.Attributes = binary.LittleEndian.Uint32(b)
	}
	if v.Attributes&Authenticated == 0 {
		return v
	}
	copy(v.Timestamp[:], p.take(16))
	if v.Digest = p.take(p.number()); bytes.Equal(v.Digest, emptyDigest[:]) {
		v.Digest = nil
	}
	return v
}
