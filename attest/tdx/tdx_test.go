package tdx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
)

var data = [64]byte{1, 2, 3}

// verify does all of it, as a verifier without a cache would.
func verify(raw []byte, c *tdx.Collateral, terms tdx.Terms) (*tdx.Rating, error) {
	q, err := tdx.Parse(raw)
	if err != nil {
		return nil, err
	}
	e, err := tdx.VerifyEndorsement(q.PCKChain, c, terms)
	if err != nil {
		return nil, err
	}
	return e.Check(q)
}

func TestGoodQuote(t *testing.T) {
	p := tdxtest.Draw(t)
	q := p.Parsed(data, nil)
	r, err := p.Endorsement().Check(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != tdx.UpToDate || r.Module != tdx.UpToDate || r.Platform != tdx.UpToDate || r.QE != tdx.UpToDate || r.Advisories != nil {
		t.Errorf("%+v", r)
	}
	want := p.Report
	want.ReportData = data
	if q.Report != want {
		t.Errorf("report %+v, want %+v", q.Report, want)
	}
}

// Every kind of quote that is accepted.
func TestQuoteKinds(t *testing.T) {
	for name, edit := range map[string]func(*tdxtest.Draft){
		"version 4":          func(d *tdxtest.Draft) { d.Version, d.Report.Kind = 4, tdx.TD10 },
		"version 5, tdx 1.0": func(d *tdxtest.Draft) { d.Report.Kind = tdx.TD10 },
		"version 5, tdx 1.5": func(*tdxtest.Draft) {},
		"zeros behind it":    func(d *tdxtest.Draft) { d.Trailing = make([]byte, 3000) },
		"no authentication":  func(d *tdxtest.Draft) { d.QEAuth = nil },
		"chain ends in zero": func(d *tdxtest.Draft) { d.PCKChain = append(slices.Clone(d.PCKChain), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			if _, err := verify(p.Quote(data, edit), p.Collateral(), p.Terms()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Each differs from a good quote in one field, and is signed all the same.
func TestQuoteRefused(t *testing.T) {
	stranger := chaintest.P256(t)
	for name, c := range map[string]struct {
		edit func(*tdxtest.Draft)
		want error
	}{
		"version 3":         {func(d *tdxtest.Draft) { d.Version = 3 }, attest.ErrMalformed},
		"version 6":         {func(d *tdxtest.Draft) { d.Version = 6 }, attest.ErrMalformed},
		"p-384 key":         {func(d *tdxtest.Draft) { d.KeyType = 3 }, attest.ErrMalformed},
		"sgx":               {func(d *tdxtest.Draft) { d.TEE = 0 }, attest.ErrMalformed},
		"vendor":            {func(d *tdxtest.Draft) { d.Vendor[0]++ }, attest.ErrMalformed},
		"body type":         {func(d *tdxtest.Draft) { d.Report.Kind = 4 }, attest.ErrMalformed},
		"body size":         {func(d *tdxtest.Draft) { d.BodySize = 584 }, attest.ErrMalformed},
		"tail":              {func(d *tdxtest.Draft) { d.Trailing = []byte{0, 1} }, attest.ErrMalformed},
		"too long":          {func(d *tdxtest.Draft) { d.Trailing = make([]byte, tdx.MaxQuote) }, attest.ErrMalformed},
		"pck key":           {func(d *tdxtest.Draft) { d.PCKKey = stranger }, attest.ErrSignature},
		"bound key":         {func(d *tdxtest.Draft) { d.Bound = &stranger.PublicKey }, attest.ErrIdentity},
		"qe mrsigner":       {func(d *tdxtest.Draft) { d.QE.MRSIGNER[0]++ }, attest.ErrIdentity},
		"qe isvprodid":      {func(d *tdxtest.Draft) { d.QE.ISVPRODID++ }, attest.ErrIdentity},
		"qe isvsvn":         {func(d *tdxtest.Draft) { d.QE.ISVSVN = 3 }, attest.ErrIdentity},
		"qe miscselect":     {func(d *tdxtest.Draft) { d.QE.MiscSelect = 1 }, attest.ErrIdentity},
		"qe debug":          {func(d *tdxtest.Draft) { d.QE.Attributes[0] |= 2 }, attest.ErrIdentity},
		"qe upper data":     {func(d *tdxtest.Draft) { d.QE.ReportData[63] = 1 }, attest.ErrIdentity},
		"module signer":     {func(d *tdxtest.Draft) { d.Report.MRSIGNERSEAM[0] = 1 }, attest.ErrIdentity},
		"module debug":      {func(d *tdxtest.Draft) { d.Report.SEAMAttributes[0] = 1 }, attest.ErrIdentity},
		"module unknown":    {func(d *tdxtest.Draft) { d.Report.TEETCBSVN[1] = 2 }, attest.ErrIdentity},
		"module too old":    {func(d *tdxtest.Draft) { d.Report.TEETCBSVN[0] = 1 }, attest.ErrIdentity},
		"module 0 too old":  {func(d *tdxtest.Draft) { d.Report.TEETCBSVN[0], d.Report.TEETCBSVN[1] = 2, 0 }, attest.ErrIdentity},
		"microcode too old": {func(d *tdxtest.Draft) { d.Report.TEETCBSVN[2] = 4 }, attest.ErrIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			if _, err := verify(p.Quote(data, c.edit), p.Collateral(), p.Terms()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// Whatever byte of a quote is changed, it is refused: header, report,
// signatures, keys, certificates.
func TestEveryByteCounts(t *testing.T) {
	p := tdxtest.Draw(t)
	raw, e := p.Quote(data, nil), p.Endorsement()
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 0x10
		q, err := tdx.Parse(bad)
		if err == nil {
			_, err = e.Check(q)
		}
		if !errors.Is(err, attest.ErrRefused) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestCollateralRefused(t *testing.T) {
	other := tdxtest.Draw(t)
	for name, c := range map[string]struct {
		edit func(*tdxtest.Platform)
		// also changes the collateral and the terms.
		also func(*tdx.Collateral, *tdx.Terms)
		want error
	}{
		"pck revoked":      {func(p *tdxtest.Platform) { p.RevokePCK = true }, nil, attest.ErrRevoked},
		"ca revoked":       {func(p *tdxtest.Platform) { p.RevokeCA = true }, nil, attest.ErrRevoked},
		"signing revoked":  {func(p *tdxtest.Platform) { p.RevokeSigning = true }, nil, attest.ErrRevoked},
		"fmspc":            {func(p *tdxtest.Platform) { p.TCBInfo.FMSPC[0]++ }, nil, attest.ErrCollateral},
		"pceid":            {func(p *tdxtest.Platform) { p.TCBInfo.PCEID[0]++ }, nil, attest.ErrCollateral},
		"tcb info too old": {func(p *tdxtest.Platform) { p.TCBInfo.NextUpdate = tdxtest.Now.Add(-time.Minute) }, nil, attest.ErrCollateral},
		"tcb info too new": {func(p *tdxtest.Platform) { p.TCBInfo.IssueDate = tdxtest.Now.Add(time.Minute) }, nil, attest.ErrCollateral},
		"identity too old": {func(p *tdxtest.Platform) { p.QEIdentity.NextUpdate = tdxtest.Now.Add(-time.Minute) }, nil, attest.ErrCollateral},
		"dates turned":     {func(p *tdxtest.Platform) { p.QEIdentity.NextUpdate = p.QEIdentity.IssueDate }, nil, attest.ErrMalformed},
		"crl too old": {func(p *tdxtest.Platform) {
			p.EditList = func(l *x509.RevocationList) { l.NextUpdate = tdxtest.Now.Add(-time.Minute) }
		}, nil, attest.ErrCollateral},
		"no levels":         {func(p *tdxtest.Platform) { p.TCBInfo.Levels = nil }, nil, attest.ErrMalformed},
		"level of no kind":  {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = 77 }, nil, attest.ErrMalformed},
		"enclave of a kind": {func(p *tdxtest.Platform) { p.QEIdentity.Levels[0].Status = tdx.SWHardeningNeeded }, nil, attest.ErrMalformed},
		"pck by name": {func(p *tdxtest.Platform) {
			p.EditPCK = func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX TCB Signing" }
		}, nil, attest.ErrIdentity},
		"ca by name": {func(p *tdxtest.Platform) {
			p.EditCA = func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX Other CA" }
		}, nil, attest.ErrIdentity},
		"signing by name": {func(p *tdxtest.Platform) {
			p.EditSigning = func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX PCK Certificate" }
		}, nil, attest.ErrIdentity},
		"pck expired": {func(p *tdxtest.Platform) {
			p.EditPCK = func(c *x509.Certificate) { c.NotAfter = tdxtest.Now.Add(-time.Minute) }
		}, nil, attest.ErrIdentity},
		"no sgx extension":  {func(p *tdxtest.Platform) { p.EditPCK = func(c *x509.Certificate) { c.ExtraExtensions = nil } }, nil, attest.ErrIdentity},
		"another root":      {nil, func(_ *tdx.Collateral, t *tdx.Terms) { t.Roots = other.Roots() }, attest.ErrIdentity},
		"intel's root":      {nil, func(_ *tdx.Collateral, t *tdx.Terms) { t.Roots = tdx.IntelRoots() }, attest.ErrIdentity},
		"no root":           {nil, func(_ *tdx.Collateral, t *tdx.Terms) { t.Roots = nil }, attest.ErrPolicy},
		"no time":           {nil, func(_ *tdx.Collateral, t *tdx.Terms) { t.At = time.Time{} }, attest.ErrPolicy},
		"endless grace":     {nil, func(_ *tdx.Collateral, t *tdx.Terms) { t.Grace = chain.MaxGrace + 1 }, attest.ErrPolicy},
		"no pck crl":        {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.PCKCRL = c.RootCRL }, attest.ErrCollateral},
		"no root crl":       {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.RootCRL = c.PCKCRL }, attest.ErrCollateral},
		"empty crl":         {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.PCKCRL = nil }, attest.ErrMalformed},
		"another's signer":  {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.TCBInfoChain = other.Collateral().TCBInfoChain }, attest.ErrIdentity},
		"another statement": {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.QEIdentity = c.TCBInfo }, attest.ErrMalformed},
		"statement changed": {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.TCBInfo = replace(c.TCBInfo, "OutOfDate", "UpToDate") }, attest.ErrSignature},
		"field added": {nil, func(c *tdx.Collateral, _ *tdx.Terms) {
			c.TCBInfo = replace(c.TCBInfo, `{"tcbInfo"`, `{"x":1,"tcbInfo"`)
		}, attest.ErrMalformed},
		"too long": {nil, func(c *tdx.Collateral, _ *tdx.Terms) { c.TCBInfo = make([]byte, tdx.MaxStatement+1) }, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			if c.edit != nil {
				c.edit(p)
			}
			collateral, terms := p.Collateral(), p.Terms()
			if c.also != nil {
				c.also(collateral, &terms)
			}
			if _, err := verify(p.Quote(data, nil), collateral, terms); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func replace(b []byte, old, by string) []byte {
	return []byte(strings.Replace(string(b), old, by, 1))
}

// A list of a platform's authority that another root signed is no list.
func TestForeignListRefused(t *testing.T) {
	p, other := tdxtest.Draw(t), tdxtest.Draw(t)
	c := p.Collateral()
	c.PCKCRL = other.Collateral().PCKCRL
	if _, err := verify(p.Quote(data, nil), c, p.Terms()); !errors.Is(err, attest.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// A list may come in PEM, alone.
func TestListInPEM(t *testing.T) {
	text := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }
	p := tdxtest.Draw(t)
	c := p.Collateral()
	c.PCKCRL, c.RootCRL = text(c.PCKCRL), text(c.RootCRL)
	if _, err := verify(p.Quote(data, nil), c, p.Terms()); err != nil {
		t.Error(err)
	}
	c.RootCRL = append(c.RootCRL, c.RootCRL...)
	if _, err := verify(p.Quote(data, nil), c, p.Terms()); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("two lists: %v", err)
	}
}

// A field of the platform's certificate that is there twice, unknown, missing
// or out of range is refused.
func TestExtensionRefused(t *testing.T) {
	oid := asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	type field struct {
		ID    asn1.ObjectIdentifier
		Value any
	}
	under := func(arcs ...int) asn1.ObjectIdentifier { return append(oid[:len(oid):len(oid)], arcs...) }
	tcb := func(fields ...field) []field {
		return []field{{under(1), make([]byte, 16)}, {under(2), fields}, {under(3), make([]byte, 2)}, {under(4), make([]byte, 6)}}
	}
	var components []field
	for i := range 16 {
		components = append(components, field{under(2, i+1), 1})
	}
	for name, fields := range map[string][]field{
		"missing":                  {{under(4), make([]byte, 6)}},
		"twice":                    {{under(4), make([]byte, 6)}, {under(4), make([]byte, 6)}},
		"unknown":                  {{under(8), 1}},
		"foreign":                  {{asn1.ObjectIdentifier{1, 2, 3}, 1}},
		"short":                    {{under(1), make([]byte, 16)}, {under(3), make([]byte, 2)}, {under(4), make([]byte, 5)}},
		"no tcb":                   {{under(1), make([]byte, 16)}, {under(3), make([]byte, 2)}, {under(4), make([]byte, 6)}},
		"no type":                  {{under(1), 7}},
		"tcb of a component alone": tcb(field{under(2, 1), 1}),
		"tcb of another arc":       tcb(field{under(3, 1), 1}),
		"tcb of arc zero":          tcb(field{under(2, 0), 1}),
		"component above a byte":   tcb(slices.Concat([]field{{under(2, 1), 256}}, components[1:], []field{{under(2, 17), 1}, {under(2, 18), make([]byte, 16)}})...),
		"component below zero":     tcb(slices.Concat([]field{{under(2, 1), -1}}, components[1:], []field{{under(2, 17), 1}, {under(2, 18), make([]byte, 16)}})...),
		"component of octets":      tcb(slices.Concat([]field{{under(2, 1), []byte{1}}}, components[1:], []field{{under(2, 17), 1}, {under(2, 18), make([]byte, 16)}})...),
		"pcesvn above two bytes":   tcb(append(components[:16:16], field{under(2, 17), 1 << 16}, field{under(2, 18), make([]byte, 16)})...),
		"no pcesvn":                tcb(append(components[:16:16], field{under(2, 18), make([]byte, 16)})...),
		"short cpusvn":             tcb(append(components[:16:16], field{under(2, 17), 1}, field{under(2, 18), make([]byte, 15)})...),
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			p.EditPCK = func(c *x509.Certificate) {
				der, err := asn1.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				c.ExtraExtensions[0].Value = der
			}
			if _, err := verify(p.Quote(data, nil), p.Collateral(), p.Terms()); !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestGrace(t *testing.T) {
	p := tdxtest.Draw(t)
	p.TCBInfo.NextUpdate = tdxtest.Now.Add(-time.Minute)
	terms := p.Terms()
	terms.Grace = time.Hour
	e, err := tdx.VerifyEndorsement(p.Chain(), p.Collateral(), terms)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Stale(tdxtest.Now) || e.Publisher != "tcb info" || !e.Valid.NotAfter.Equal(p.TCBInfo.NextUpdate.Add(time.Hour)) {
		t.Errorf("stale %v for %q, valid until %s", e.Stale(tdxtest.Now), e.Publisher, e.Valid.NotAfter)
	}
	if p := tdxtest.Draw(t); p.Endorsement().Stale(tdxtest.Now) {
		t.Error("fresh collateral is stale")
	}
}

// The platform, its module and its quoting enclave are rated apart, and the
// worst of them counts. go-tdx-guest v0.3.2 takes the module's rating for the
// whole as soon as it has one, so that a platform that is out of date passes.
func TestRating(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*tdxtest.Platform)
		want tdx.Status
		// advisories that must be named.
		advisories []string
	}{
		"all up to date":      {func(*tdxtest.Platform) {}, tdx.UpToDate, nil},
		"module out of date":  {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[0] = 4 }, tdx.OutOfDate, []string{"INTEL-SA-00002"}},
		"platform alone":      {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[2] = 6 }, tdx.OutOfDate, []string{"INTEL-SA-00001"}},
		"pce alone":           {func(p *tdxtest.Platform) { p.PCK.PCESVN = 6 }, tdx.OutOfDate, []string{"INTEL-SA-00001"}},
		"processor alone":     {func(p *tdxtest.Platform) { p.PCK.Components[0] = 6 }, tdx.OutOfDate, []string{"INTEL-SA-00001"}},
		"enclave out of date": {func(p *tdxtest.Platform) { p.QE.ISVSVN = 5 }, tdx.OutOfDate, []string{"INTEL-SA-00003"}},
		"platform and enclave": {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[2], p.QE.ISVSVN = 5, 5 },
			tdx.OutOfDate, []string{"INTEL-SA-00001", "INTEL-SA-00003"}},
		"hardening": {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = tdx.SWHardeningNeeded }, tdx.SWHardeningNeeded, nil},
		"hardening, module": {func(p *tdxtest.Platform) {
			p.TCBInfo.Levels[0].Status, p.Report.TEETCBSVN[0] = tdx.SWHardeningNeeded, 2
		}, tdx.OutOfDate, []string{"INTEL-SA-00002"}},
		"configuration": {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = tdx.ConfigurationNeeded }, tdx.ConfigurationNeeded, nil},
		"configuration, enclave": {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status, p.QE.ISVSVN = tdx.ConfigurationNeeded, 4 },
			tdx.OutOfDateConfigurationNeeded, []string{"INTEL-SA-00003"}},
		"revoked": {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = tdx.Revoked }, tdx.Revoked, nil},
		"revoked, enclave out of date": {func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status, p.QE.ISVSVN = tdx.Revoked, 5 },
			tdx.Revoked, []string{"INTEL-SA-00003"}},
		"module revoked":  {func(p *tdxtest.Platform) { p.TCBInfo.Modules[1].Levels[0].Status = tdx.Revoked }, tdx.Revoked, nil},
		"enclave revoked": {func(p *tdxtest.Platform) { p.QEIdentity.Levels[0].Status = tdx.Revoked }, tdx.Revoked, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			c.edit(p)
			r, err := verify(p.Quote(data, nil), p.Collateral(), p.Terms())
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != c.want || !slices.Equal(r.Advisories, c.advisories) {
				t.Errorf("%s %v, want %s %v", r.Status, r.Advisories, c.want, c.advisories)
			}
		})
	}
}

