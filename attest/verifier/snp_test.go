package verifier_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

func snpPolicy() verifier.SNPPolicy {
	least := verifier.SNPFloor{Bootloader: new(uint8(4)), TEE: new(uint8(0)), SNP: new(uint8(24)), Microcode: new(uint8(219))}
	turin := least
	turin.FMC = new(uint8(2))
	return verifier.SNPPolicy{
		Anchors: snp.AMD(), Revocation: chain.RequiredOfRoot,
		Floors:          map[string]verifier.SNPFloor{"Milan": least, "Turin": turin},
		MinimumFirmware: &verifier.SNPFirmware{Major: 1, Minor: 55},
		Required:        new(snp.GuestPolicy(0)), Permitted: new(snp.PolicySMT), Platform: new(snp.PlatformECC),
		AllowVLEK: new(false), AllowMaskedChip: new(false), Measurements: [][48]byte{{0xaa}},
	}
}

func endorsed(t *testing.T, v *snptest.Vendor, k *snptest.Key, r chain.Revocations) *snp.Endorsement {
	t.Helper()
	e, err := snp.VerifyEndorsement(k.Certificate, []*x509.Certificate{k.Authority}, []snp.Anchor{v.Anchor()}, r, snptest.Now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Each row differs from an accepted report or policy in one thing.
func TestAppraiseSNP(t *testing.T) {
	milan, turin := snptest.Draw(t, "Milan"), snptest.Draw(t, "Turin")
	type edit = func(*snp.Report)
	type policy = func(*verifier.SNPPolicy)
	for name, c := range map[string]struct {
		vendor  *snptest.Vendor
		vlek    bool
		edit    edit
		policy  policy
		refusal string
		warning string
	}{
		"good":             {vendor: milan},
		"good turin":       {vendor: turin},
		"debug":            {vendor: milan, edit: func(r *snp.Report) { r.Policy |= snp.PolicyDebug }, refusal: "permits debug"},
		"migration agent":  {vendor: milan, edit: func(r *snp.Report) { r.Policy |= snp.PolicyMigrationAgent }, refusal: "permits migration agent"},
		"cxl":              {vendor: milan, edit: func(r *snp.Report) { r.Policy |= snp.PolicyCXL }, refusal: "permits cxl"},
		"cxl permitted":    {vendor: milan, edit: func(r *snp.Report) { r.Policy |= snp.PolicyCXL }, policy: func(p *verifier.SNPPolicy) { *p.Permitted |= snp.PolicyCXL }},
		"smt":              {vendor: milan, policy: func(p *verifier.SNPPolicy) { *p.Permitted = 0 }, refusal: "permits smt"},
		"demand missing":   {vendor: milan, policy: func(p *verifier.SNPPolicy) { *p.Required = snp.PolicySingleSocket }, refusal: "does not demand single socket"},
		"demand met":       {vendor: milan, edit: func(r *snp.Report) { r.Policy |= snp.PolicySingleSocket }, policy: func(p *verifier.SNPPolicy) { *p.Required = snp.PolicySingleSocket }},
		"vmpl":             {vendor: milan, edit: func(r *snp.Report) { r.VMPL = 1 }, refusal: "vmpl 1"},
		"by the host":      {vendor: milan, edit: func(r *snp.Report) { r.VMPL = 0xffffffff }, refusal: "vmpl"},
		"measurement":      {vendor: milan, edit: func(r *snp.Report) { r.Measurement[47] = 1 }, refusal: "launch measurement"},
		"any measurement":  {vendor: milan, edit: func(r *snp.Report) { r.Measurement[47] = 1 }, policy: func(p *verifier.SNPPolicy) { p.Measurements, p.AcceptAnyMeasurement = nil, true }},
		"platform":         {vendor: milan, edit: func(r *snp.Report) { r.PlatformInfo &^= snp.PlatformECC }, refusal: "without ecc"},
		"platform unknown": {vendor: milan, edit: func(r *snp.Report) { r.PlatformInfo |= 1 << 40 }, warning: "bit 40"},
		"firmware":         {vendor: milan, edit: func(r *snp.Report) { r.Committed.Minor = 54 }, refusal: "committed firmware 1.54"},
		"current firmware": {vendor: milan, edit: func(r *snp.Report) { r.Current = snp.Version{Major: 0, Minor: 99} }, refusal: "current firmware 0.99"},
		"committed tcb":    {vendor: milan, edit: func(r *snp.Report) { r.CommittedTCB -= 1 << 56 }, refusal: "committed tcb: microcode 218 below 219"},
		"current tcb":      {vendor: milan, edit: func(r *snp.Report) { r.CurrentTCB-- }, refusal: "current tcb: bootloader 3 below 4"},
		"launch tcb":       {vendor: milan, edit: func(r *snp.Report) { r.LaunchTCB -= 1 << 48 }, refusal: "launch tcb: snp 23 below 24"},
		"reserved tcb":     {vendor: milan, edit: func(r *snp.Report) { r.LaunchTCB |= 1 << 20 }, refusal: "launch tcb"},
		"reported tcb":     {vendor: milan, edit: committed25, policy: func(p *verifier.SNPPolicy) { f := p.Floors["Milan"]; f.SNP = new(uint8(25)); p.Floors["Milan"] = f }, refusal: "reported tcb: snp 24 below 25"},
		"fmc":              {vendor: turin, edit: func(r *snp.Report) { r.LaunchTCB-- }, refusal: "launch tcb: fmc 1 below 2"},
		"fmc unset":        {vendor: turin, policy: func(p *verifier.SNPPolicy) { p.Floors["Turin"] = p.Floors["Milan"] }, refusal: "fmc"},
		"line unset":       {vendor: turin, policy: func(p *verifier.SNPPolicy) { delete(p.Floors, "Turin") }, refusal: "no tcb floors"},
		"vlek":             {vendor: milan, vlek: true, refusal: "VLEK"},
		"vlek allowed":     {vendor: milan, vlek: true, policy: func(p *verifier.SNPPolicy) { *p.AllowVLEK = true }, warning: "VLEK"},
		"masked":           {vendor: milan, edit: func(r *snp.Report) { r.ChipID = [64]byte{} }, refusal: "masks"},
		"masked allowed":   {vendor: milan, edit: func(r *snp.Report) { r.ChipID = [64]byte{} }, policy: func(p *verifier.SNPPolicy) { *p.AllowMaskedChip = true }, warning: "masks"},
	} {
		t.Run(name, func(t *testing.T) {
			k := c.vendor.VCEK(nil)
			if c.vlek {
				k = c.vendor.VLEK(nil)
			}
			e := endorsed(t, c.vendor, k, c.vendor.Revocations())
			r, err := snp.Parse(k.Report(c.edit))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.CheckWhateverTheChip(r); err != nil {
				t.Fatal(err)
			}
			p := snpPolicy()
			if c.policy != nil {
				c.policy(&p)
			}
			got, err := verifier.AppraiseSNP(r, e, p, snptest.Now)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, "refusals", got.Refusals, c.refusal)
			wants(t, "warnings", got.Warnings, c.warning)
		})
	}
}

// committed25 has every TCB but the reported one with snp 25.
func committed25(r *snp.Report) {
	r.CommittedTCB += 1 << 48
	r.CurrentTCB, r.LaunchTCB = r.CommittedTCB, r.CommittedTCB
}

// wants has exactly one reason that holds want, or none where want is empty.
func wants(t *testing.T, kind string, got []string, want string) {
	t.Helper()
	if want == "" && len(got) == 0 {
		return
	}
	if want == "" || len(got) != 1 || !strings.Contains(got[0], want) {
		t.Errorf("%s %q, want one with %q", kind, got, want)
	}
}

func TestSNPFreshness(t *testing.T) {
	v := snptest.Draw(t, "Milan")
	k := v.VCEK(nil)
	r, err := snp.Parse(k.Report(nil))
	if err != nil {
		t.Fatal(err)
	}
	graced := v.Revocations()
	graced.Grace = time.Minute
	e := endorsed(t, v, k, graced)
	for name, c := range map[string]struct {
		e       *snp.Endorsement
		at      time.Time
		verdict attest.Verdict
	}{
		"fresh":         {e, snptest.Now, attest.Affirming},
		"in its grace":  {e, e.Freshness.NextUpdate.Add(time.Second), attest.Warning},
		"past it":       {e, e.Freshness.NextUpdate.Add(time.Hour), attest.Contraindicated},
		"not published": {endorsed(t, v, k, chain.Revocations{Treatment: chain.NotPublished}), snptest.Now, attest.Warning},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verifier.AppraiseSNP(r, c.e, snpPolicy(), c.at)
			if err != nil {
				t.Fatal(err)
			}
			if f := got.Finding(attest.RuntimeOpaque); f.Verdict != c.verdict || f.Reason == "" {
				t.Errorf("%v, want %v", f, c.verdict)
			}
		})
	}
}

