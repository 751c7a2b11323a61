package verifier

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// judge turns verified facts into findings, one dimension at a time.
type judge struct {
	policy     Policy
	facts      *Verified
	activation Activation
}

// Appraise judges verified evidence. The error is attest.ErrPolicy: a policy
// that leaves something unset judges nothing. A machine that proves what it is
// and is not what the policy accepts has a result that is not Accepted.
func Appraise(v *Verified, activation Activation, p Policy) (attest.AttestationResult, error) {
	if err := p.check(); err != nil {
		return attest.AttestationResult{}, err
	}
	return (&judge{policy: p, facts: v, activation: activation}).appraise(), nil
}

func (j *judge) appraise() attest.AttestationResult {
	root := j.tier()
	match := j.match(root)
	// No evidence of memory is taken yet, so its tier is none whoever vouches
	// for the TPM.
	a := attest.AttestationResult{
		Tiers:        attest.Tiers{Identity: root, Storage: j.storageTier(root, match)},
		Transparency: cmp.Or(j.policy.Transparency, "none"),
		Release:      match.release(),
		Findings: []attest.Finding{
			j.identity(root),
			j.configuration(match),
			j.executables(match),
			j.fileSystem(match),
			j.hardware(root, match),
			none(attest.RuntimeOpaque, "memory is not shown to be encrypted: the host can read it"),
			j.storage(root, match),
			none(attest.SourcedData, "data from outside is not appraised"),
		},
	}
	a.Differs = append(match.differs, j.ownRegisters()...)
	slices.SortFunc(a.Differs, byNumber)
	for _, f := range a.Findings {
		a.Status = max(a.Status, f.Verdict)
	}
	return a
}

// tier is the worth of the root that vouches for the endorsement key.
func (j *judge) tier() attest.Tier {
	best := attest.TierNone
	for _, root := range j.policy.TrustAnchors {
		if j.facts.ek.VerifyRoot(root.Certificate, j.policy.Now) == nil {
			best = max(best, root.Tier)
		}
	}
	return best
}

func (j *judge) identity(root attest.Tier) attest.Finding {
	const d = attest.InstanceIdentity
	switch {
	case root == attest.TierNone:
		return bad(d, "no accepted root vouches for the endorsement key")
	case root < j.policy.MinimumTier:
		return bad(d, "tier %s is below the minimum, %s", root, j.policy.MinimumTier)
	}
	worth := ""
	if root == attest.TierSoftware {
		worth = "; an emulated tpm: whoever runs the machine could forge this"
	}
	switch j.activation {
	case ActivatedHere:
		return good(d, "accepted endorsement root, attestation key activated on this connection%s", worth)
	case ActivatedBefore:
		return good(d, "accepted endorsement root, attestation key as pinned%s", worth)
	default:
		return none(d, "nobody has checked that the attestation key lives beside the endorsement key")
	}
}

func (j *judge) configuration(m match) attest.Finding {
	const d = attest.Configuration
	switch wrong := append(j.ownRegisters(), m.only("pcr12", "pcr13", "pcr7")...); {
	case len(wrong) > 0:
		return bad(d, "%s: not what the release, the shown configuration and the claim make", strings.Join(wrong, ", "))
	case m.unlocked:
		return bad(d, "pcr7: the release does not fix it to secure boot, which is wanted above tier software")
	case m.manifest == nil:
		return none(d, "configuration and claim are the measured ones; no release fixes the rest")
	}
	return good(d, "configuration and claim are the measured ones, no command line or extension was added")
}

// ownRegisters names the registers of our own measured code that are not what
// the configuration and the claim in the evidence make.
func (j *judge) ownRegisters() []string {
	var wrong []string
	if j.facts.Registers[attest.RegisterConfig] != attest.Extend(attest.Digest{}, j.facts.Config) {
		wrong = append(wrong, "pcr14")
	}
	if !slices.Contains(attest.ClaimRegisters(j.facts.Claim), j.facts.Registers[attest.RegisterClaim]) {
		wrong = append(wrong, "pcr15")
	}
	return wrong
}

func (j *judge) executables(m match) attest.Finding {
	const d = attest.Executables
	// The firmware and the ACPI tables are code that the host hands over.
	switch wrong := m.only("pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr9", "pcr11"); {
	case m.manifest == nil:
		return bad(d, "no accepted release fixes registers 4, 9 and 11")
	case len(wrong) > 0:
		return bad(d, "%s", strings.Join(m.explain(wrong, j.facts.Registers), "; "))
	case m.manifest.Epoch < j.policy.EpochFloor:
		return bad(d, "release %s has epoch %d, below the floor %d", m.manifest.Version, m.manifest.Epoch, j.policy.EpochFloor)
	}
	if m.shape == nil {
		return good(d, "release %s, epoch %d: pcr 4, 9, 11 as signed; nothing ran before it but the host's firmware and acpi tables",
			m.manifest.Version, m.manifest.Epoch)
	}
	return good(d, "release %s, epoch %d: pcr 0, 1, 4, 9, 11 as signed, nothing else ran before it", m.manifest.Version, m.manifest.Epoch)
}

func (j *judge) fileSystem(m match) attest.Finding {
	const d = attest.FileSystem
	switch {
	case len(m.only("pcr9")) > 0:
		return bad(d, "pcr9: the initial file system is not the release's")
	case m.manifest == nil:
		return none(d, "no accepted release fixes register 9")
	}
	return good(d, "the root file system is the measured initrd, in memory")
}

func (j *judge) hardware(root attest.Tier, m match) attest.Finding {
	const d = attest.Hardware
	if wrong := m.only("pcr0", "pcr1", "pcr5"); len(wrong) > 0 {
		return bad(d, "%s: not the firmware, acpi tables or shape of machine that the release fixes", strings.Join(wrong, ", "))
	}
	reason := "firmware registers 0, 1 and 5 are reported, not pinned"
	if m.shape != nil {
		reason = fmt.Sprintf("registers 0 and 1 are the release's firmware on %s, 5 is reported", m.shape)
	}
	if root <= attest.TierSoftware {
		reason = "no hardware root; " + reason
	}
	return none(d, reason)
}

// storageTier is what the sealing of the data key is worth. The seal is made
// by the release's code, so without a release that matches there is none.
func (j *judge) storageTier(root attest.Tier, m match) attest.Tier {
	if j.facts.Claim.IsZero() || m.release().IsZero() || len(j.ownRegisters()) > 0 {
		return attest.TierNone
	}
	return root
}

func (j *judge) storage(root attest.Tier, m match) attest.Finding {
	const d = attest.StorageOpaque
	switch worth := j.storageTier(root, m); {
	case j.facts.Claim.IsZero():
		return none(d, "unclaimed: there is no data of an owner's yet")
	case worth == attest.TierNone:
		return none(d, "no accepted release is shown to have sealed the data key")
	case worth <= attest.TierSoftware:
		return none(d, "the data key is sealed to an emulated tpm whose state the host holds")
	default:
		return good(d, "the data key is sealed to these registers and this claim")
	}
}

func good(d attest.Dimension, format string, args ...any) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.Affirming, Reason: fmt.Sprintf(format, args...)}
}

func bad(d attest.Dimension, format string, args ...any) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.Contraindicated, Reason: fmt.Sprintf(format, args...)}
}

func none(d attest.Dimension, reason string) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.NoClaim, Reason: reason}
}
