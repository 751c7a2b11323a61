package snp

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
)

// arc is AMD's arc of the extensions of a VCEK or VLEK (AMD 57230, tables of their
// extensions). 3 holds the security versions, of which 4 to 7 are reserved.
var arc = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// The extensions below arc.
var (
	extProduct    = []int{2}
	extBootloader = []int{3, 1}
	extTEE        = []int{3, 2}
	extSNP        = []int{3, 3}
	extMicrocode  = []int{3, 8}
	extFMC        = []int{3, 9}
	extHWID       = []int{4}
	extCSP        = []int{5}
)

// extensions are what a leaf says of the platform that holds its key.
type extensions struct {
	product string
	tcb     TCB
	hwid    []byte // nil on a VLEK
	csp     string // empty on a VCEK
}

// reader takes the extensions of one certificate and keeps the first error.
type reader struct {
	certificate *x509.Certificate
	err         error
}

func readExtensions(c *x509.Certificate, l Layout) (*extensions, error) {
	r := &reader{certificate: c}
	e := &extensions{product: r.text(extProduct, "product")}
	e.tcb = TCB{
		Bootloader: r.version(extBootloader, "bootloader"), TEE: r.version(extTEE, "tee"),
		SNP: r.version(extSNP, "snp"), Microcode: r.version(extMicrocode, "microcode"),
	}
	if fmc := r.find(extFMC) != nil; fmc != (l == LayoutTurin) {
		r.fail("has an fmc version: %t, the product line: %t", fmc, !fmc)
	} else if fmc {
		e.tcb.FMC = r.version(extFMC, "fmc")
	}
	for reserved := 4; reserved <= 7; reserved++ {
		id := []int{3, reserved}
		if r.find(id) != nil && r.version(id, "reserved") != 0 {
			r.fail("has a reserved version %d that is not zero", reserved)
		}
	}
	if r.find(extCSP) != nil {
		e.csp = r.text(extCSP, "csp id")
	}
	if v := r.find(extHWID); v != nil {
		e.hwid = r.hwid(v, l.chipID())
	}
	return e, r.err
}

// kind tells a VCEK's marks from a VLEK's. All of them must agree: the
// subject, who issued it, and which of HWID and CSP_ID it has.
func (e *extensions) kind(c *x509.Certificate, product string) (Signer, error) {
	subject, issuer := c.Subject.CommonName, c.Issuer.CommonName
	switch {
	case subject == "SEV-VCEK" && issuer == "SEV-"+product && e.hwid != nil && e.csp == "":
		return VCEK, nil
	case subject == "SEV-VLEK" && issuer == "SEV-VLEK-"+product && e.hwid == nil && e.csp != "":
		return VLEK, nil
	}
	return 0, fmt.Errorf("%w: %q of %q (hwid: %t, csp id: %t) is neither a VCEK nor a VLEK of %s",
		attest.ErrIdentity, subject, issuer, e.hwid != nil, e.csp != "", product)
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: endorsement certificate %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
	}
}

// find is the value of an extension, nil where there is none. crypto/x509
// refuses a certificate that has one twice.
func (r *reader) find(below []int) []byte {
	id := slices.Concat(arc, below)
	for _, e := range r.certificate.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}

func (r *reader) version(below []int, name string) uint8 {
	var v int
	rest, err := asn1.Unmarshal(r.find(below), &v)
	if err != nil || len(rest) > 0 || v < 0 || v > 255 {
		r.fail("has no %s version of 0 to 255", name)
		return 0
	}
	return uint8(v)
}

func (r *reader) text(below []int, name string) string {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(r.find(below), &v)
	const longest = 64
	if err != nil || len(rest) > 0 || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagIA5String ||
		len(v.Bytes) == 0 || len(v.Bytes) > longest {
		r.fail("has no %s of 1 to %d characters", name, longest)
		return ""
	}
	return string(v.Bytes)
}

// hwid reads the chip's id, which AMD writes without a DER header; one with a
// header can't be mistaken for it, since it is longer.
func (r *reader) hwid(v []byte, size int) []byte {
	if len(v) == size {
		return v
	}
	var octets []byte
	if rest, err := asn1.Unmarshal(v, &octets); err == nil && len(rest) == 0 && len(octets) == size {
		return octets
	}
	r.fail("has a hwid that is not of %d bytes", size)
	return nil
}
