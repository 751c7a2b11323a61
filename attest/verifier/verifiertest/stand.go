package verifiertest

import (
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"strconv"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// reporter stands in for a processor: it signs what it is given.
type reporter func(data [64]byte) evidence.Report

var _ attester.Reporter = reporter(nil)

func (r reporter) Report(data [64]byte) (evidence.Report, error) { return r(data), nil }

// SNP stands in for AMD, with a processor of its own. Synthetic.
type SNP struct {
	Vendor *snptest.Vendor
	Key    *snptest.Key
	// Revoked are on the root's list.
	Revoked []*x509.Certificate
}

// NewSNP draws a vendor of a product line and the key of a chip.
func NewSNP(t testing.TB, product string) *SNP {
	v := snptest.Draw(t, product)
	return &SNP{Vendor: v, Key: v.VCEK(nil)}
}

// Install has the machine show reports of this processor, edited before they
// are signed; edit may be nil.
func (s *SNP) Install(m *Machine, edit func(*snp.Report)) {
	m.Endorsements.RevocationLists = [][]byte{s.Vendor.ARK.List(nil, s.Revoked...)}
	m.Reporters = []attester.Reporter{s.Reporter(edit)}
}

// Reporter makes reports of this processor; edit may be nil.
func (s *SNP) Reporter(edit func(*snp.Report)) attester.Reporter {
	return reporter(func(data [64]byte) evidence.Report {
		report := s.Key.Report(func(r *snp.Report) {
			r.ReportData = data
			if edit != nil {
				edit(r)
			}
		})
		return evidence.Report{Kind: evidence.KindSNP, Certificates: s.Key.Table(), Report: report}
	})
}

// Policy accepts this vendor's processors at their level, whatever was
// launched on them.
func (s *SNP) Policy() *verifier.SNPPolicy {
	tcb := s.Vendor.TCB()
	floor := verifier.SNPFloor{Bootloader: &tcb.Bootloader, TEE: &tcb.TEE, SNP: &tcb.SNP, Microcode: &tcb.Microcode, FMC: &tcb.FMC}
	return &verifier.SNPPolicy{
		Anchors: []snp.Anchor{s.Vendor.Anchor()}, Revocation: chain.RequiredOfRoot,
		Floors:          map[string]verifier.SNPFloor{s.Vendor.Product: floor},
		MinimumFirmware: &verifier.SNPFirmware{Major: 1, Minor: 55},
		Required:        new(snp.GuestPolicy(0)), Permitted: new(snp.PolicySMT), Platform: new(snp.PlatformInfo(0)),
		AllowVLEK: new(false), AllowMaskedChip: new(false), AcceptAnyMeasurement: true,
	}
}

// TDX stands in for Intel, with a platform of its own. Synthetic.
type TDX struct{ *tdxtest.Platform }

// NewTDX draws a platform that is up to date.
func NewTDX(t testing.TB) *TDX { return &TDX{tdxtest.Draw(t)} }

// Install has the machine show quotes of this platform, edited before they are
// signed; edit may be nil. Errors are those of encoding.
func (x *TDX) Install(m *Machine, edit func(*tdxtest.Draft)) error {
	collateral, err := x.Collateral().Encode()
	m.Endorsements.TDX = collateral
	m.Reporters = []attester.Reporter{reporter(func(data [64]byte) evidence.Report {
		return evidence.Report{Kind: evidence.KindTDX, Report: x.Quote(data, edit)}
	})}
	return err
}

// Policy accepts this platform as it is rated, whatever was launched on it.
func (x *TDX) Policy() *verifier.TDXPolicy {
	any := verifier.TDXMeasurements{Any: true}
	return &verifier.TDXPolicy{
		Roots: x.Roots(), Grace: new(chain.MaxGrace), Statuses: []tdx.Status{tdx.UpToDate}, MinimumEvaluation: 1,
		Attributes: &verifier.TDXBits{Allowed: ^tdx.AttributesUntrusted}, XFAM: &verifier.TDXBits{Allowed: ^uint64(0)},
		MRSEAM: any, MRTD: any, RTMR: [4]verifier.TDXMeasurements{any, any, any, any}, Owner: any, ServiceTD: any,
	}
}

// Nitro stands in for AWS, with a machine that has a NitroTPM. Synthetic.
type Nitro struct{ *nitrotest.Machine }

// NewNitro draws a machine whose documents show the registers of a boot of m's
// release.
func NewNitro(t testing.TB, m *Machine) *Nitro {
	n := &Nitro{nitrotest.Draw(t, nil)}
	n.Registers = map[uint8]nitro.Register{}
	separator := sha512.Sum384(make([]byte, 4))
	closed := nitro.Register(sha512.Sum384(append(make([]byte, 48), separator[:]...)))
	for r := range uint8(16) {
		n.Registers[r] = nitro.Register{}
	}
	n.Registers[2], n.Registers[3] = closed, closed
	m.Release.Boots[0].SHA384 = map[string]string{}
	for _, r := range []uint8{4, 9, 11} {
		n.Registers[r] = nitro.Register{r, 0xaa}
		value := n.Registers[r]
		m.Release.Boots[0].SHA384[strconv.Itoa(int(r))] = hex.EncodeToString(value[:])
	}
	return n
}

// Install has the machine show documents, edited before they are signed; edit
// may be nil.
func (n *Nitro) Install(m *Machine, edit func(*nitrotest.Draft)) {
	m.Reporters = []attester.Reporter{reporter(func(data [64]byte) evidence.Report {
		return evidence.Report{Kind: evidence.KindNitroTPM, Report: n.Document(nil, data[:], nil, edit)}
	})}
}

// Policy accepts this authority's documents.
func (n *Nitro) Policy() *verifier.NitroPolicy {
	return &verifier.NitroPolicy{Roots: n.Terms().Roots, MaxAge: time.Hour}
}
