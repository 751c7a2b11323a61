package verifier_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Of two anchors that vouch for a machine the better one counts, wherever it
// stands.
func TestBestAnchorCounts(t *testing.T) {
	m := boot(t)
	in := m.input(t)
	for _, tiers := range [][2]attest.Tier{
		{attest.TierSoftware, attest.TierProviderRooted}, {attest.TierProviderRooted, attest.TierSoftware},
	} {
		p := m.policy()
		p.TrustAnchors = nil
		for _, tier := range tiers {
			p.TrustAnchors = append(p.TrustAnchors, verifier.TrustAnchor{Certificate: m.device.Root, Tier: tier})
		}
		r, err := appraise(in, p)
		if err != nil || r.Tiers.Identity != attest.TierProviderRooted {
			t.Errorf("%v: tier %s, error %v", tiers, r.Tiers.Identity, err)
		}
	}
}

// Of two releases that make the same registers the machine runs the newer one:
// a floor that the older one is below says nothing against it.
func TestNewestOfEqualReleasesCounts(t *testing.T) {
	m := boot(t)
	in := m.input(t)
	newer := *m.release
	newer.Epoch = 9
	p := m.policy()
	p.Releases[attest.ReleaseDigest{8}] = &newer
	p.EpochFloor = 9
	r, err := appraise(in, p)
	if err != nil || !r.Accepted() || r.Release != (attest.ReleaseDigest{8}) {
		t.Errorf("release %s, error %v: %+v", r.Release, err, r.Finding(attest.Executables))
	}
	p.EpochFloor = 10
	if r, err := appraise(in, p); err != nil || r.Accepted() {
		t.Errorf("below the floor: error %v, accepted %t", err, r.Accepted())
	}
}

// An end that knows nothing of its connection accepts nothing, also not what was
// made for such a one.
func TestNoChannelOfItsOwn(t *testing.T) {
	m := boot(t)
	good := m.channel
	m.channel.Exporter = [32]byte{}
	refuse(t, m.input(t), m.policy(), attest.ErrBinding)
	m.channel = good
	m.channel.SPKI = []byte{}
	refuse(t, m.input(t), m.policy(), attest.ErrBinding)
}