func TestCollateralTravels(t *testing.T) {
	c := tdxtest.Draw(t).Collateral()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := tdx.ParseCollateral(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, again) {
		t.Error("collateral comes back otherwise")
	}
	for name, bad := range map[string][]byte{"tail": append(b, 0), "cut": b[:len(b)-1], "version": append([]byte{b[0], b[1], 2}, b[3:]...), "none": nil} {
		if _, err := tdx.ParseCollateral(bad); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIntelRoot(t *testing.T) {
	const want = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
	roots := tdx.IntelRoots()
	if len(roots) != 1 || attest.Sum(roots[0].Raw).String() != want {
		t.Errorf("%d roots, want the one of digest %s", len(roots), want)
	}
}

func BenchmarkCheck(b *testing.B) {
	p := tdxtest.Draw(b)
	raw, e := p.Quote(data, nil), p.Endorsement()
	b.Run("quote", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q, err := tdx.Parse(raw)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Check(q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor: two P-256 verifications", func(b *testing.B) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		digest := sha256.Sum256(raw)
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			for range 2 {
				if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
					b.Fatal("refused")
				}
			}
		}
	})
}

// A newer statement beside an older one makes neither of the newer round.
func TestEvaluationIsTheOlderStatements(t *testing.T) {
	for _, rounds := range [][2]uint32{{17, 16}, {16, 17}} {
		p := tdxtest.Draw(t)
		p.TCBInfo.EvaluationDataNumber, p.QEIdentity.EvaluationDataNumber = rounds[0], rounds[1]
		if got := p.Endorsement().EvaluationDataNumber(); got != 16 {
			t.Errorf("rounds %v: %d, want 16", rounds, got)
		}
	}
}

