package verifier_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// A report that is refused takes the identity with it: whatever else vouches
// for the key, it stands in something that lies about what it is.
func TestRefusedReportLeavesNoTier(t *testing.T) {
	m, w := onSNP(t)
	p := m.Policy()
	p.SNP = w.Policy()
	p.SNP.MinimumFirmware = &verifier.SNPFirmware{Major: 99}
	r, err := m.Input(t).Appraise(p)
	if err != nil || r.Accepted() || r.Tiers != (attest.Tiers{}) {
		t.Errorf("accepted %v, tiers %+v, error %v", r.Accepted(), r.Tiers, err)
	}
	if cause := r.Finding(attest.InstanceIdentity).Cause; !errors.Is(cause, attest.ErrPlatform) {
		t.Errorf("identity: %v", cause)
	}
}

// A firmware of a later major version is above every minor one of an earlier.
func TestFirmwareOfALaterMajorVersion(t *testing.T) {
	m, w := onSNP(t)
	p := m.Policy()
	p.SNP = w.Policy()
	p.SNP.MinimumFirmware = &verifier.SNPFirmware{Minor: 255}
	if r, err := m.Input(t).Appraise(p); err != nil || !r.Accepted() {
		t.Errorf("accepted %v, error %v: %+v", r.Accepted(), err, r.Finding(attest.Hardware))
	}
}

// One machine may show reports by several chips' keys, each with a table of its
// own.
func TestEachTableOfCertificatesIsKeptApart(t *testing.T) {
	m, w := onSNP(t)
	p := m.Policy()
	p.SNP = w.Policy()
	k := &keeper{t: t, dimension: attest.Hardware}
	for range 2 {
		other := &verifiertest.SNP{Vendor: w.Vendor, Key: w.Vendor.VCEK(nil)}
		m.Reporters = []attester.Reporter{other.Reporter(nil)}
		if err := k.cause(k.verify(m.Input(t)), p); err != nil {
			t.Error(err)
		}
	}
}

// A quote shows the image by itself only where each part of it is pinned.
func TestTDXPinsEachPartOfTheImage(t *testing.T) {
	m, x := verifiertest.Boot(t), verifiertest.NewTDX(t)
	if err := x.Install(m, nil); err != nil {
		t.Fatal(err)
	}
	m.PinSecureBoot()
	in := m.Input(t)
	accept := func(got tdx.Measurement) verifier.TDXMeasurements {
		return verifier.TDXMeasurements{Accepted: []tdx.Measurement{got}}
	}
	for open := range 5 {
		p := m.Policy()
		p.TDX = x.Policy()
		p.TDX.MRTD = accept(x.Report.MRTD)
		for n := range 3 {
			p.TDX.RTMR[n] = accept(x.Report.RTMR[n])
		}
		want := attest.TierSoftware
		switch any := (verifier.TDXMeasurements{Any: true}); open {
		case 3:
			p.TDX.MRTD = any
		case 4:
			want = attest.TierHardware
		default:
			p.TDX.RTMR[open] = any
		}
		r, err := in.Appraise(p)
		if err != nil || !r.Accepted() || r.Tiers.Identity != want {
			t.Errorf("with part %d left open: accepted %v, tiers %+v, error %v", open, r.Accepted(), r.Tiers, err)
		}
	}
}

// In AWS's document too nothing ran before or beside the image.
func TestNitroDocumentShowsNothingBesideTheImage(t *testing.T) {
	m := verifiertest.Boot(t)
	m.PinSecureBoot()
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	p := m.Policy()
	p.Nitro = n.Policy()
	if r, err := m.Input(t).Appraise(p); err != nil || !r.Accepted() {
		t.Fatalf("accepted %v, error %v: %+v", r.Accepted(), err, r.Findings)
	}
	for _, register := range []uint8{2, 3, 4, 9, 11, 12, 13} {
		good := n.Registers[register]
		n.Registers[register] = nitro.Register{1}
		r, err := m.Input(t).Appraise(p)
		cause := r.Finding(attest.Hardware).Cause
		if err != nil || r.Accepted() || !errors.Is(cause, attest.ErrRegisters) || !strings.Contains(fmt.Sprint(cause), fmt.Sprintf("pcr%d", register)) {
			t.Errorf("pcr%d: accepted %v, %v", register, r.Accepted(), cause)
		}
		n.Registers[register] = good
	}
}

