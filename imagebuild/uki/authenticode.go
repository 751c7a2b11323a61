package uki

import (
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"slices"
)

// Authenticode writes to h what firmware hashes of an EFI program: everything
// but the checksum, the certificate directory and the certificates (Windows
// Authenticode Portable Executable Signature Format, "Calculating the PE Image
// Hash"). Errors match ErrFormat.
func Authenticode(image []byte, h hash.Hash) error {
	p, err := parse(image)
	if err != nil {
		return err
	}
	checksum, certificates := p.optional+optionalCheckSum, p.optional+optionalCertificates
	headers := int(p.u32(p.optional + optionalHeadersSize))
	if headers < certificates+8 || headers > len(image) {
		return fmt.Errorf("%w: headers are cut off", ErrFormat)
	}
	h.Write(image[:checksum])
	h.Write(image[checksum+4 : certificates])
	h.Write(image[certificates+8 : headers])

	sections := slices.Clone(p.sections)
	slices.SortStableFunc(sections, func(a, b section) int { return int(a.rawOffset) - int(b.rawOffset) })
	hashed := int64(headers)
	for _, s := range sections {
		h.Write(image[s.rawOffset : s.rawOffset+s.rawSize])
		hashed += int64(s.rawSize)
	}
	// What follows the sections counts too, up to the certificates. Firmware
	// finds it by the sum of what it hashed, not by the last section's end.
	end := int64(len(image)) - int64(p.u32(certificates+4))
	if hashed > end {
		return fmt.Errorf("%w: sections overlap or reach into the certificates", ErrFormat)
	}
	h.Write(image[hashed:end])
	return nil
}

// The head of a certificate in an EFI program, WIN_CERTIFICATE, and the kind
// that ours is of.
const (
	certificateHead     = 8
	certificateAlign    = 8
	certificateRevision = 0x0200
	certificatePKCS7    = 0x0002
)

// Attach returns the program with a signature, PKCS #7 in DER, as its only
// certificate. Errors match ErrFormat.
func Attach(image, signature []byte) ([]byte, error) {
	p, err := parse(image)
	if err != nil {
		return nil, err
	}
	if p.u32(p.optional+optionalCertificates) != 0 || len(image)%certificateAlign != 0 {
		return nil, fmt.Errorf("%w: it has certificates, or no multiple of %d bytes", ErrFormat, certificateAlign)
	}
	if len(signature) == 0 || len(signature) > maxSignature || len(image) > math.MaxInt32/2 {
		return nil, fmt.Errorf("%w: a signature of %d bytes for a program of %d", ErrFormat, len(signature), len(image))
	}
	// Its own length leaves out what fills it up, the directory's does not.
	size := roundUp(uint32(certificateHead+len(signature)), certificateAlign)
	signed := &program{data: slices.Clone(image)}
	signed.data = binary.LittleEndian.AppendUint32(signed.data, uint32(certificateHead+len(signature)))
	signed.data = binary.LittleEndian.AppendUint16(signed.data, certificateRevision)
	signed.data = binary.LittleEndian.AppendUint16(signed.data, certificatePKCS7)
	signed.data = append(signed.data, signature...)
	signed.data = append(signed.data, make([]byte, len(image)+int(size)-len(signed.data))...)
	signed.put32(p.optional+optionalCertificates, uint32(len(image)))
	signed.put32(p.optional+optionalCertificates+4, size)
	return signed.data, nil
}

// maxSignature is far above what a signature by one certificate takes.
const maxSignature = 64 << 10

// Detach returns the program as it was before Attach, and one without
// certificates as it is. Errors match ErrFormat.
func Detach(image []byte) ([]byte, error) {
	p, err := parse(image)
	if err != nil {
		return nil, err
	}
	begin, size := int64(p.u32(p.optional+optionalCertificates)), int64(p.u32(p.optional+optionalCertificates+4))
	if begin == 0 && size == 0 {
		return image, nil
	}
	if begin < int64(p.table) || begin+size != int64(len(image)) {
		return nil, fmt.Errorf("%w: its certificates are not its end", ErrFormat)
	}
	bare := &program{data: slices.Clone(image[:begin])}
	bare.put32(p.optional+optionalCertificates, 0)
	bare.put32(p.optional+optionalCertificates+4, 0)
	_, err = parse(bare.data)
	return bare.data, err
}