// What stands twice would be read once, and who knows which.
func TestNothingOfIntelsStandsTwice(t *testing.T) {
	p := tdxtest.Draw(t)
	c := p.Collateral()
	c.TCBInfo = bytes.Replace(c.TCBInfo, []byte(`"tdxModuleIdentities":[`), []byte(`"tdxModuleIdentities":[`+string(firstModule(t, c.TCBInfo))+","), 1)
	if _, err := tdx.VerifyEndorsement(p.Chain(), c, p.Terms()); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a module: %v", err)
	}
	p = tdxtest.Draw(t)
	p.EditPCK = func(c *x509.Certificate) {
		var fields []asn1.RawValue
		extension := &c.ExtraExtensions[len(c.ExtraExtensions)-1]
		if _, err := asn1.Unmarshal(extension.Value, &fields); err != nil {
			t.Fatal(err)
		}
		var err error
		if extension.Value, err = asn1.Marshal(append(fields, fields[0])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tdx.VerifyEndorsement(p.Chain(), p.Collateral(), p.Terms()); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a field of the platform's: %v", err)
	}
}

func firstModule(t *testing.T, statement []byte) json.RawMessage {
	t.Helper()
	var s struct {
		TCBInfo struct {
			Modules []json.RawMessage `json:"tdxModuleIdentities"`
		} `json:"tcbInfo"`
	}
	if err := json.Unmarshal(statement, &s); err != nil || len(s.TCBInfo.Modules) == 0 {
		t.Fatalf("%d modules, %v", len(s.TCBInfo.Modules), err)
	}
	return s.TCBInfo.Modules[0]
}