func TestSNPPolicyUnset(t *testing.T) {
	for name, unset := range map[string]func(*verifier.SNPPolicy){
		"roots":             func(p *verifier.SNPPolicy) { p.Anchors = nil },
		"root of an anchor": func(p *verifier.SNPPolicy) { p.Anchors = []snp.Anchor{{Product: "Milan", Layout: snp.LayoutMilan}} },
		"floors":            func(p *verifier.SNPPolicy) { p.Floors = nil },
		"floor of one":      func(p *verifier.SNPPolicy) { p.Floors["Milan"] = verifier.SNPFloor{} },
		"firmware":          func(p *verifier.SNPPolicy) { p.MinimumFirmware = nil },
		"required":          func(p *verifier.SNPPolicy) { p.Required = nil },
		"permitted":         func(p *verifier.SNPPolicy) { p.Permitted = nil },
		"platform":          func(p *verifier.SNPPolicy) { p.Platform = nil },
		"vlek":              func(p *verifier.SNPPolicy) { p.AllowVLEK = nil },
		"masked":            func(p *verifier.SNPPolicy) { p.AllowMaskedChip = nil },
		"measurements":      func(p *verifier.SNPPolicy) { p.Measurements = nil },
		"measurements both": func(p *verifier.SNPPolicy) { p.AcceptAnyMeasurement = true },
		"permits debug":     func(p *verifier.SNPPolicy) { *p.Permitted |= snp.PolicyDebug },
		"permits migration": func(p *verifier.SNPPolicy) { *p.Permitted |= snp.PolicyMigrationAgent },
		"demands smt":       func(p *verifier.SNPPolicy) { *p.Required = snp.PolicySMT },
		"unknown platform":  func(p *verifier.SNPPolicy) { *p.Platform = 1 << 50 },
	} {
		t.Run(name, func(t *testing.T) {
			p := snpPolicy()
			unset(&p)
			if _, err := verifier.AppraiseSNP(&snp.Report{}, &snp.Endorsement{}, p, snptest.Now); !errors.Is(err, attest.ErrPolicy) {
				t.Errorf("%v, want policy", err)
			}
		})
	}
}
