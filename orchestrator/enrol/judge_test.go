package enrol

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// What a verdict was reached by has a name of its own: another release, tier or
// root is another policy.
func TestPoliciesAreToldApart(t *testing.T) {
	root := func(b byte, tier attest.Tier) verifier.TrustAnchor {
		return verifier.TrustAnchor{Certificate: &x509.Certificate{Raw: []byte{b}}, Tier: tier}
	}
	one := []verifier.TrustAnchor{root(1, attest.TierSoftware)}
	known := map[string]string{}
	for name, id := range map[string]string{
		"one":             policyID([]attest.ReleaseDigest{{1}}, attest.TierSoftware, one),
		"another release": policyID([]attest.ReleaseDigest{{2}}, attest.TierSoftware, one),
		"another minimum": policyID([]attest.ReleaseDigest{{1}}, attest.TierProviderRooted, one),
		"another root":    policyID([]attest.ReleaseDigest{{1}}, attest.TierSoftware, []verifier.TrustAnchor{root(2, attest.TierSoftware)}),
		"its worth":       policyID([]attest.ReleaseDigest{{1}}, attest.TierSoftware, []verifier.TrustAnchor{root(1, attest.TierProviderRooted)}),
		"no root":         policyID([]attest.ReleaseDigest{{1}}, attest.TierSoftware, nil),
	} {
		if other, ok := known[id]; ok {
			t.Errorf("%s is called as %s", name, other)
		}
		known[id] = name
	}
}

// An appraisal fails for what speaks against the machine, or else for what has to
// be established and is not.
func TestWorstFinding(t *testing.T) {
	finding := func(d attest.Dimension, v attest.Verdict) attest.Finding {
		return attest.Finding{Dimension: d, Verdict: v, Reason: "why"}
	}
	good := finding(attest.InstanceIdentity, attest.Affirming)
	for want, all := range map[attest.Dimension][]attest.Finding{
		attest.Executables:   {good, finding(attest.Configuration, attest.Affirming), finding(attest.Executables, attest.NoClaim)},
		attest.Configuration: {good, finding(attest.Configuration, attest.Contraindicated), finding(attest.Executables, attest.NoClaim)},
		attest.FileSystem: {
			good, finding(attest.Configuration, attest.Affirming), finding(attest.Executables, attest.Affirming),
			finding(attest.FileSystem, attest.Contraindicated), finding(attest.Hardware, attest.NoClaim),
		},
		attest.InstanceIdentity: {finding(attest.InstanceIdentity, attest.Contraindicated), finding(attest.Configuration, attest.NoClaim)},
	} {
		if got := worst(attest.AttestationResult{Findings: all}); !strings.HasPrefix(got, string(want)+" is ") {
			t.Errorf("it fails for %q, want %s", got, want)
		}
	}
}

// A proof is brought again once it is old, and where a clock was set back.
func TestProofsAge(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	p := new(pending)
	if !p.stale(now, time.Hour) {
		t.Error("none was brought")
	}
	p.brought(now)
	for after, want := range map[time.Duration]bool{0: false, time.Hour - 1: false, time.Hour: true, -1: true} {
		if got := p.stale(now.Add(after), time.Hour); got != want {
			t.Errorf("%s later it is stale: %t", after, got)
		}
	}
}
