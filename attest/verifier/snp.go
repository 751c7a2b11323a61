package verifier

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/snp"
)

// SNPPolicy is what a verifier accepts of SEV-SNP. Every field must be set;
// pointers tell zero from unset. Not for the policy to say, and always
// demanded: VMPL 0, no debugging, no migration agent.
type SNPPolicy struct {
	// Anchors are the pinned roots, as a rule snp.AMD. At least one.
	Anchors []snp.Anchor
	// Revocation says which issuers publish lists: of AMD's the roots do.
	Revocation chain.Treatment
	// Floors are the least TCB of each product line, such as "Milan". A line
	// without floors is refused.
	Floors map[string]SNPFloor
	// MinimumFirmware is the least version of the firmware that runs, and of
	// what the host has committed to, below which it can't go back.
	MinimumFirmware *SNPFirmware
	// Required are bits of the guest policy that must be set, out of
	// snp.PolicyDemands; zero is none.
	Required *snp.GuestPolicy
	// Permitted are bits of the guest policy that may be set, out of
	// snp.PolicySMT and snp.PolicyCXL; zero is none.
	Permitted *snp.GuestPolicy
	// Platform are bits of PLATFORM_INFO that must be set; zero is none.
	Platform *snp.PlatformInfo
	// AllowVLEK accepts a provider's key in place of the chip's own.
	AllowVLEK *bool
	// AllowMaskedChip accepts a report that does not show which chip it is of.
	AllowMaskedChip *bool
	// Measurements are the accepted launch measurements. Either these, or
	// AcceptAnyMeasurement: with a cloud's own firmware the measurement is the
	// same for its whole fleet and says nothing of the workload.
	Measurements         [][48]byte
	AcceptAnyMeasurement bool
	// MeasuredBoot says that Measurements cover kernel, initrd and command line
	// too, as a direct boot with kernel hashes has it: the report then shows by
	// itself what runs, and no TPM has to be believed.
	MeasuredBoot bool
}

// SNPFloor is the least security version of each part of a platform. FMC is
// for product lines from Turin on, and refuses those where it is unset.
type SNPFloor struct{ Bootloader, TEE, SNP, Microcode, FMC *uint8 }

// SNPFirmware is a version of the SNP firmware, which is that of its ABI.
type SNPFirmware struct{ Major, Minor uint8 }

// check fails closed.
func (p SNPPolicy) check() error {
	for _, field := range [...]struct {
		name  string
		unset bool
	}{
		{"list of roots", len(p.Anchors) == 0},
		{"root of an anchor", slices.ContainsFunc(p.Anchors, func(a snp.Anchor) bool { return a.Root == nil })},
		{"treatment of revocation", p.Revocation == 0},
		{"accepted measurements of a measured boot", p.MeasuredBoot && p.AcceptAnyMeasurement},
		{"tcb floors", len(p.Floors) == 0},
		{"minimum firmware", p.MinimumFirmware == nil},
		{"required guest policy", p.Required == nil},
		{"permitted guest policy", p.Permitted == nil},
		{"required platform", p.Platform == nil},
		{"allowing of a vlek", p.AllowVLEK == nil},
		{"allowing of a masked chip", p.AllowMaskedChip == nil},
		{"choice of measurements", (len(p.Measurements) > 0) == p.AcceptAnyMeasurement},
	} {
		if field.unset {
			return fmt.Errorf("%w: snp: %s is unset", attest.ErrPolicy, field.name)
		}
	}
	for line, f := range p.Floors {
		if f.Bootloader == nil || f.TEE == nil || f.SNP == nil || f.Microcode == nil {
			return fmt.Errorf("%w: snp tcb floors of %s leave something unset", attest.ErrPolicy, line)
		}
	}
	const permissible = snp.PolicySMT | snp.PolicyCXL
	if *p.Required&^snp.PolicyDemands != 0 || *p.Permitted&^permissible != 0 || p.Platform.Unknown() != 0 {
		return fmt.Errorf("%w: snp guest policy or platform has bits that are not for it", attest.ErrPolicy)
	}
	return nil
}

// AppraiseSNP judges a report that e.CheckWhateverTheChip has passed, at the
// given time. The error is attest.ErrPolicy.
func AppraiseSNP(r *snp.Report, e *snp.Endorsement, p SNPPolicy, at time.Time) (ReportResult, error) {
	if err := p.check(); err != nil {
		return ReportResult{}, err
	}
	j := &snpJudge{r: r, e: e, p: p}
	j.key()
	j.freshness(at)
	j.guest()
	j.platform()
	j.floors()
	return j.ReportResult, nil
}

type snpJudge struct {
	ReportResult
	r *snp.Report
	e *snp.Endorsement
	p SNPPolicy
}

