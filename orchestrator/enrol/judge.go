package enrol

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// verdict is what the operator makes of a machine's evidence.
type verdict struct {
	accepted bool
	reason   string
	result   attest.AttestationResult
	// of is the release that the registers match, and the one that the machine is
	// known to run where they match none.
	of orchestrator.Release
	// token is the verdict as the control plane's word, signed at that time.
	token string
	at    time.Time
}

// judge appraises evidence against the releases that the machine may run, the one
// that it is known to run first, and signs what it finds. An error means that no
// verdict was reached.
func (s *Server) judge(i orchestrator.Instance, rels []orchestrator.Release, evidence *verifier.Verified, c *challenged) (verdict, error) {
	accepted := make(map[attest.ReleaseDigest]*release.Manifest, len(rels))
	for _, rel := range rels {
		manifest, err := release.ParseManifest(rel.Manifest)
		if err != nil {
			return verdict{}, fmt.Errorf("reading a stored manifest: %w", err)
		}
		accepted[rel.Digest] = manifest
	}
	roots, err := s.anchors(c)
	if err != nil {
		return verdict{}, err
	}
	result, err := s.Appraise(evidence, verifier.ActivatedHere, verifier.Policy{
		TrustAnchors: roots, Releases: accepted,
		Minimum: attest.Tiers{Identity: s.MinimumTier}, EKRevocation: chain.RequiredWhereNamed, ReportsNotJudged: true, Now: s.Clock(),
	})
	if err != nil {
		// The fault is here: the machine may try again once it is mended.
		return verdict{}, fmt.Errorf("appraising: %v", err) //nolint:errorlint // it is no refusal of the machine's
	}
	v := verdict{result: result, of: rels[0], reason: s.objection(i, evidence, result)}
	if n := slices.IndexFunc(rels, func(rel orchestrator.Release) bool { return rel.Digest == result.Release }); n > 0 {
		v.of = rels[n]
	}
	v.accepted = v.reason == ""
	if v.accepted {
		v.reason = fmt.Sprintf("accepted at tier %s", result.Tiers.Identity)
	}
	v.token, v.at, err = s.sign(policyID(i.MayRun(), s.MinimumTier, roots), evidence, c.nonce, v)
	return v, err
}

// anchors are the accepted roots. One that certifies what a provider names counts
// on a connection on which the provider was asked, and nowhere else: else whoever
// had been certified once could come back as another machine.
func (s *Server) anchors(c *challenged) ([]verifier.TrustAnchor, error) {
	roots, err := s.TrustAnchors()
	if err != nil || c.named == nil {
		return roots, err
	}
	return append(slices.Clone(roots), *c.named), nil
}

// objection says why a machine is not routed to; empty where it may be.
func (s *Server) objection(i orchestrator.Instance, evidence *verifier.Verified, a attest.AttestationResult) string {
	switch {
	case len(a.Differs) > 0:
		return "registers differ: " + strings.Join(a.Differs, ", ")
	case evidence.Config != i.Plan.ConfigDigest:
		return "the configuration that it measured (pcr14) is not the one it was given"
	case !a.Accepted():
		return worst(a)
	case a.Tiers.Identity < s.MinimumTier:
		return fmt.Sprintf("its tier is %s, below the minimum of %s", a.Tiers.Identity, s.MinimumTier)
	}
	return ""
}

// worst is the finding that an appraisal fails for.
func worst(a attest.AttestationResult) string {
	found := a.Finding(attest.InstanceIdentity)
	for _, d := range attest.Dimensions {
		f := a.Finding(d)
		required := d == attest.InstanceIdentity || d == attest.Configuration || d == attest.Executables
		if f.Verdict > found.Verdict || required && f.Verdict == attest.NoClaim && found.Verdict < attest.Contraindicated {
			found = f
		}
	}
	return fmt.Sprintf("%s is %s: %s", found.Dimension, found.Verdict, found.Reason)
}
