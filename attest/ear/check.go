package ear

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/toolshed-cloud/shed/attest"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: ear: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}

// verdicts are the values of a dimension that are written here, by the names
// that statuses have.
var verdicts = map[string]attest.Verdict{
	"none": attest.NoClaim, "affirming": attest.Affirming, "warning": attest.Warning, "contraindicated": attest.Contraindicated,
}

const maxPolicies = 8

// check refuses claims that Issue does not make.
func (c *Claims) check() error {
	machine := &c.Submods.Machine
	switch {
	case c.Profile != Profile:
		return malformed("eat_profile is %.80q, want %q", c.Profile, Profile)
	case c.IssuedAt <= 0:
		return malformed("iat is %d", c.IssuedAt)
	case c.Expires != 0 && c.Expires <= c.IssuedAt:
		return malformed("exp is %d, not after iat %d", c.Expires, c.IssuedAt)
	case c.Verifier.Developer != Developer || len(c.Verifier.Build) > maxText:
		return malformed("ear_verifier_id is not this verifier's")
	case c.Issued.Role != OwnerClient && c.Issued.Role != ControlPlane && c.Issued.Role != ThirdParty:
		return malformed("role %.40q is unknown", c.Issued.Role)
	case c.Status != machine.Status:
		return malformed("ear_status is %.40q, and the machine's %.40q", c.Status, machine.Status)
	}
	if err := machine.check(); err != nil {
		return err
	}
	return machine.Shed.check()
}

func (a *Appraisal) check() error {
	status, ok := verdicts[a.Status]
	if !ok {
		return malformed("ear_status %.40q is unknown", a.Status)
	}
	worst := attest.NoClaim
	for _, d := range attest.Dimensions {
		value, ok := a.Vector[d]
		if verdict := attest.Verdict(value); !ok || verdicts[verdict.String()] != verdict {
			return malformed("ear_trustworthiness_vector: %s is missing or %d", d, value)
		}
		worst = max(worst, attest.Verdict(value))
	}
	if len(a.Vector) != len(attest.Dimensions) || len(a.Shed.Reasons) != len(attest.Dimensions) {
		return malformed("the vector has %d dimensions and %d reasons, want %d", len(a.Vector), len(a.Shed.Reasons), len(attest.Dimensions))
	}
	// A status may be worse than the worst claim, or make none, and never better.
	if status != attest.NoClaim && status < worst || status == attest.NoClaim && worst == attest.Contraindicated {
		return malformed("ear_status is %s over a vector with %s", status, worst)
	}
	if a.Shed.Accepted && (status == attest.NoClaim || status == attest.Contraindicated) {
		return malformed("the machine is accepted at ear_status %s", status)
	}
	return a.checkTexts()
}

func (a *Appraisal) checkTexts() error {
	if len(a.Policies) > maxPolicies {
		return malformed("ear_appraisal_policy_ids has %d entries, at most %d", len(a.Policies), maxPolicies)
	}
	for _, id := range a.Policies {
		if id == "" || len(id) > maxText {
			return malformed("ear_appraisal_policy_ids has one of %d bytes, want 1 to %d", len(id), maxText)
		}
	}
	if a.Nonce != "" {
		var nonce attest.Nonce
		b, err := base64.RawURLEncoding.Strict().DecodeString(a.Nonce)
		if err != nil || len(b) != len(nonce) {
			return malformed("eat_nonce is not %d bytes in base64url", len(nonce))
		}
	}
	for _, d := range attest.Dimensions {
		if reason, ok := a.Shed.Reasons[d]; !ok || len(reason) > maxReason {
			return malformed("the reason of %s is missing or has %d bytes, at most %d", d, len(reason), maxReason)
		}
	}
	return nil
}

var register = regexp.MustCompile(`^pcr(1?[0-9]|2[0-3])$`)

func (a *Appraised) check() error {
	ak, err := hex.DecodeString(a.AK)
	switch {
	case err != nil || len(ak) > maxAK || hex.EncodeToString(ak) != a.AK:
		return malformed("ak is not a name of at most %d bytes in lowercase hex", maxAK)
	case len(a.Transparency) > maxText:
		return malformed("transparency has %d bytes, at most %d", len(a.Transparency), maxText)
	case len(a.Differs) > len(attest.Registers{}):
		return malformed("differs has %d entries", len(a.Differs))
	}
	for _, name := range a.Differs {
		if !register.MatchString(name) {
			return malformed("differs names %.40q, which is no register", name)
		}
	}
	return nil
}