// Each statement differs from a good one in what the reason names. None of them is
// signed: what is no statement of Intel's is told before its signature is looked at.
func TestStatementsThatIntelDoesNotMake(t *testing.T) {
	p := tdxtest.Draw(t)
	levels := strings.Repeat("{},", 128)
	for _, c := range []struct{ pattern, by, reason string }{
		{`\{"tcbInfo"`, `{"enclaveIdentity":{},"tcbInfo"`, "is not one statement"},
		{`"id":"TDX"`, `"id":"SGX"`, `tcb info "SGX" of version 3`},
		{`"version":3`, `"version":2`, "of version 2 is unknown"},
		{`"tcbType":0`, `"tcbType":1`, "tcbType 1"},
		{`"fmspc":"`, `"fmspc":"00`, "fmspc has 7 bytes"},
		{`"pceId":"`, `"pceId":"00`, "pceId has 3 bytes"},
		{`"pceId":"..`, `"pceId":"xx`, "invalid byte"},
		{`"pcesvn":\d+`, `"pcesvn":null`, "no pcesvn"},
		{`"sgxtcbcomponents":\[\{"svn":\d+\},`, `"sgxtcbcomponents":[`, "sgxtcbcomponents has 15"},
		{`"tdxtcbcomponents":\[\{"svn":\d+\},`, `"tdxtcbcomponents":[`, "tdxtcbcomponents has 15"},
		{`"svn":\d+`, `"svn":null`, "entry with no svn"},
		{`"tcbStatus":"\w+"`, `"tcbStatus":"Fine"`, `tcb status "Fine"`},
		{`,"tcbStatus":"\w+"`, ``, "has no status"},
		{`,"tcbDate":"[^"]+"`, ``, "has no date"},
		{`"tcbDate"`, `"advisoryIDs":["x"` + strings.Repeat(`,"x"`, 256) + `],"tcbDate"`, "257 advisories"},
		{`"tcbLevels":\[`, `"tcbLevels":[` + levels, "tcb levels, want 1 to 128"},
		{`"tdxModule":\{"attributes":"`, `"tdxModule":{"attributes":"00`, "attributes of tdx module has 9"},
		{`"attributesMask":"`, `"attributesMask":"00`, "attributesMask of tdx module has 9"},
		{`"mrsigner":"`, `"mrsigner":"00`, "mrsigner of tdx module has 49"},
		{`"tdxModuleIdentities":\[`, `"tdxModuleIdentities":[` + strings.Repeat("{},", 64), "65 tdx modules"},
		{`"tdxModuleIdentities":\[\{"attributes":"`, `"tdxModuleIdentities":[{"attributes":"00`, "attributes of tdx module has 9"},
		{`"id":"TDX_01"`, `"id":"TDY_01"`, `tdx module "TDY_01" is unknown`},
		{`"id":"TDX_01"`, `"id":"TDX_0g"`, `tdx module "TDX_0g" is unknown`},
		{`"id":"TDX_01"`, `"id":"TDX_0101"`, `tdx module "TDX_0101" is unknown`},
		{`"isvsvn":\d+`, `"isvsvn":null`, "has no isvsvn"},
		{`"issueDate":"[^"]+"`, `"issueDate":"0001-01-01T00:00:00Z"`, "not after its issueDate"},
		{`"signature":"`, `"signature":"00`, "signature of tcb info has 65"},
	} {
		collateral := p.Collateral()
		collateral.TCBInfo = edited(t, collateral.TCBInfo, c.pattern, c.by)
		refusedFor(t, p, collateral, c.reason)
	}
	for _, c := range []struct{ pattern, by, reason string }{
		{`"id":"TD_QE"`, `"id":"QE"`, `qe identity "QE" of version 2`},
		{`"version":2`, `"version":3`, "of version 3 is unknown"},
		{`"isvprodid":\d+`, `"isvprodid":null`, "no isvprodid"},
		{`"miscselect":"`, `"miscselect":"00`, "miscselect of qe identity has 5"},
		{`"miscselectMask":"`, `"miscselectMask":"00`, "miscselectMask of qe identity has 5"},
		{`"attributes":"`, `"attributes":"00`, "attributes of qe identity has 17"},
		{`"attributesMask":"`, `"attributesMask":"00`, "attributesMask of qe identity has 17"},
		{`"mrsigner":"`, `"mrsigner":"00`, "mrsigner of qe identity has 33"},
		{`"tcbLevels":\[`, `"tcbLevels":[` + levels, "tcb levels, want 1 to 128"},
		{`,"tcbStatus":"\w+"`, ``, "has no status"},
		{`"signature":"`, `"signature":"00`, "signature of qe identity has 65"},
	} {
		collateral := p.Collateral()
		collateral.QEIdentity = edited(t, collateral.QEIdentity, c.pattern, c.by)
		refusedFor(t, p, collateral, c.reason)
	}
}

