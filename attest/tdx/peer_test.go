package tdx_test

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/google/go-tdx-guest/pcs"
	tdxtesting "github.com/google/go-tdx-guest/testing"
	peer "github.com/google/go-tdx-guest/verify"

	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
)

// peerVerify has go-tdx-guest verify the same quote with the same collateral.
func peerVerify(p *tdxtest.Platform, raw []byte) error {
	c := p.Collateral()
	roots := x509.NewCertPool()
	for _, r := range p.Roots() {
		roots.AddCert(r)
	}
	answer := func(header string, issuers, body []byte) tdxtesting.HTTPResponse {
		return tdxtesting.HTTPResponse{Header: map[string][]string{header: {url.QueryEscape(string(issuers))}}, Body: body}
	}
	return peer.RawTdxQuote(raw, &peer.Options{
		GetCollateral: true, TrustedRoots: roots,
		Now: &peer.TimeSet{
			PckCertChain: tdxtest.Now, TcbInfo: tdxtest.Now, QeIdentity: tdxtest.Now, PckCrl: tdxtest.Now, RootCaCrl: tdxtest.Now,
		},
		Getter: &tdxtesting.Getter{Responses: map[string]tdxtesting.HTTPResponse{
			pcs.TcbInfoURL(p.PCK.FMSPC.String()): answer(pcs.TcbInfoIssuerChainPhrase, c.TCBInfoChain, c.TCBInfo),
			pcs.QeIdentityURL():                  answer(pcs.SgxQeIdentityIssuerChainPhrase, c.QEIdentityChain, c.QEIdentity),
		}},
	})
}

// asIntel has a certificate bear the extensions that go-tdx-guest counts.
func asIntel(c *x509.Certificate) {
	c.CRLDistributionPoints = []string{"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"}
	c.SubjectKeyId, c.BasicConstraintsValid = []byte{1, 2, 3}, true
}

// What a library of another maker says of the same quotes: the good one is
// good. Of a platform that is out of date it looks at the TDX module alone
// (v0.3.2), and of version 5 it says nothing, which is why this package rates
// and parses by itself.
func TestPeer(t *testing.T) {
	version4 := func(d *tdxtest.Draft) { d.Version, d.Report.Kind = 4, tdx.TD10 }
	for name, c := range map[string]struct {
		edit  func(*tdxtest.Platform)
		draft func(*tdxtest.Draft)
		ours  tdx.Status
		peer  bool
	}{
		"good":                 {func(*tdxtest.Platform) {}, version4, tdx.UpToDate, true},
		"module out of date":   {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[0] = 4 }, version4, tdx.OutOfDate, false},
		"platform out of date": {func(p *tdxtest.Platform) { p.PCK.PCESVN = 6 }, version4, tdx.OutOfDate, true},
		"platform revoked":     {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = tdx.Revoked }, version4, tdx.Revoked, true},
		"version 5":            {func(*tdxtest.Platform) {}, nil, tdx.UpToDate, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			p.EditPCK = asIntel
			c.edit(p)
			raw := p.Quote(data, c.draft)
			if r, err := verify(raw, p.Collateral(), p.Terms()); err != nil || r.Status != c.ours {
				t.Errorf("here: %+v, %v, want %s", r, err, c.ours)
			}
			if err := peerVerify(p, raw); (err == nil) != c.peer {
				t.Errorf("go-tdx-guest: %v, accepted %v expected", err, c.peer)
			}
		})
	}
}
