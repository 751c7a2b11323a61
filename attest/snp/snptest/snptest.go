// Package snptest stands in for AMD and its processors in tests: it draws
// roots and endorsement keys, and signs reports that are laid out as real ones.
//
// Invariants: nothing that ships imports it, and no root drawn here is an
// anchor anywhere but in the test that drew it. What it makes is synthetic.
package snptest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/snp"
)

// Now is when everything drawn here is valid.
var Now = chaintest.Now

// Vendor is a stand-in for AMD in one product line: RSA-2048 where AMD has
// RSA-4096.
type Vendor struct {
	tb             testing.TB
	Product        string
	Layout         snp.Layout
	ARK, ASK, ASVK *chaintest.Authority
}

// Draw draws a vendor of "Milan", "Genoa" or "Turin".
func Draw(tb testing.TB, product string) *Vendor {
	tb.Helper()
	v := &Vendor{tb: tb, Product: product, Layout: snp.LayoutMilan}
	if product == "Turin" {
		v.Layout = snp.LayoutTurin
	}
	v.ARK = chaintest.Root(tb, "", key(tb), v.name("ARK-"+product, "https://kdsintf.amd.com/vcek/v1/"+product+"/crl"))
	v.ASK = v.ARK.Authority("", key(tb), v.name("SEV-"+product, "https://kdsintf.amd.com/vcek/v1/"+product+"/crl"))
	v.ASVK = v.ARK.Authority("", key(tb), v.name("SEV-VLEK-"+product, "https://kdsintf.amd.com/vlek/v1/"+product+"/crl"))
	return v
}

// Anchor is the vendor as a policy accepts it, without any authority.
func (v *Vendor) Anchor() snp.Anchor {
	return snp.Anchor{Product: v.Product, Layout: v.Layout, Root: v.ARK.Certificate}
}

// Revocations are the root's list, fresh, naming the given certificates.
func (v *Vendor) Revocations(revoked ...*x509.Certificate) chain.Revocations {
	v.tb.Helper()
	return chain.Revocations{Treatment: chain.RequiredOfRoot, Lists: []*chain.List{v.ARK.Parsed(nil, revoked...)}}
}

// HWID is the chip id that VCEK puts in where it is given none.
var HWID = [64]byte{0x5e, 0xed, 3, 4, 5, 6, 7, 8}

// TCB is the level of everything drawn here.
func (v *Vendor) TCB() snp.TCB {
	t := snp.TCB{Bootloader: 4, TEE: 1, SNP: 24, Microcode: 219}
	if v.Layout == snp.LayoutTurin {
		t.FMC = 2
	}
	return t
}

// Key is an endorsement key with its certificate and the authority above it.
type Key struct {
	vendor      *Vendor
	Kind        snp.Signer
	Key         *ecdsa.PrivateKey
	Certificate *x509.Certificate
	Authority   *x509.Certificate
}

// VCEK draws the key of a chip with id HWID at TCB. edit, which may be nil, changes
// the certificate.
func (v *Vendor) VCEK(edit func(*x509.Certificate)) *Key {
	v.tb.Helper()
	hwid := HWID[:]
	if v.Layout == snp.LayoutTurin {
		hwid = hwid[:8]
	}
	return v.key(snp.VCEK, v.ASK, Extension([]int{4}, hwid), v.Product+"-B0", edit)
}

// VLEK draws the key of a provider at TCB. edit, which may be nil, changes the
// certificate.
func (v *Vendor) VLEK(edit func(*x509.Certificate)) *Key {
	v.tb.Helper()
	return v.key(snp.VLEK, v.ASVK, Extension([]int{5}, marshal(v.tb, "Example Cloud", "ia5")), v.Product, edit)
}

