// Package verifier verifies evidence and appraises it against releases and a
// policy, one after the other and each once.
//
// Invariants: what is appraised was verified; a policy with a field left unset rejects; registers decide and
// logs explain; each dimension is judged by itself, with a reason a person can
// read; what is not established makes no claim and says so.
package verifier

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/release"
)

// TrustAnchor is an accepted authority of endorsement certificates and what its word
// is worth: an emulator's is attest.TierSoftware, and nothing here makes it
// more.
type TrustAnchor struct {
	Certificate *x509.Certificate
	Tier        attest.Tier
}

// Policy is what a verifier accepts.
type Policy struct {
	// TrustAnchors vouch for endorsement keys. At least one, but where a
	// hardware report or one of AKAnchors can vouch for the machine.
	TrustAnchors []TrustAnchor
	// AKAnchors vouch for attestation keys directly, by certificate: a cloud
	// says so that the key lives in a TPM of its own. They vouch for no
	// endorsement key, and TrustAnchors for no attestation key.
	AKAnchors []TrustAnchor
	// Releases are the verified manifests, by digest, of which one must match
	// the registers. At least one.
	Releases map[attest.ReleaseDigest]*release.Manifest
	// Minimum is the least that each property must reach. Identity must be
	// set; attest.TierNone for memory or storage has them reported only, and
	// storage counts once the machine is claimed.
	Minimum attest.Tiers
	// EKRevocation says which issuers of endorsement certificates publish
	// revocation lists, RevocationLists are lists beside those that come with
	// the evidence, and Grace is how long any is still used past its next
	// update: the appraisal then warns.
	EKRevocation chain.Treatment
	// AKRevocation is the same of certificates of attestation keys; to be set
	// with AKAnchors.
	AKRevocation    chain.Treatment
	RevocationLists []*chain.List
	Grace           time.Duration
	// ReportsNotJudged says that hardware reports are passed over, whatever
	// they show, and that no tier comes of them: a control plane keeps its fleet
	// by registers, and leaves its machines' processors to their owners. With
	// it SNP, TDX, Nitro and Azure are nil.
	ReportsNotJudged bool
	// SNP says which AMD SEV-SNP machines are accepted; nil refuses evidence
	// that shows such a report.
	SNP *SNPPolicy
	// TDX says which Intel TDX machines are accepted; nil refuses evidence that
	// shows such a report.
	TDX *TDXPolicy
	// Nitro says the same of AWS NitroTPM documents, Azure of reports of a
	// paravisor.
	Nitro *NitroPolicy
	Azure *AzurePolicy
	// EpochFloor refuses releases with a lower epoch; zero is a floor too,
	// since epochs start at one.
	EpochFloor uint64
	// Transparency is what the caller has established of the log that vouches
	// for the releases, in words; empty where no log was asked.
	Transparency string
	// The verifier's time, at which certificates must be valid.
	Now time.Time
}

// check fails closed: whatever is unset is an error, never "not checked".
func (p Policy) check() error {
	switch {
	case len(p.Releases) == 0:
		return fmt.Errorf("%w: no accepted release", attest.ErrPolicy)
	case p.Now.IsZero():
		return fmt.Errorf("%w: no time", attest.ErrPolicy)
	}
	for digest, manifest := range p.Releases {
		if manifest == nil {
			return fmt.Errorf("%w: release %s has no manifest", attest.ErrPolicy, digest)
		}
	}
	return p.CheckButReleases()
}

// CheckButReleases is what Appraise checks of a policy first, but for the
// releases and the time, which are each verification's own. The error is
// attest.ErrPolicy.
func (p Policy) CheckButReleases() error {
	switch {
	case len(p.TrustAnchors) == 0 && len(p.AKAnchors) == 0 && !p.acceptsReports():
		return fmt.Errorf("%w: no accepted endorsement root, and no other that could vouch for a machine", attest.ErrPolicy)
	case p.Minimum.Identity <= attest.TierNone:
		return fmt.Errorf("%w: no minimum tier of identity", attest.ErrPolicy)
	case p.EKRevocation == 0:
		return fmt.Errorf("%w: revocation of endorsement certificates is left unsaid", attest.ErrPolicy)
	case len(p.AKAnchors) > 0 && p.AKRevocation == 0:
		return fmt.Errorf("%w: revocation of attestation keys' certificates is left unsaid", attest.ErrPolicy)
	}
	if p.ReportsNotJudged && p.acceptsReports() {
		return fmt.Errorf("%w: hardware reports are not to be judged, and are said how", attest.ErrPolicy)
	}
	if err := p.checkReports(); err != nil {
		return err
	}
	for _, root := range slices.Concat(p.TrustAnchors, p.AKAnchors) {
		if root.Certificate == nil || root.Tier <= attest.TierNone {
			return fmt.Errorf("%w: an endorsement root has no certificate or no tier", attest.ErrPolicy)
		}
	}
	return nil
}

// acceptsReports reports whether some hardware report is accepted.
func (p Policy) acceptsReports() bool {
	return p.SNP != nil || p.TDX != nil || p.Nitro != nil || p.Azure != nil
}

func (p Policy) checkReports() error {
	if p.Nitro != nil {
		if err := p.Nitro.check(); err != nil {
			return err
		}
	}
	if p.SNP != nil {
		if err := p.SNP.check(); err != nil {
			return err
		}
	}
	if p.TDX != nil {
		if err := p.TDX.check(); err != nil {
			return err
		}
	}
	if p.Azure != nil {
		return p.Azure.check(&p)
	}
	return nil
}

// Activation says who challenged the attestation key to prove that it lives
// beside the endorsement key.
type Activation uint8

// The kinds of activation. The zero value fails closed.
const (
	// NotActivated means that nobody this verifier trusts has done so.
	NotActivated Activation = iota
	// ActivatedHere means that this verifier did so itself on this connection.
	ActivatedHere
	// ActivatedBefore means that this verifier did so earlier and has pinned
	// the key since.
	ActivatedBefore
	// ActivatedBySaver means that somebody else says so, who saved the
	// evidence. It is reported as their word and nothing more.
	ActivatedBySaver
)
