package verifier_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// Of two anchors that vouch for a machine the better one counts, wherever it
// stands.
func TestBestAnchorCounts(t *testing.T) {
	m := verifiertest.Boot(t)
	in := m.Input(t)
	for _, tiers := range [][2]attest.Tier{
		{attest.TierSoftware, attest.TierProviderRooted}, {attest.TierProviderRooted, attest.TierSoftware},
	} {
		p := m.Policy()
		p.TrustAnchors = nil
		for _, tier := range tiers {
			p.TrustAnchors = append(p.TrustAnchors, verifier.TrustAnchor{Certificate: m.Device.Root, Tier: tier})
		}
		r, err := in.Appraise(p)
		if err != nil || r.Tiers.Identity != attest.TierProviderRooted {
			t.Errorf("%v: tier %s, error %v", tiers, r.Tiers.Identity, err)
		}
	}
}

// Of two releases that make the same registers the machine runs the newer one:
// a floor that the older one is below says nothing against it.
func TestNewestOfEqualReleasesCounts(t *testing.T) {
	m := verifiertest.Boot(t)
	in := m.Input(t)
	newer := *m.Release
	newer.Epoch = 9
	p := m.Policy()
	p.Releases[attest.ReleaseDigest{8}] = &newer
	p.EpochFloor = 9
	r, err := in.Appraise(p)
	if err != nil || !r.Accepted() || r.Release != (attest.ReleaseDigest{8}) {
		t.Errorf("release %s, error %v: %+v", r.Release, err, r.Finding(attest.Executables))
	}
	p.EpochFloor = 10
	if r, err := in.Appraise(p); err != nil || r.Accepted() {
		t.Errorf("below the floor: error %v, accepted %t", err, r.Accepted())
	}
}

// An end that knows nothing of its connection accepts nothing, also not what was
// made for such a one.
func TestNoChannelOfItsOwn(t *testing.T) {
	m := verifiertest.Boot(t)
	good := m.Channel
	m.Channel.Exporter = [32]byte{}
	refuse(t, m.Input(t), m.Policy(), attest.ErrBinding)
	m.Channel = good
	m.Channel.SPKI = []byte{}
	refuse(t, m.Input(t), m.Policy(), attest.ErrBinding)
}
