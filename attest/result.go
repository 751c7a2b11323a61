package attest

import "fmt"

// Tier says who has to be honest for a property to hold. Higher is better, and
// the three properties of a machine are never folded into one word.
type Tier int

// The tiers, worst first.
const (
	TierNone Tier = iota
	// TierSoftware proves consistency alone: whoever runs the machine can forge it.
	TierSoftware
	// TierProviderRooted holds as long as the cloud provider is honest.
	TierProviderRooted
	// TierHardware holds against whoever runs the machine.
	TierHardware
)

var tierNames = [...]string{"none", "software", "provider-rooted", "hardware"}

func (t Tier) String() string {
	if t < 0 || int(t) >= len(tierNames) {
		return fmt.Sprintf("tier(%d)", int(t))
	}
	return tierNames[t]
}

// MarshalText writes the tier's name.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a tier's name. The error names those there are.
func (t *Tier) UnmarshalText(text []byte) error {
	for i, name := range tierNames {
		if name == string(text) {
			*t = Tier(i)
			return nil
		}
	}
	return fmt.Errorf("tier %q is none of %v", text, tierNames)
}

// Tiers are the three properties of a machine, each with its own tier from
// its own evidence: a TPM shows who the machine is, and nothing about whether
// its memory is encrypted.
type Tiers struct {
	Memory   Tier `json:"memory"`
	Identity Tier `json:"identity"`
	Storage  Tier `json:"storage"`
}

// Dimension is one of the claims of an AR4SI trustworthiness vector
// (draft-ietf-rats-ar4si, section 2.3).
type Dimension string

// The dimensions, in the order in which they are shown.
const (
	InstanceIdentity Dimension = "instance-identity"
	Configuration    Dimension = "configuration"
	Executables      Dimension = "executables"
	FileSystem       Dimension = "file-system"
	Hardware         Dimension = "hardware"
	RuntimeOpaque    Dimension = "runtime-opaque"
	StorageOpaque    Dimension = "storage-opaque"
	SourcedData      Dimension = "sourced-data"
)

// Dimensions lists every dimension in display order.
var Dimensions = [...]Dimension{
	InstanceIdentity, Configuration, Executables, FileSystem,
	Hardware, RuntimeOpaque, StorageOpaque, SourcedData,
}

// Verdict is the value of one dimension. The numbers are the lower ends of
// AR4SI's ranges (section 2.2): 0 no claim, 2 affirming, 32 warning,
// 96 contraindicated.
type Verdict int8

// The verdicts.
const (
	NoClaim         Verdict = 0
	Affirming       Verdict = 2
	Warning         Verdict = 32
	Contraindicated Verdict = 96
)

func (v Verdict) String() string {
	switch {
	case v >= Contraindicated:
		return "contraindicated"
	case v >= Warning:
		return "warning"
	case v >= Affirming:
		return "affirming"
	default:
		return "none"
	}
}

// MarshalText writes the verdict's name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a verdict's name. The error names those there are.
func (v *Verdict) UnmarshalText(text []byte) error {
	for _, known := range [...]Verdict{NoClaim, Affirming, Warning, Contraindicated} {
		if known.String() == string(text) {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("verdict %q is unknown", text)
}

// Finding is one dimension's verdict with the reason for it.
type Finding struct {
	Dimension Dimension `json:"dimension"`
	Verdict   Verdict   `json:"verdict"`
	Reason    string    `json:"reason"`
	// Cause is the error behind a refusal, where there is one; errors.Is tells
	// its kind.
	Cause error `json:"-"`
}

// AttestationResult is the verdict on evidence against a policy (RFC 9334, section 8.4).
type AttestationResult struct {
	// Status is the worst finding that makes a claim.
	Status Verdict `json:"status"`
	Tiers  Tiers   `json:"tiers"`
	// Release is the digest of the manifest that the registers match; zero
	// where none does.
	Release ReleaseDigest `json:"release"`
	// Transparency says which log vouches for the release; "none" where
	// no log was checked.
	Transparency string    `json:"transparency"`
	Findings     []Finding `json:"findings"`
	// Differs names each register that is not what the policy fixes, such as
	// "pcr4".
	Differs []string `json:"differs,omitempty"`
}

// Accepted reports whether nothing contraindicates the machine, no register
// differs, and the identity, configuration and executables are affirmed or
// warned about.
func (a AttestationResult) Accepted() bool {
	if a.Status >= Contraindicated || len(a.Differs) > 0 {
		return false
	}
	for _, d := range [...]Dimension{InstanceIdentity, Configuration, Executables} {
		if a.Finding(d).Verdict < Affirming {
			return false
		}
	}
	return true
}

// Finding returns the finding of one dimension, or one that makes no claim.
func (a AttestationResult) Finding(d Dimension) Finding {
	for _, f := range a.Findings {
		if f.Dimension == d {
			return f
		}
	}
	return Finding{Dimension: d, Verdict: NoClaim, Reason: "not established"}
}
