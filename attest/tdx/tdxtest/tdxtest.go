// Package tdxtest draws a root of its own with everything below it that Intel
// has, and signs TDX quotes and collateral laid out as real ones. All of it is
// synthetic.
//
// Invariants: nothing that ships imports it; each key lives in the test that
// drew it alone; what is signed is what the test set, so that two quotes differ
// in the field that a test names and in nothing else.
package tdxtest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// Now is the time that everything drawn here is valid at by default.
var Now = chaintest.Now

// Platform is a machine with what vouches for it. Its fields may be set before
// a quote or collateral is made; the certificates are made when first needed.
type Platform struct {
	tb testing.TB
	// PCK is what the platform's certificate says of it.
	PCK tdx.PCK
	// Report and QE are what its TDX module and its quoting enclave report,
	// the report data of either aside.
	Report tdx.Report
	QE     tdx.QEReport
	// TCBInfo and QEIdentity are the statements about it.
	TCBInfo    tdx.TCBInfo
	QEIdentity tdx.QEIdentity
	// EditPCK, EditCA, EditSigning and EditList change a certificate, or both
	// revocation lists, before they are signed; each may be nil.
	EditPCK, EditCA, EditSigning func(*x509.Certificate)
	EditList                     func(*x509.RevocationList)
	// RevokePCK, RevokeCA and RevokeSigning put a certificate on its issuer's
	// list.
	RevokePCK, RevokeCA, RevokeSigning bool

	root, ca, signing *chaintest.Authority
	pck               *x509.Certificate
	pckKey, qeKey     *ecdsa.PrivateKey
}

// Draw draws a platform that is up to date, with version 5 of TDX module 1, and
// nothing wrong with it.
func Draw(tb testing.TB) *Platform {
	tb.Helper()
	p := &Platform{
		tb: tb, root: chaintest.Root(tb, "Intel SGX Root CA", chaintest.P256(tb), nil),
		pckKey: chaintest.P256(tb), qeKey: chaintest.P256(tb),
	}
	p.PCK = tdx.PCK{
		PPID: [16]byte{1}, FMSPC: tdx.FMSPC{0x00, 0x80, 0x6f, 0x05}, PCESVN: 13,
		CPUSVN: [16]byte{7, 7, 2, 2, 3, 1, 0, 3}, Components: [16]uint8{7, 7, 2, 2, 3, 1, 0, 3},
	}
	p.Report = tdx.Report{
		Kind: tdx.TD15, TEETCBSVN: [16]byte{5, 1, 7}, TEETCBSVN2: [16]byte{5, 1, 7},
		MRSEAM: tdx.Measurement{0x5e}, TDAttributes: tdx.AttributeSEPTVEDisable, XFAM: 0x600e7,
		MRTD: tdx.Measurement{0x70}, RTMR: [4]tdx.Measurement{{0xa0}, {0xa1}, {0xa2}, {0xa3}},
	}
	p.QE = tdx.QEReport{Attributes: [16]byte{0x15, 8: 0xe7}, MRSIGNER: [32]byte{0xdc}, ISVPRODID: 2, ISVSVN: 6}
	p.TCBInfo = tcbInfo(p)
	p.QEIdentity = qeIdentity(p)
	return p
}

// window is around Now.
func window() tdx.Window {
	return tdx.Window{IssueDate: Now.Add(-time.Hour), NextUpdate: Now.Add(time.Hour)}
}

// tcbInfo rates the platform's very versions, and older ones of each part.
func tcbInfo(p *Platform) tdx.TCBInfo {
	current, old := Now.AddDate(0, -6, 0), Now.AddDate(-2, 0, 0)
	level := tdx.PlatformLevel{
		SGX: p.PCK.Components, PCESVN: p.PCK.PCESVN, TDX: [16]uint8{3, 0, 7}, Date: current, Status: tdx.UpToDate,
	}
	older := level
	older.SGX[0], older.PCESVN, older.TDX[2] = 5, 5, 5
	older.Date, older.Status, older.Advisories = old, tdx.OutOfDate, []string{"INTEL-SA-00001"}
	return tdx.TCBInfo{
		Window: window(), FMSPC: p.PCK.FMSPC, PCEID: p.PCK.PCEID, EvaluationDataNumber: 17,
		Module: tdx.ModuleIdentity{AttributesMask: ones()},
		Modules: map[uint8]tdx.ModuleIdentity{1: {AttributesMask: ones(), Levels: []tdx.SVNLevel{
			{ISVSVN: 5, Date: current, Status: tdx.UpToDate},
			{ISVSVN: 2, Date: old, Status: tdx.OutOfDate, Advisories: []string{"INTEL-SA-00002"}},
		}}},
		Levels: []tdx.PlatformLevel{level, older},
	}
}

func qeIdentity(p *Platform) tdx.QEIdentity {
	mask := [16]byte{0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return tdx.QEIdentity{
		Window: window(), EvaluationDataNumber: 17, MiscSelectMask: 0xffffffff,
		Attributes: [16]byte{0x11}, AttributesMask: mask, MRSIGNER: p.QE.MRSIGNER, ISVPRODID: p.QE.ISVPRODID,
		Levels: []tdx.SVNLevel{
			{ISVSVN: 6, Date: Now.AddDate(0, -6, 0), Status: tdx.UpToDate},
			{ISVSVN: 4, Date: Now.AddDate(-2, 0, 0), Status: tdx.OutOfDate, Advisories: []string{"INTEL-SA-00003"}},
		},
	}
}

func ones() [8]byte { return [8]byte(slices.Repeat([]byte{0xff}, 8)) }

// Roots are the platform's root, as a test pins it.
func (p *Platform) Roots() []*x509.Certificate { return []*x509.Certificate{p.root.Certificate} }

// Terms are the root, no grace, and Now.
func (p *Platform) Terms() tdx.Terms { return tdx.Terms{Roots: p.Roots(), At: Now} }

// certify makes the certificates, once.
func (p *Platform) certify() {
	if p.pck != nil {
		return
	}
	p.tb.Helper()
	p.ca = p.root.Authority("Intel SGX PCK Platform CA", chaintest.P256(p.tb), p.EditCA)
	p.pck = p.ca.Leaf("Intel SGX PCK Certificate", p.pckKey.Public(), func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, sgxExtension(p.tb, &p.PCK))
		if p.EditPCK != nil {
			p.EditPCK(c)
		}
	})
	key := chaintest.P256(p.tb)
	p.signing = &chaintest.Authority{Key: key, Certificate: p.root.Leaf("Intel SGX TCB Signing", key.Public(), p.EditSigning)}
}

// Chain is the platform's certificates in PEM, leaf first, as a quote has them.
func (p *Platform) Chain() []byte {
	p.tb.Helper()
	p.certify()
	return encode(p.pck, p.ca.Certificate, p.root.Certificate)
}

func encode(certificates ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// Endorsement is everything above, verified at Now.
func (p *Platform) Endorsement() *tdx.Endorsement {
	p.tb.Helper()
	e, err := tdx.VerifyEndorsement(p.Chain(), p.Collateral(), p.Terms())
	if err != nil {
		p.tb.Fatal(err)
	}
	return e
}
