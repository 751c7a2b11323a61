package verifier_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// appraisedAs is a machine's identity by whoever is said to have activated its
// key.
func appraisedAs(t *testing.T, in verifiertest.Input, p verifier.Policy, how verifier.Activation) (attest.AttestationResult, attest.Finding) {
	t.Helper()
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		t.Fatal(err)
	}
	a, err := verifier.Appraise(v, how, p)
	if err != nil {
		t.Fatal(err)
	}
	return a, a.Finding(attest.InstanceIdentity)
}

// A saver's word for an activation is reported as that, and never affirms.
func TestSaversWord(t *testing.T) {
	m := verifiertest.Boot(t)
	in := m.Input(t)
	for how, want := range map[verifier.Activation]attest.Verdict{
		verifier.NotActivated: attest.NoClaim, verifier.ActivatedHere: attest.Affirming,
		verifier.ActivatedBefore: attest.Affirming, verifier.ActivatedBySaver: attest.Warning,
	} {
		a, f := appraisedAs(t, in, m.Policy(), how)
		if f.Verdict != want || a.Accepted() != (how != verifier.NotActivated) {
			t.Errorf("activation %d: %s %s, accepted %v", how, f.Verdict, f.Reason, a.Accepted())
		}
	}
}

// Where a cloud's document vouches, no authority of endorsement keys has to;
// without either nobody does.
func TestNoAuthorityOfEndorsementKeys(t *testing.T) {
	m := verifiertest.Boot(t)
	m.PinSecureBoot()
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	p := m.PolicyAt(attest.TierProviderRooted)
	p.TrustAnchors, p.Nitro, p.Now = nil, n.Policy(), n.Terms().At
	if a, f := appraisedAs(t, m.Input(t), p, verifier.NotActivated); !a.Accepted() || f.Verdict != attest.Affirming {
		t.Errorf("with a document: %+v", a)
	}
	m.Reporters = nil
	if a, f := appraisedAs(t, m.Input(t), p, verifier.NotActivated); a.Accepted() || f.Verdict != attest.Contraindicated {
		t.Errorf("without: %+v", a)
	}
}