// edited has the first match of a pattern replaced.
func edited(t *testing.T, b []byte, pattern, by string) []byte {
	t.Helper()
	at := regexp.MustCompile(pattern).FindIndex(b)
	if at == nil {
		t.Fatalf("the statement has no %s", pattern)
	}
	return slices.Concat(b[:at[0]], []byte(by), b[at[1]:])
}

func refusedFor(t *testing.T, p *tdxtest.Platform, c *tdx.Collateral, reason string) {
	t.Helper()
	_, err := tdx.VerifyEndorsement(p.Chain(), c, p.Terms())
	if !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), reason) {
		t.Errorf("%v, want %s", err, reason)
	}
}

// The chain of a platform is of three certificates, that of a statement of two.
func TestPathsHaveTheirLength(t *testing.T) {
	p := tdxtest.Draw(t)
	c := p.Collateral()
	signers := c.TCBInfoChain
	c.TCBInfoChain = p.Chain()
	if _, err := tdx.VerifyEndorsement(p.Chain(), c, p.Terms()); !errors.Is(err, attest.ErrIdentity) || !strings.Contains(fmt.Sprint(err), "path of 3 certificates, want 2") {
		t.Errorf("a statement by a platform: %v", err)
	}
	if _, err := tdx.VerifyEndorsement(signers, p.Collateral(), p.Terms()); !errors.Is(err, attest.ErrIdentity) || !strings.Contains(fmt.Sprint(err), "path of 2 certificates, want 3") {
		t.Errorf("a platform below the root: %v", err)
	}
}

