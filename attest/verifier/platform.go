package verifier

import (
	"crypto"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// report is one hardware report that names this evidence's key and leaf. Who
// vouches for it is not yet looked at.
type report interface {
	// name is the platform's, as its maker spells it.
	name() string
	// names reports whether it is about this key, and about this moment where
	// its data is the guest's own choice: attest.ReportData.
	names(ak *tpm.AK, data [64]byte) bool
	// appraise verifies the report's signatures against the policy's roots and
	// appraises it. Errors are attest's sentinels.
	appraise(*endorsed, *Policy) (platform, error)
}

// platform is what a policy makes of a hardware report.
type platform struct {
	refusals []string
	warnings []string
	// shown is what was shown, in a line.
	shown string
	// encrypted says that the processor keeps the host out of the memory.
	encrypted bool
	// vouched is the tier of identity that the report stands for: it shows by
	// itself which image booted, from its first instruction on, so that no TPM
	// has to be believed, or its author runs the TPM whose key it names. because
	// says which.
	vouched attest.Tier
	because string
	// needsActivation says that the report names an endorsement key, and that
	// vouched holds once somebody has checked that the attestation key lives
	// beside it.
	needsActivation bool
	// keeps is the tier of that author for what the TPM keeps.
	keeps attest.Tier
}

// showsImage is why a report makes an identity that no TPM has to be believed
// for.
const showsImage = "the hardware report names the attestation key and shows the image that booted"

// endorser is a report that names the TPM's endorsement key.
type endorser interface{ endorsementKey() crypto.PublicKey }

// parsers are the kinds of report that are read.
var parsers = map[evidence.Kind]func(evidence.Report) (report, error){
	evidence.KindSNP:      func(r evidence.Report) (report, error) { return parseSNP(r) },
	evidence.KindTDX:      func(r evidence.Report) (report, error) { return parseTDX(r) },
	evidence.KindNitroTPM: func(r evidence.Report) (report, error) { return parseNitro(r) },
	evidence.KindAzure:    func(r evidence.Report) (report, error) { return parseAzure(r) },
}

// parseReports reads the hardware reports and holds each against what it must
// name: the attestation key and the root of the batch. Errors are
// attest.ErrMalformed or attest.ErrBinding.
func parseReports(e *evidence.Evidence, ak *tpm.AK, root attest.Digest) ([]report, error) {
	if len(e.Reports) == 0 {
		return nil, nil
	}
	want := attest.ReportData(ak.Name, e.Batch.Count, root)
	reports := make([]report, 0, len(e.Reports))
	for i, encoded := range e.Reports {
		parse, ok := parsers[encoded.Kind]
		if !ok {
			return nil, fmt.Errorf("%w: reports[%d] is of kind %d, which is not known here", attest.ErrMalformed, i, encoded.Kind)
		}
		r, err := parse(encoded)
		if err != nil {
			return nil, err
		}
		if !r.names(ak, want) {
			return nil, fmt.Errorf("%w: the %s report vouches for another key or another moment", attest.ErrBinding, r.name())
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// processor is what the hardware reports come to.
type processor struct {
	memory   attest.Tier
	identity attest.Tier
	// because says what makes the identity, bySaver that it rests on a saver's
	// word for the activation, notActivated that it would with one.
	because               string
	bySaver, notActivated bool
	// tpm is the tier of a report's author for what the TPM keeps. A report that
	// shows the image by itself raises no TPM.
	tpm     attest.Tier
	finding attest.Finding
	// opaque is what is said of memory.
	opaque attest.Finding
}

// judgeReports appraises each hardware report. A report that is shown and not
// accepted contraindicates the machine, whatever else vouches for it.
func (j *judge) judgeReports() processor {
	p := processor{opaque: none(attest.RuntimeOpaque, "memory is not shown to be encrypted: the host can read it")}
	if j.policy.ReportsNotJudged {
		return p
	}
	var shown, warnings []string
	encrypted := ""
	for _, r := range j.facts.reports {
		judged, err := r.appraise(j.facts.endorsed, &j.policy)
		if err != nil {
			return p.refused(r, err)
		}
		if len(judged.refusals) > 0 {
			return p.refused(r, fmt.Errorf("%w: %s", attest.ErrPlatform, strings.Join(judged.refusals, "; ")))
		}
		shown = append(shown, r.name()+": "+judged.shown)
		warnings = append(warnings, judged.warnings...)
		p.vouched(judged, j.activation)
		if judged.encrypted {
			encrypted = r.name()
		}
	}
	p.conclude(max(p.identity, j.voucherTier()), encrypted)
	if len(shown) > 0 {
		p.finding = good(attest.Hardware, strings.Join(shown, "; "))
	}
	if len(warnings) > 0 {
		p.finding = warn(attest.Hardware, "%s; %s", strings.Join(shown, "; "), strings.Join(warnings, "; "))
	}
	return p
}

// vouched takes a report's word for the identity, where it counts.
func (p *processor) vouched(by platform, a Activation) {
	if by.needsActivation && a == NotActivated {
		p.notActivated = true
		return
	}
	p.tpm = max(p.tpm, by.keeps)
	if by.vouched > p.identity {
		p.identity, p.because, p.bySaver = by.vouched, by.because, by.needsActivation && a == ActivatedBySaver
	}
}

// crossCheck holds registers that a report has of its own against the release
// that the quote's registers match.
func (j *judge) crossCheck() {
	for _, r := range j.facts.reports {
		own, ok := r.(interface{ differing(*release.Boot) []string })
		if !ok || j.match.boot == nil {
			continue
		}
		if wrong := own.differing(j.match.boot); len(wrong) > 0 {
			j.processor = j.processor.refused(r, fmt.Errorf("%w: %s in its document", attest.ErrRegisters, strings.Join(wrong, ", ")))
		}
	}
}

func (p processor) refused(r report, err error) processor {
	p.identity, p.memory, p.tpm = attest.TierNone, attest.TierNone, attest.TierNone
	p.finding = refuse(attest.Hardware, fmt.Errorf("%s: %w", r.name(), err))
	return p
}

// conclude says what encrypted memory is worth. That the report names this
// machine's key is the guest's own choice, and what guest it is, the TPM says:
// whoever can forge the TPM can have any guest of theirs name any key. So an
// emulator's word makes memory no more than consistent, while with a TPM that
// the cloud answers for, or an image that the report itself shows, the memory
// is that of the machine that is spoken with.
func (p *processor) conclude(identity attest.Tier, encrypted string) {
	switch {
	case encrypted == "":
	case identity >= attest.TierProviderRooted:
		p.memory = attest.TierHardware
		p.opaque = good(attest.RuntimeOpaque, encrypted+" encrypts the memory and keeps its host out of it")
	case identity == attest.TierSoftware:
		p.memory = attest.TierSoftware
		p.opaque = none(attest.RuntimeOpaque, "a genuine "+encrypted+" report names this key, as any guest of the host's could: "+
			"nothing but the emulated tpm says that this machine is that guest")
	}
}
