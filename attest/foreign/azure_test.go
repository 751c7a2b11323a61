package foreign_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// paravised is what an Azure confidential VM's files hold, synthetic, with the
// policy that accepts its processor and paravisor.
type paravised struct {
	quote     foreign.Quote
	paravisor foreign.Paravisor
	asked     foreign.Asked
}

func onAzure(tb testing.TB, start func(*verifiertest.Machine) *verifiertest.Azure) (*paravised, *evidence.Evidence) {
	tb.Helper()
	m, nonce := verifiertest.Boot(tb), attest.Nonce{1}
	a := start(m)
	e, err := evidence.Decode(m.Evidence(tb, nonce, attest.Digest{}))
	if err != nil {
		tb.Fatal(err)
	}
	root, err := e.Batch.Root(m.Channel.Leaf(nonce, e.Config, e.Claim))
	if err != nil {
		tb.Fatal(err)
	}
	extra := attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())
	p := m.PolicyAt(attest.TierProviderRooted)
	a.Accept(&p)
	return &paravised{
		quote:     foreign.Quote{Attest: e.TPM.Quote, Signature: e.TPM.Signature, AK: e.TPM.AKPublic},
		paravisor: foreign.Paravisor{Index: e.Reports[0].Report},
		asked:     foreign.Asked{At: time.Now(), Data: extra[:], Policy: &policy.Policy{Verifier: p}},
	}, e
}

func onAzureSNP(tb testing.TB) *paravised {
	tb.Helper()
	w := verifiertest.NewSNP(tb, "Genoa")
	p, e := onAzure(tb, func(m *verifiertest.Machine) *verifiertest.Azure { return w.OnSNP(tb, m) })
	var err error
	if p.paravisor.Certificates, err = snp.ParseTable(e.Reports[0].Certificates); err != nil {
		tb.Fatal(err)
	}
	p.paravisor.Lists = []*chain.List{w.Vendor.ARK.Parsed(nil)}
	return p
}

func onAzureTDX(tb testing.TB) *paravised {
	tb.Helper()
	x := verifiertest.NewTDX(tb)
	p, _ := onAzure(tb, func(m *verifiertest.Machine) *verifiertest.Azure { return x.OnTDX(tb, m) })
	p.paravisor.Collateral = x.Collateral()
	// The index holds no quote: the host hands it out beside it.
	at := bytes.Index(p.paravisor.Index, []byte{5, 0, 2, 0, 0x81, 0, 0, 0})
	p.paravisor.Quote = p.paravisor.Index[at:]
	p.paravisor.Index = append(bytes.Clone(p.paravisor.Index[:at]), make([]byte, 100)...)
	return p
}

func (p *paravised) check() (*foreign.Result, error) {
	return foreign.Azure(p.quote, p.paravisor, p.asked)
}