// A quote that ends too soon, or has something else in place of a part, is none:
// nothing of it is handed out.
func TestParseRefusesWhatIsNotWhole(t *testing.T) {
	p := tdxtest.Draw(t)
	raw := p.Quote(data, nil)
	for n := range raw {
		if _, err := tdx.Parse(raw[:n]); !errors.Is(err, attest.ErrMalformed) {
			t.Fatalf("its first %d bytes: %v", n, err)
		}
	}
	good := p.Parsed(data, nil)
	// Behind header, body and two sizes: signature, key, and a piece of data that
	// holds the enclave's report.
	key := bytes.Index(raw, good.PCKChain) - 6 - len(good.QEAuth) - 2 - 64 - 384 - 6 - 64
	for name, at := range map[string]int{
		"key that is no point": key, "data of another type": key + 64, "size of the data": key + 66,
		"reserved of the enclave's report": key + 64 + 6 + 20, "chain of another type": bytes.Index(raw, good.PCKChain) - 6,
		"size of the chain": bytes.Index(raw, good.PCKChain) - 4,
	} {
		bad := slices.Clone(raw)
		bad[at] ^= 0x11
		if _, err := tdx.Parse(bad); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without collateral a quote's own signatures and certificates are all that is
// looked at, and each of them is.
func TestVerifyWithoutCollateral(t *testing.T) {
	p, other := tdxtest.Draw(t), tdxtest.Draw(t)
	named := tdxtest.Draw(t)
	named.EditPCK = func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX TCB Signing" }
	for name, c := range map[string]struct {
		of    *tdxtest.Platform
		edit  func(*tdxtest.Draft)
		roots []*x509.Certificate
		at    time.Time
		want  error
	}{
		"good":            {p, nil, p.Roots(), tdxtest.Now, nil},
		"another root":    {p, nil, other.Roots(), tdxtest.Now, attest.ErrIdentity},
		"intel's root":    {p, nil, tdx.IntelRoots(), tdxtest.Now, attest.ErrIdentity},
		"another time":    {p, nil, p.Roots(), tdxtest.Now.AddDate(100, 0, 0), attest.ErrIdentity},
		"no platform's":   {named, nil, named.Roots(), tdxtest.Now, attest.ErrIdentity},
		"no certificates": {p, func(d *tdxtest.Draft) { d.PCKChain = []byte("nonsense") }, p.Roots(), tdxtest.Now, attest.ErrMalformed},
		"another key":     {p, func(d *tdxtest.Draft) { d.PCKKey = chaintest.P256(t) }, p.Roots(), tdxtest.Now, attest.ErrSignature},
		"bound key":       {p, func(d *tdxtest.Draft) { d.Bound = &chaintest.P256(t).PublicKey }, p.Roots(), tdxtest.Now, attest.ErrIdentity},
	} {
		pck, err := tdx.VerifyWithoutCollateral(c.of.Parsed(data, c.edit), c.roots, c.at)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil && pck.FMSPC != c.of.PCK.FMSPC {
			t.Errorf("%s: fmspc %s", name, pck.FMSPC)
		}
	}
}

// A measurement's text has 96 digits and no other.
func TestMeasurementsText(t *testing.T) {
	good := strings.Repeat("0f", 48)
	for text, want := range map[string]error{good: nil, good[2:]: attest.ErrMalformed, good + "00": attest.ErrMalformed, "x" + good[1:]: attest.ErrMalformed, "": attest.ErrMalformed} {
		if err := new(tdx.Measurement).UnmarshalText([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The date is that of the oldest level that applies, whichever part it rates.
func TestRatingIsAsOldAsItsOldestPart(t *testing.T) {
	current, old := tdxtest.Now.AddDate(0, -6, 0), tdxtest.Now.AddDate(-2, 0, 0)
	for name, c := range map[string]struct {
		edit func(*tdxtest.Platform)
		want time.Time
	}{
		"all current":          {func(*tdxtest.Platform) {}, current},
		"an old platform":      {func(p *tdxtest.Platform) { p.PCK.PCESVN = 6 }, old},
		"an old module":        {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[0] = 4 }, old},
		"an old enclave":       {func(p *tdxtest.Platform) { p.QE.ISVSVN = 5 }, old},
		"module 0, none older": {func(p *tdxtest.Platform) { p.Report.TEETCBSVN[0], p.Report.TEETCBSVN[1] = 3, 0 }, current},
	} {
		p := tdxtest.Draw(t)
		c.edit(p)
		r, err := verify(p.Quote(data, nil), p.Collateral(), p.Terms())
		if err != nil {
			t.Fatal(err)
		}
		if !r.Date.Equal(c.want.Truncate(time.Second)) {
			t.Errorf("%s: of %s, want %s", name, r.Date, c.want)
		}
	}
}

// Intel certifies platforms by either of its authorities.
func TestEitherAuthority(t *testing.T) {
	p := tdxtest.Draw(t)
	p.EditCA = func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX PCK Processor CA" }
	if _, err := verify(p.Quote(data, nil), p.Collateral(), p.Terms()); err != nil {
		t.Error(err)
	}
}

// What is too large is not taken apart.
func TestCaps(t *testing.T) {
	p := tdxtest.Draw(t)
	c := p.Collateral()
	c.TCBInfo = make([]byte, tdx.MaxStatement+1)
	refusedFor(t, p, c, "tcb info has 131073 bytes, at most")
	c = p.Collateral()
	c.PCKCRL = make([]byte, chain.MaxList*3/2+1)
	refusedFor(t, p, c, "pck crl has 1572865 bytes, at most")
}

// Intel signs with keys on P-256: a statement by another, under a root that is
// pinned, is none.
func TestSignerOnAnotherCurve(t *testing.T) {
	p := tdxtest.Draw(t)
	root := chaintest.Root(t, "root", chaintest.P256(t), nil)
	for key, want := range map[*ecdsa.PrivateKey]string{chaintest.P256(t): "signature", chaintest.P384(t): "is not on P-256"} {
		leaf := root.Leaf("Intel SGX TCB Signing", key.Public(), nil)
		c, terms := p.Collateral(), p.Terms()
		c.TCBInfoChain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})
		terms.Roots, terms.Lists = append(terms.Roots, root.Certificate), []*chain.List{root.Parsed(nil)}
		if _, err := tdx.VerifyEndorsement(p.Chain(), c, terms); !errors.Is(err, attest.ErrRefused) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %s", key.Curve.Params().Name, err, want)
		}
	}
}
