package enrol

import (
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// sign states the verdict, by the named policy, in the role of the control plane.
func (s *Server) sign(policy string, evidence *verifier.Verified, nonce attest.Nonce, v verdict) (string, time.Time, error) {
	at := s.Clock()
	by := ear.Issuer{Role: ear.ControlPlane, Build: ear.ThisBuild(), Policies: []string{policy}, At: at}
	machine := ear.Subject{AK: evidence.AK, EK: evidence.EK, Config: evidence.Config, Claim: evidence.Claim, Nonce: nonce}
	token, err := ear.Sign(s.Random, ear.Issue(by, machine, v.stated()), s.ResultKey)
	if err != nil {
		return "", at, fmt.Errorf("stating a verdict: %w", err)
	}
	return token, at, nil
}

// stated is the result with what the control plane alone objects to: that the
// configuration is not the one that it gave the machine.
func (v verdict) stated() attest.AttestationResult {
	a := v.result
	if v.accepted || !a.Accepted() {
		return a
	}
	a.Findings = slices.Clone(a.Findings)
	for n := range a.Findings {
		if a.Findings[n].Dimension == attest.Configuration {
			a.Findings[n].Verdict, a.Findings[n].Reason = attest.Contraindicated, v.reason
		}
	}
	a.Status = attest.Contraindicated
	return a
}

// policyID names what a machine that may run the releases is appraised against.
func policyID(of []attest.ReleaseDigest, minimum attest.Tier, roots []verifier.TrustAnchor) string {
	encoded := []byte("shed/control-plane-policy/1")
	for _, digest := range of {
		encoded = fmt.Appendf(encoded, "\x00%s", digest)
	}
	encoded = fmt.Appendf(encoded, "\x00%s", minimum)
	for _, root := range roots {
		encoded = fmt.Appendf(encoded, "\x00%s\x00%s", root.Tier, attest.Sum(root.Certificate.Raw))
	}
	return ear.PolicyID(encoded)
}