func (v *Vendor) key(kind snp.Signer, authority *chaintest.Authority, own pkix.Extension, part string, edit func(*x509.Certificate)) *Key {
	v.tb.Helper()
	k := &Key{vendor: v, Kind: kind, Key: chaintest.P384(v.tb), Authority: authority.Certificate}
	name := v.name("SEV-"+kind.String(), "")
	k.Certificate = authority.Leaf("", k.Key.Public(), func(c *x509.Certificate) {
		name(c)
		c.KeyUsage = 0
		c.ExtraExtensions = append(v.extensions(part), own)
		if edit != nil {
			edit(c)
		}
	})
	return k
}

// extensions are those of a VCEK or VLEK at TCB (AMD 57230).
func (v *Vendor) extensions(part string) []pkix.Extension {
	number := func(n uint8) []byte { return marshal(v.tb, int(n), "") }
	t := v.TCB()
	version, fourth := uint8(0), Extension([]int{3, 4}, number(0))
	if v.Layout == snp.LayoutTurin {
		version, fourth = 1, Extension([]int{3, 9}, number(t.FMC))
	}
	return []pkix.Extension{
		Extension([]int{1}, number(version)),
		Extension([]int{2}, marshal(v.tb, part, "ia5")),
		Extension([]int{3, 1}, number(t.Bootloader)),
		Extension([]int{3, 2}, number(t.TEE)),
		fourth,
		Extension([]int{3, 5}, number(0)),
		Extension([]int{3, 6}, number(0)),
		Extension([]int{3, 7}, number(0)),
		Extension([]int{3, 3}, number(t.SNP)),
		Extension([]int{3, 8}, number(t.Microcode)),
	}
}

// Extension is one of AMD's, below 1.3.6.1.4.1.3704.1.
func Extension(below []int, value []byte) pkix.Extension {
	return pkix.Extension{Id: slices.Concat(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, below), Value: value}
}

// Replace exchanges one of the extensions, or takes it out where value is nil.
func Replace(c *x509.Certificate, below []int, value []byte) {
	e := Extension(below, value)
	c.ExtraExtensions = slices.DeleteFunc(c.ExtraExtensions, func(o pkix.Extension) bool { return o.Id.Equal(e.Id) })
	if value != nil {
		c.ExtraExtensions = append(c.ExtraExtensions, e)
	}
}

// Report is a signed report of a good guest: version 3, VMPL 0, no debugging. edit,
// which may be nil, changes any field before it is signed.
func (k *Key) Report(edit func(*snp.Report)) []byte {
	k.vendor.tb.Helper()
	tcb := Raw(k.vendor.TCB(), k.vendor.Layout)
	r := snp.Report{
		Version: 3, Policy: 1<<17 | snp.PolicySMT, Signer: k.Kind, CPUID: &snp.CPUID{Family: 0x19, Model: 0x01, Stepping: 1},
		CurrentTCB: tcb, ReportedTCB: tcb, CommittedTCB: tcb, LaunchTCB: tcb,
		Current: snp.Version{Major: 1, Minor: 55, Build: 22}, Committed: snp.Version{Major: 1, Minor: 55, Build: 22},
		PlatformInfo: snp.PlatformSMT | snp.PlatformECC, Measurement: [48]byte{0xaa}, ReportID: [32]byte{1},
	}
	for i := range r.ReportIDMA {
		r.ReportIDMA[i] = 0xff
	}
	copy(r.ChipID[:], HWID[:])
	if k.vendor.Layout == snp.LayoutTurin {
		clear(r.ChipID[8:])
		r.CPUID.Family, r.CPUID.Model = 0x1a, 0x02
	}
	if edit != nil {
		edit(&r)
	}
	return k.Sign(Encode(r))
}

// Sign signs the bytes of a report in place, whatever they say, and returns
// them.
func (k *Key) Sign(report []byte) []byte {
	k.vendor.tb.Helper()
	digest := sha512.Sum384(report[:0x2a0])
	r, s, err := ecdsa.Sign(rand.Reader, k.Key, digest[:])
	if err != nil {
		k.vendor.tb.Fatal(err)
	}
	component := report[0x2a0:0x330]
	r.FillBytes(component[:72])
	s.FillBytes(component[72:])
	slices.Reverse(component[:72])
	slices.Reverse(component[72:])
	return report
}

