package verifier

import (
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// voucher is the best of the accepted authorities that vouch for a key.
type voucher struct {
	tier attest.Tier
	// by is what the authority is called.
	by string
	// stale says which revocation list is used in its grace.
	stale string
	// err says why none vouches.
	err error
}

// best asks each authority.
func best(anchors []TrustAnchor, p *Policy, ask func(TrustAnchor) (*anchored, error)) voucher {
	var found voucher
	if len(anchors) == 0 {
		found.err = fmt.Errorf("%w: the policy accepts none", attest.ErrIdentity)
	}
	for _, root := range anchors {
		path, err := ask(root)
		if err != nil {
			found.err = telling(found.err, err)
		} else if root.Tier > found.tier {
			found.tier, found.by, found.stale = root.Tier, root.Certificate.Subject.CommonName, staleness(path.fresh, p.Now)
		}
	}
	return found
}

// vouch is the worth of the authority that vouches for the endorsement key.
func (j *judge) vouch() voucher {
	return best(j.policy.TrustAnchors, &j.policy, func(root TrustAnchor) (*anchored, error) {
		return j.facts.endorsed.ekAnchored(root.Certificate, &j.policy)
	})
}

// certify is the worth of the authority that certifies the attestation key
// itself; nothing where the key has no certificate.
func (j *judge) certify() voucher {
	if j.facts.endorsed.ak == nil {
		return voucher{}
	}
	return best(j.policy.AKAnchors, &j.policy, func(root TrustAnchor) (*anchored, error) {
		return j.facts.endorsed.akAnchored(root.Certificate, &j.policy)
	})
}

// tier is the worth of the machine's identity: of the authority that vouches
// for its TPM, or of a hardware report that shows more.
func (j *judge) tier() attest.Tier {
	if j.processor.finding.Verdict >= attest.Contraindicated {
		return attest.TierNone
	}
	return max(j.voucherTier(), j.processor.identity)
}

// voucherTier is what authorities are worth for the attestation key. One of the
// endorsement key is worth nothing until somebody has checked that both live in
// one TPM: endorsement certificates are public, and anybody's can be shown.
func (j *judge) voucherTier() attest.Tier {
	if j.activation == NotActivated {
		return j.certified.tier
	}
	return max(j.voucher.tier, j.certified.tier)
}

func (j *judge) identity() attest.Finding {
	const d = attest.InstanceIdentity
	tier := j.tier()
	switch {
	case errors.Is(j.voucher.err, attest.ErrRevoked):
		return refuse(d, j.voucher.err)
	case errors.Is(j.certified.err, attest.ErrRevoked):
		return refuse(d, j.certified.err)
	case tier == attest.TierNone && j.processor.finding.Cause != nil:
		return bad(d, attest.ErrPlatform, "the hardware report that vouches for the key is refused")
	case tier == attest.TierNone && (j.voucher.tier > tier || j.processor.notActivated):
		return none(d, "nobody has checked that the attestation key lives beside the endorsement key")
	case tier == attest.TierNone && j.certified.err != nil:
		return refuse(d, fmt.Errorf("no accepted root vouches for the attestation key: %w", j.certified.err))
	case tier == attest.TierNone:
		return refuse(d, fmt.Errorf("no accepted root vouches for the endorsement key: %w", j.voucher.err))
	case tier < j.policy.Minimum.Identity:
		return bad(d, attest.ErrIdentity, "tier %s is below the minimum, %s", tier, j.policy.Minimum.Identity)
	}
	worth := ""
	if tier == attest.TierSoftware {
		worth = "; of tier software: whoever runs the machine could forge this"
	}
	// A report's word is enough for its own tier, and for no higher one; so is
	// a certificate's.
	switch tier {
	case j.processor.identity:
		return j.reported()
	case j.certified.tier:
		return j.fresh(j.certified, "an accepted root certifies the attestation key"+j.instance()+worth)
	}
	return j.endorsedBy(worth)
}

// reported is what a hardware report makes of the identity.
func (j *judge) reported() attest.Finding {
	if j.processor.bySaver {
		return warn(attest.InstanceIdentity, "%s; that it does is the saver's word", j.processor.because)
	}
	return good(attest.InstanceIdentity, j.processor.because)
}

// endorsedBy is what an authority of the endorsement key makes of it.
func (j *judge) endorsedBy(worth string) attest.Finding {
	how := "attestation key activated on this connection"
	switch j.activation {
	case ActivatedBefore:
		how = "attestation key as pinned"
	case ActivatedBySaver:
		return warn(attest.InstanceIdentity, "%s; that the attestation key lives beside the endorsement key is the saver's word%s", j.voucher.who(), worth)
	}
	return j.fresh(j.voucher, j.voucher.who()+", "+how+worth)
}

// who says whose word for the endorsement key it is.
func (v voucher) who() string {
	if v.by == "" {
		return "accepted endorsement root"
	}
	return fmt.Sprintf("accepted endorsement root %.100q", v.by)
}

// fresh affirms by a voucher's word, with a warning where it is stale.
func (j *judge) fresh(v voucher, reason string) attest.Finding {
	if v.stale != "" {
		return warn(attest.InstanceIdentity, "%s; %s", reason, v.stale)
	}
	return good(attest.InstanceIdentity, reason)
}

// instance is which of a cloud's machines the certificate says that it is.
func (j *judge) instance() string {
	if j.facts.endorsed.instance == nil {
		return ""
	}
	return " of " + j.facts.endorsed.instance.String()
}
