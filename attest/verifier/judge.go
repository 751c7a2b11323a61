package verifier

import (
	"cmp"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// judge turns verified facts into findings, one dimension at a time.
type judge struct {
	policy     Policy
	facts      *Verified
	activation Activation
	// voucher is for the endorsement key, certified for the attestation key.
	voucher   voucher
	certified voucher
	processor processor
	match     match
	own       registerSet
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
	j.voucher, j.certified, j.own = j.vouch(), j.certify(), j.ownRegisters()
	j.processor = j.judgeReports()
	j.match = j.matching(j.tier())
	j.crossCheck()
	a := attest.AttestationResult{
		Tiers:        attest.Tiers{Memory: j.processor.memory, Identity: j.tier(), Storage: j.storageTier()},
		Transparency: cmp.Or(j.policy.Transparency, "none"),
		Release:      j.match.release(),
		Findings: []attest.Finding{
			j.identity(), j.configuration(), j.executables(), j.fileSystem(),
			j.hardware(), j.memory(), j.storage(),
			none(attest.SourcedData, "data from outside is not appraised"),
		},
		Differs: (j.match.differs | j.own).names(),
	}
	for _, f := range a.Findings {
		a.Status = max(a.Status, f.Verdict)
	}
	return a
}

func (j *judge) configuration() attest.Finding {
	const d = attest.Configuration
	switch wrong := j.own | j.match.differs&setOf(7, 12, 13); {
	case wrong != 0:
		return bad(d, attest.ErrRegisters, "%s: not what the release, the shown configuration and the claim make", wrong)
	case j.match.unlocked:
		return bad(d, attest.ErrRegisters, "pcr7: the release does not fix it to secure boot, which is wanted above tier software")
	case j.match.manifest == nil:
		return none(d, "configuration and claim are the measured ones; no release fixes the rest")
	}
	return good(d, "configuration and claim are the measured ones, no command line or extension was added")
}

// ownRegisters are the registers of our own measured code that are not what
// the configuration and the claim in the evidence make.
func (j *judge) ownRegisters() registerSet {
	var wrong registerSet
	if j.facts.Registers[attest.RegisterConfig] != attest.Extend(attest.Digest{}, j.facts.Config) {
		wrong |= setOf(attest.RegisterConfig)
	}
	if !attest.IsClaimRegister(j.facts.Registers[attest.RegisterClaim], j.facts.Claim) {
		wrong |= setOf(attest.RegisterClaim)
	}
	return wrong
}

func (j *judge) executables() attest.Finding {
	const d = attest.Executables
	m := j.match
	// The firmware and the ACPI tables are code that the host hands over.
	switch wrong := m.differs & setOf(0, 1, 2, 3, 4, 9, 11); {
	case m.manifest == nil:
		return bad(d, attest.ErrRelease, "no accepted release fixes registers 4, 9 and 11")
	case wrong != 0:
		return bad(d, attest.ErrRegisters, "%s", m.explain(wrong, j.facts))
	case m.manifest.Epoch < j.policy.EpochFloor:
		return bad(d, attest.ErrRelease, "release %s has epoch %d, below the floor %d", m.manifest.Version, m.manifest.Epoch, j.policy.EpochFloor)
	}
	if m.shape == nil {
		return good(d, m.name()+": pcr 4, 9, 11 as signed; nothing ran before it but the host's firmware and acpi tables")
	}
	return good(d, m.name()+": pcr 0, 1, 4, 9, 11 as signed, nothing else ran before it")
}

func (j *judge) fileSystem() attest.Finding {
	const d = attest.FileSystem
	switch {
	case j.match.differs.has(9):
		return bad(d, attest.ErrRegisters, "pcr9: the initial file system is not the release's")
	case j.match.manifest == nil:
		return none(d, "no accepted release fixes register 9")
	}
	if p := j.match.manifest.Payload; p != nil && p.Root != nil {
		return good(d, "the root file system is the measured initrd, in memory; the payload's is on the boot disk, each block checked against the measured hash")
	}
	return good(d, "the root file system is the measured initrd, in memory")
}

func (j *judge) hardware() attest.Finding {
	const d = attest.Hardware
	if wrong := j.match.differs & setOf(0, 1, 5); wrong != 0 {
		return bad(d, attest.ErrRegisters, "%s: not the firmware, acpi tables or shape of machine that the release fixes", wrong)
	}
	if j.processor.finding.Reason != "" {
		return j.processor.finding
	}
	reason := "firmware registers 0, 1 and 5 are reported, not pinned"
	if j.match.shape != nil {
		reason = fmt.Sprintf("registers 0 and 1 are the release's firmware on %s, 5 is reported", j.match.shape)
	}
	if j.tier() <= attest.TierSoftware {
		reason = "no hardware root; " + reason
	}
	return none(d, reason)
}

func (j *judge) memory() attest.Finding {
	if worth := j.processor.memory; worth < j.policy.Minimum.Memory {
		return bad(attest.RuntimeOpaque, attest.ErrPlatform, "tier %s is below the minimum, %s: %s", worth, j.policy.Minimum.Memory, j.processor.opaque.Reason)
	}
	return j.processor.opaque
}

// storageTier is what the sealing of the data key is worth. The seal is made
// by the release's code, so without a release that matches there is none; and
// it is made in the TPM, so that a processor's report which shows the image
// makes it no better: beside it the host may hold an emulator's state.
func (j *judge) storageTier() attest.Tier {
	if j.facts.Claim.IsZero() || j.match.release().IsZero() || j.own != 0 {
		return attest.TierNone
	}
	return min(j.tier(), max(j.voucherTier(), j.processor.tpm))
}

func (j *judge) storage() attest.Finding {
	const d = attest.StorageOpaque
	worth := j.storageTier()
	switch {
	case j.facts.Claim.IsZero():
		return none(d, "unclaimed: there is no data of an owner's yet")
	case worth < j.policy.Minimum.Storage:
		return bad(d, attest.ErrIdentity, "tier %s is below the minimum, %s", worth, j.policy.Minimum.Storage)
	case worth == attest.TierNone:
		return none(d, "no accepted release is shown to have sealed the data key in a tpm that somebody vouches for")
	case worth <= attest.TierSoftware:
		return none(d, "the data key is sealed to a tpm of tier software: whoever runs the machine may hold its state")
	default:
		return good(d, "the data key is sealed to these registers and this claim")
	}
}

func good(d attest.Dimension, reason string) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.Affirming, Reason: reason}
}

// bad is a refusal of a kind; its text is the reason alone.
func bad(d attest.Dimension, kind error, format string, args ...any) attest.Finding {
	reason := fmt.Sprintf(format, args...)
	return attest.Finding{Dimension: d, Verdict: attest.Contraindicated, Reason: reason, Cause: fmt.Errorf("%w: %s", kind, reason)}
}

func warn(d attest.Dimension, format string, args ...any) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.Warning, Reason: fmt.Sprintf(format, args...)}
}

// refuse is bad with the error that is the reason.
func refuse(d attest.Dimension, err error) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.Contraindicated, Reason: err.Error(), Cause: err}
}

func none(d attest.Dimension, reason string) attest.Finding {
	return attest.Finding{Dimension: d, Verdict: attest.NoClaim, Reason: reason}
}
