package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/toolshed-cloud/shed/attest"
)

// FMSPC names a kind of platform: family, model, stepping and Intel's own.
type FMSPC [6]byte

func (f FMSPC) String() string { return hex.EncodeToString(f[:]) }

// PCK is what Intel certifies of one platform (Intel SGX PCK Certificate and
// Certificate Revocation List Profile Specification, section 1.3.5).
type PCK struct {
	// PPID names the platform, encrypted to Intel; the same at every boot.
	PPID  [16]byte
	FMSPC FMSPC
	// PCEID and PCESVN are the provisioning enclave's kind and version.
	PCEID  [2]byte
	PCESVN uint16
	// CPUSVN is the processor's version, of which Components are the parts.
	CPUSVN     [16]byte
	Components [16]uint8

	key *ecdsa.PublicKey
}

// The object identifiers of the SGX extension, of which the fields are the
// last arc.
var (
	oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	oidTCB = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 2}
)

// The fields of the extension and of its TCB.
const (
	fieldPPID, fieldTCB, fieldPCEID, fieldFMSPC = 1, 2, 3, 4
	fieldLast                                   = 7
	fieldPCESVN, fieldCPUSVN                    = 17, 18
)

// parsePCK reads the extension of a platform's certificate, whose path the
// caller has verified. The error is attest.ErrIdentity for a certificate of
// another kind, else attest.ErrMalformed.
func parsePCK(cert *x509.Certificate) (*PCK, error) {
	key, err := p256("pck certificate", cert)
	if err != nil {
		return nil, err
	}
	var extension []byte
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSGX) {
			extension = e.Value
		}
	}
	if extension == nil {
		return nil, fmt.Errorf("%w: pck certificate has no sgx extension", attest.ErrIdentity)
	}
	p, err := parseExtension(extension)
	if err != nil {
		return nil, err
	}
	p.key = key
	return p, nil
}

// parseExtension reads the SGX extension, DER. Of its fields those that are not
// read here describe the platform's make and decide nothing.
func parseExtension(extension []byte) (*PCK, error) {
	p := new(PCK)
	fields, err := readFields(extension, oidSGX, fieldLast)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		arc int
		dst []byte
	}{{fieldPPID, p.PPID[:]}, {fieldPCEID, p.PCEID[:]}, {fieldFMSPC, p.FMSPC[:]}} {
		if err := fields.octets(f.arc, f.dst); err != nil {
			return nil, err
		}
	}
	return p, p.readTCB(fields[fieldTCB].FullBytes)
}

func (p *PCK) readTCB(der []byte) error {
	fields, err := readFields(der, oidTCB, fieldCPUSVN)
	if err != nil {
		return err
	}
	for i := range p.Components {
		svn, err := fields.number(i+1, math.MaxUint8)
		if err != nil {
			return err
		}
		p.Components[i] = uint8(svn)
	}
	pcesvn, err := fields.number(fieldPCESVN, math.MaxUint16)
	if err != nil {
		return err
	}
	p.PCESVN = uint16(pcesvn)
	return fields.octets(fieldCPUSVN, p.CPUSVN[:])
}

// p256 is the certificate's key: Intel signs with no other curve here.
func p256(name string, cert *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: key of %s is not on P-256", attest.ErrIdentity, name)
	}
	return key, nil
}

// sgxFields are the fields of a sequence of the extension, by the last arc of
// their object identifiers.
type sgxFields map[int]asn1.RawValue

func readFields(der []byte, prefix asn1.ObjectIdentifier, last int) (sgxFields, error) {
	var list []struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%w: sgx extension of pck certificate: %w", attest.ErrMalformed, orTrailing(err))
	}
	fields := make(sgxFields, len(list))
	for _, f := range list {
		n := len(prefix)
		if len(f.ID) != n+1 || !f.ID[:n].Equal(prefix) || f.ID[n] < 1 || f.ID[n] > last {
			return nil, fmt.Errorf("%w: sgx extension of pck certificate has unknown field %s", attest.ErrMalformed, f.ID)
		}
		if _, twice := fields[f.ID[n]]; twice {
			return nil, fmt.Errorf("%w: sgx extension of pck certificate has field %s twice", attest.ErrMalformed, f.ID)
		}
		fields[f.ID[n]] = f.Value
	}
	return fields, nil
}

var errTrailing = errors.New("something follows it")

func orTrailing(err error) error {
	if err == nil {
		return errTrailing
	}
	return err
}

func (f sgxFields) octets(arc int, dst []byte) error {
	var b []byte
	rest, err := asn1.Unmarshal(f[arc].FullBytes, &b)
	if err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: field %d of pck certificate's sgx extension: %w", attest.ErrMalformed, arc, orTrailing(err))
	}
	if len(b) != len(dst) {
		return fmt.Errorf("%w: field %d of pck certificate's sgx extension has %d bytes, want %d", attest.ErrMalformed, arc, len(b), len(dst))
	}
	copy(dst, b)
	return nil
}

func (f sgxFields) number(arc, most int) (int, error) {
	var n int
	rest, err := asn1.Unmarshal(f[arc].FullBytes, &n)
	if err != nil || len(rest) > 0 {
		return 0, fmt.Errorf("%w: field %d of pck certificate's sgx extension: %w", attest.ErrMalformed, arc, orTrailing(err))
	}
	if n < 0 || n > most {
		return 0, fmt.Errorf("%w: field %d of pck certificate's sgx extension is %d, want 0 to %d", attest.ErrMalformed, arc, n, most)
	}
	return n, nil
}