func (j *snpJudge) refuse(format string, args ...any) {
	j.Refusals = append(j.Refusals, fmt.Sprintf(format, args...))
}

func (j *snpJudge) warn(format string, args ...any) {
	j.Warnings = append(j.Warnings, fmt.Sprintf(format, args...))
}

func (j *snpJudge) show(format string, args ...any) {
	j.Shown = append(j.Shown, fmt.Sprintf(format, args...))
}

func (j *snpJudge) key() {
	switch {
	case j.e.Kind == snp.VLEK && !*j.p.AllowVLEK:
		j.refuse("signed with a key of the provider %q (VLEK), not of the chip", j.e.CSP)
	case j.e.Kind == snp.VLEK:
		j.warn("signed with a key of the provider %q (VLEK): amd vouches for a chip at this tcb, not for which", j.e.CSP)
	case j.r.ChipMasked() && !*j.p.AllowMaskedChip:
		j.refuse("the host masks which chip it is")
	case j.r.ChipMasked():
		j.warn("the host masks which chip it is")
	default:
		j.show("signed by chip %s…", hex.EncodeToString(j.e.HWID[:8]))
	}
}

func (j *snpJudge) freshness(at time.Time) {
	if f := j.e.Freshness; !f.Valid.Contains(at) {
		j.refuse("certificates or their revocation lists are not of this time")
	} else if f.Stale(at) {
		j.warn("revocation list of %s is past its next update %s, used in its grace", f.Publisher, f.NextUpdate.UTC().Format(time.RFC3339))
	} else if f.Lists == 0 {
		j.warn("no revocation list was looked at")
	}
}

func (j *snpJudge) guest() {
	if j.r.VMPL != 0 {
		j.refuse("asked for at vmpl %d, not 0", j.r.VMPL)
	}
	permissive := j.r.Policy & snp.PolicyPermissive
	if over := permissive &^ *j.p.Permitted; over != 0 {
		j.refuse("guest policy permits %s", over)
	}
	if missing := *j.p.Required &^ j.r.Policy; missing != 0 {
		j.refuse("guest policy does not demand %s", missing)
	}
	measurement := hex.EncodeToString(j.r.Measurement[:])
	switch {
	case j.p.AcceptAnyMeasurement:
		j.show("launch measurement %s is not compared", measurement)
	case !slices.Contains(j.p.Measurements, j.r.Measurement):
		j.refuse("launch measurement %s is not accepted", measurement)
	default:
		j.show("launch measurement %s", measurement)
	}
}

func (j *snpJudge) platform() {
	if missing := *j.p.Platform &^ j.r.PlatformInfo; missing != 0 {
		j.refuse("platform is without %s", missing)
	}
	if unknown := j.r.PlatformInfo.Unknown(); unknown != 0 {
		j.warn("platform has features that are not known here: %s", unknown)
	}
	j.firmware("current", j.r.Current)
	j.firmware("committed", j.r.Committed)
}

func (j *snpJudge) firmware(name string, v snp.Version) {
	least := *j.p.MinimumFirmware
	if v.Major < least.Major || v.Major == least.Major && v.Minor < least.Minor {
		j.refuse("%s firmware %d.%d is below %d.%d", name, v.Major, v.Minor, least.Major, least.Minor)
	}
}

// floors holds all four TCBs against the floor: what is reported is the
// host's choice, what is committed is as far as it can go back, and what was
// there at launch saw the guest's memory.
func (j *snpJudge) floors() {
	floor, ok := j.p.Floors[j.e.Product]
	if !ok {
		j.refuse("no tcb floors for a processor of the %s line", j.e.Product)
		return
	}
	least := snp.TCB{Bootloader: *floor.Bootloader, TEE: *floor.TEE, SNP: *floor.SNP, Microcode: *floor.Microcode}
	if floor.FMC != nil {
		least.FMC = *floor.FMC
	} else if j.e.Layout == snp.LayoutTurin {
		j.refuse("no tcb floor for the fmc of %s", j.e.Product)
	}
	for _, tcb := range [...]struct {
		name string
		raw  snp.RawTCB
	}{
		{"reported", j.r.ReportedTCB},
		{"committed", j.r.CommittedTCB},
		{"current", j.r.CurrentTCB},
		{"launch", j.r.LaunchTCB},
	} {
		t, err := tcb.raw.Decode(j.e.Layout)
		if err != nil {
			j.refuse("%s tcb: %v", tcb.name, err)
		} else if below := t.Below(least); len(below) > 0 {
			j.refuse("%s tcb: %s", tcb.name, strings.Join(below, ", "))
		}
	}
	j.show("%s at tcb %s", j.e.Product, j.e.TCB)
}