// Raw is a TCB_VERSION in a layout.
func Raw(t snp.TCB, l snp.Layout) snp.RawTCB {
	b := [8]byte{t.Bootloader, t.TEE, 6: t.SNP, 7: t.Microcode}
	if l == snp.LayoutTurin {
		b = [8]byte{t.FMC, t.Bootloader, t.TEE, t.SNP, 7: t.Microcode}
	}
	return snp.RawTCB(binary.LittleEndian.Uint64(b[:]))
}

// Encode lays a report out without a signature (AMD 56860, ATTESTATION_REPORT).
func Encode(r snp.Report) []byte {
	b := make([]byte, snp.ReportSize)
	word := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	long := func(at int, v uint64) { binary.LittleEndian.PutUint64(b[at:], v) }
	word(0x0, r.Version)
	word(0x4, r.GuestSVN)
	long(0x8, uint64(r.Policy))
	copy(b[0x10:], r.FamilyID[:])
	copy(b[0x20:], r.ImageID[:])
	word(0x30, r.VMPL)
	word(0x34, 1)
	long(0x38, uint64(r.CurrentTCB))
	long(0x40, uint64(r.PlatformInfo))
	word(0x48, flag(r.AuthorKey)|flag(r.MaskChipKey)<<1|uint32(r.Signer)<<2)
	copy(b[0x50:], r.ReportData[:])
	copy(b[0x90:], r.Measurement[:])
	copy(b[0xc0:], r.HostData[:])
	copy(b[0xe0:], r.IDKeyDigest[:])
	copy(b[0x110:], r.AuthorKeyDigest[:])
	copy(b[0x140:], r.ReportID[:])
	copy(b[0x160:], r.ReportIDMA[:])
	long(0x180, uint64(r.ReportedTCB))
	if r.CPUID != nil && r.Version >= 3 {
		copy(b[0x188:], []byte{r.CPUID.Family, r.CPUID.Model, r.CPUID.Stepping})
	}
	copy(b[0x1a0:], r.ChipID[:])
	long(0x1e0, uint64(r.CommittedTCB))
	copy(b[0x1e8:], []byte{r.Current.Build, r.Current.Minor, r.Current.Major})
	copy(b[0x1ec:], []byte{r.Committed.Build, r.Committed.Minor, r.Committed.Major})
	long(0x1f0, uint64(r.LaunchTCB))
	long(0x1f8, r.LaunchMitigations)
	long(0x200, r.CurrentMitigations)
	return b
}

// Table is a certificate table (AMD 56421) of a key, its authority and its
// root.
func (k *Key) Table() []byte {
	guid := "\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd"
	if k.Kind == snp.VLEK {
		guid = "\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1"
	}
	blobs := []struct {
		guid string
		der  []byte
	}{
		{guid, k.Certificate.Raw},
		{"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82", k.Authority.Raw},
		{"\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae", k.vendor.ARK.Certificate.Raw},
	}
	var head, body []byte
	for _, blob := range blobs {
		head = append(head, blob.guid...)
		head = binary.LittleEndian.AppendUint32(head, uint32((len(blobs)+1)*24+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(blob.der)))
		body = append(body, blob.der...)
	}
	return slices.Concat(head, make([]byte, 24), body)
}

func flag(set bool) uint32 {
	if set {
		return 1
	}
	return 0
}

// name gives a certificate the subject that AMD's have, and where to find the
// revocation list.
func (v *Vendor) name(common, list string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{
			CommonName: common, Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
			Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
		}
		if list != "" {
			c.CRLDistributionPoints = []string{list}
		}
	}
}

func key(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func marshal(tb testing.TB, v any, params string) []byte {
	tb.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}