func TestAzure(t *testing.T) {
	for name, p := range map[string]*paravised{"snp": onAzureSNP(t), "tdx": onAzureTDX(t)} {
		r, err := p.check()
		if err != nil || r.Policy != foreign.Accepted || r.Kind != "azure-quote" || fact(r, "ek") == "" {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		for _, says := range []string{"claims in the tpm's index name the key that signed the quote", "extra_data is what was asked for"} {
			if !slices.Contains(r.Verified, says) {
				t.Errorf("%s: %q is not among %q", name, says, r.Verified)
			}
		}
		if said := strings.Join(r.Warnings, "\n"); !strings.Contains(said, "only an activation tells") || !strings.Contains(said, "those of a release") {
			t.Errorf("%s: %q", name, r.Warnings)
		}
		pinned := p.asked.Policy.Verifier.Azure
		p.asked.Policy.Verifier.Azure = nil
		if r, err = p.check(); err != nil || r.Policy != foreign.Refused || !strings.Contains(r.Refusals[0], "pins no paravisor") {
			t.Errorf("%s without a pinned paravisor: %+v, %v", name, r, err)
		}
		p.asked.Policy.Verifier.Azure = &verifier.AzurePolicy{SNP: [][48]byte{{1}}, TDX: []tdx.Measurement{{1}}}
		if r, err = p.check(); err != nil || r.Policy != foreign.Refused {
			t.Errorf("%s with another pinned: %+v, %v", name, r, err)
		}
		p.asked.Policy.Verifier.Azure = pinned
	}
}

// A paravisor that is too old to name the endorsement key is shown as that.
func TestAzureWithoutAnEndorsementKey(t *testing.T) {
	w := verifiertest.NewSNP(t, "Genoa")
	p, e := onAzure(t, func(m *verifiertest.Machine) *verifiertest.Azure {
		a := w.OnSNP(t, m)
		a.Claims = strings.Replace(a.Claims, "HCLEkPub", "HCLOther", 1)
		return a
	})
	var err error
	if p.paravisor.Certificates, err = snp.ParseTable(e.Reports[0].Certificates); err != nil {
		t.Fatal(err)
	}
	p.paravisor.Lists = []*chain.List{w.Vendor.ARK.Parsed(nil)}
	r, err := p.check()
	if err != nil || fact(r, "ek") != "" || !strings.Contains(strings.Join(r.Warnings, "\n"), "too old for its key to be activated") {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAzureIsRefused(t *testing.T) {
	good := onAzureSNP(t)
	other, onTDX := onAzureSNP(t), onAzureTDX(t)
	for name, c := range map[string]struct {
		from *paravised
		edit func(*paravised)
		want error
		says string
	}{
		"another machine's report":  {good, func(p *paravised) { p.paravisor = other.paravisor }, attest.ErrBinding, "another key"},
		"another machine's key":     {good, func(p *paravised) { p.quote.AK = other.quote.AK }, attest.ErrSignature, ""},
		"claims":                    {good, func(p *paravised) { p.paravisor.Index = flipped(p.paravisor.Index, azuretest.RequestAt+30) }, attest.ErrBinding, "runtime claims"},
		"report":                    {good, func(p *paravised) { p.paravisor.Index = flipped(p.paravisor.Index, 32+0x140) }, attest.ErrSignature, ""},
		"extra data":                {good, func(p *paravised) { p.asked.Data = []byte{1} }, attest.ErrBinding, "extra_data"},
		"no certificates":           {good, func(p *paravised) { p.paravisor.Certificates = nil }, attest.ErrIdentity, ""},
		"no list":                   {good, func(p *paravised) { p.paravisor.Lists = nil }, attest.ErrCollateral, ""},
		"no policy, a test's root":  {good, func(p *paravised) { p.asked.Policy = nil }, attest.ErrIdentity, ""},
		"collateral of intel's":     {good, func(p *paravised) { p.paravisor.Collateral = onTDX.paravisor.Collateral }, attest.ErrMalformed, "collateral"},
		"quote of intel's":          {good, func(p *paravised) { p.paravisor.Quote = onTDX.paravisor.Quote }, attest.ErrMalformed, "behind its claims"},
		"certificates of amd's":     {onTDX, func(p *paravised) { p.paravisor.Certificates = good.paravisor.Certificates }, attest.ErrMalformed, "certificates"},
		"lists of amd's":            {onTDX, func(p *paravised) { p.paravisor.Lists = good.paravisor.Lists }, attest.ErrMalformed, "lists"},
		"no quote":                  {onTDX, func(p *paravised) { p.paravisor.Quote = nil }, attest.ErrMalformed, "no quote"},
		"quote of another":          {onTDX, func(p *paravised) { p.paravisor.Quote = onAzureTDX(t).paravisor.Quote }, attest.ErrBinding, "not of the report"},
		"no policy, a test's intel": {onTDX, func(p *paravised) { p.asked.Policy = nil }, attest.ErrIdentity, ""},
		"nothing in the index":      {good, func(p *paravised) { p.paravisor.Index = nil }, attest.ErrMalformed, "bytes"},
	} {
		p := *c.from
		c.edit(&p)
		if _, err := p.check(); !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want %v with %q", name, err, c.want, c.says)
		}
	}
	good.asked.Policy = nil
	if r, err := good.check(); r != nil || err == nil {
		t.Errorf("a result of what is not genuine: %+v", r)
	}
}
