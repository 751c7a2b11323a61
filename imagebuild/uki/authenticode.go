package uki

import (
	"fmt"
	"hash"
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