// What a document carries is what it must name, all of it and nothing else.
func TestNitroDocumentNamesNothingElse(t *testing.T) {
	m := verifiertest.Boot(t)
	n := verifiertest.NewNitro(t, m)
	for name, change := range map[string]func([]byte) []byte{
		"a byte more": func(b []byte) []byte { return append(b, 0) },
		"a byte less": func(b []byte) []byte { return b[:63] },
		"nothing":     func([]byte) []byte { return nil },
	} {
		n.Install(m, func(d *nitrotest.Draft) { d.Fields["user_data"] = change(d.Fields["user_data"].([]byte)) })
		in := m.Input(t)
		if _, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel); !errors.Is(err, attest.ErrBinding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A release whose value of a register is longer than a digest fixes nothing.
func TestReleaseWithALongDigest(t *testing.T) {
	m := verifiertest.Boot(t)
	m.Release.Boots[0].SHA256["4"] += "00"
	r, err := m.Input(t).Appraise(m.Policy())
	if err != nil || r.Accepted() || !errors.Is(r.Finding(attest.Executables).Cause, attest.ErrRelease) {
		t.Errorf("accepted %v, error %v", r.Accepted(), err)
	}
}

// An authority whose word is worth nothing said is an error, not an authority.
func TestTrustAnchorWithoutATier(t *testing.T) {
	m := verifiertest.Boot(t)
	p := m.Policy()
	p.TrustAnchors = append(p.TrustAnchors, verifier.TrustAnchor{Certificate: m.Device.Root})
	if _, err := m.Input(t).Appraise(p); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("error %v, want %v", err, attest.ErrPolicy)
	}
}

// An endorsement key that its maker revoked is refused by its maker's word,
// and no report makes up for it; what one policy's own list says is kept for no
// other.
func TestRevokedEndorsementKey(t *testing.T) {
	m := verifiertest.Boot(t)
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	m.PinSecureBoot()
	made, err := x509.ParseCertificate(m.TPM.EKCertificate())
	if err != nil {
		t.Fatal(err)
	}
	maker := chaintest.Root(t, "maker", chaintest.P256(t), nil)
	again := maker.Leaf("ek", made.PublicKey, func(c *x509.Certificate) {
		c.KeyUsage, c.ExtKeyUsage, c.UnknownExtKeyUsage = made.KeyUsage, made.ExtKeyUsage, made.UnknownExtKeyUsage
		c.NotBefore, c.NotAfter = made.NotBefore, made.NotBefore.AddDate(5, 0, 0)
	})
	m.Endorsements.EKCertificate = again.Raw
	k := &keeper{t: t, dimension: attest.InstanceIdentity}
	good := func() verifier.Policy {
		p := m.Policy()
		p.TrustAnchors = []verifier.TrustAnchor{{Certificate: maker.Certificate, Tier: attest.TierSoftware}}
		p.Nitro = n.Policy()
		return p
	}
	k.holds(k.verify(m.Input(t)), good, map[string]other{
		"a list of the policy's": {func(p *verifier.Policy) { p.RevocationLists = []*chain.List{maker.Parsed(nil, again)} }, attest.ErrRevoked},
	})
	m.Endorsements.RevocationLists = [][]byte{maker.List(past)}
	graceful := func() verifier.Policy {
		p := good()
		p.EKRevocation, p.Grace = chain.Required, grace
		p.Nitro = nil
		p.ReportsNotJudged = true
		return p
	}
	k.holds(k.verify(m.Input(t)), graceful, map[string]other{
		"no grace": {func(p *verifier.Policy) { p.Grace = 0 }, attest.ErrCollateral},
	})
	m.Endorsements.RevocationLists = [][]byte{maker.List(nil, again)}
	if err := k.cause(k.verify(m.Input(t)), good()); !errors.Is(err, attest.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
}
