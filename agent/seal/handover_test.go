package seal

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// next is the release that the machine is updated to.
const next = "the next image"

// bootImage boots an image of a release with this epoch.
func (m *machine) bootImage(image string, epoch uint64) {
	m.t.Helper()
	m.image, m.volume.Epoch = image, epoch
	m.reboot()
}

// registersOf are the registers that an image has on this machine.
func (m *machine) registersOf(image string) attest.Registers {
	m.t.Helper()
	var r attest.Registers
	r[4] = attest.Extend(attest.Digest{}, attest.Sum([]byte(image)))
	return r
}

// approve is the owner's word for an update to the next image.
func (m *machine) approve(number uint64, from string) *ownership.Approval {
	m.t.Helper()
	s, err := Load(m.tpm)
	if err != nil {
		m.t.Fatal(err)
	}
	a, err := ownership.Approve(m.owner, ownership.ApprovalBody{
		Claim: s.Claim.Digest(), Number: number, From: m.registersOf(from).SealDigest(m.volume.Firmware),
		Release: attest.ReleaseDigest{1}, Epoch: 5,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

func (m *machine) handOver(a *ownership.Approval) {
	m.t.Helper()
	if err := m.volume.HandOver(Successor{Registers: m.registersOf(next), Epoch: 5, Approval: a}); err != nil {
		m.t.Fatal(err)
	}
}

// opens wants the volume open, and by which image.
func (m *machine) opens(key []byte, handing, taking bool) {
	m.t.Helper()
	if _, err := m.openVolume(); err != nil {
		m.t.Fatal(err)
	}
	if !bytes.Equal(m.mapper.key, key) {
		m.t.Error("another key was mapped")
	}
	if h, took := m.volume.HandingOver(); h != handing || took != taking {
		m.t.Errorf("handing over %t, taking %t; want %t, %t", h, took, handing, taking)
	}
}

// Forward: design promise 12. Both releases open the volume until the next one keeps
// it, and then that one alone.
func TestHandOverAndKeep(t *testing.T) {
	m, key := claimed(t)
	m.handOver(m.approve(1, "image"))
	m.bootImage(next, 5)
	m.opens(key, true, true)
	m.wantEpoch(3)
	if err := m.volume.Settle(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(3)
	// The old slot still opens it, as long as nothing is kept.
	m.bootImage("image", 3)
	m.opens(key, true, false)
	m.bootImage(next, 5)
	m.opens(key, true, true)
	if err := m.volume.Keep(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(5)
	m.bootImage("image", 3)
	m.refused(ErrSealed)
	m.bootImage(next, 5)
	m.opens(key, false, false)
	if n, err := m.volume.NextUpdate(); n != 2 || err != nil {
		t.Errorf("the next update is number %d, %v", n, err)
	}
}

// What needs no trial is said by whoever hands over, and holds where it is taken, and
// there alone.
func TestHandOverWithoutATrial(t *testing.T) {
	for _, tried := range []bool{true, false} {
		m, key := claimed(t)
		if err := m.volume.HandOver(Successor{Registers: m.registersOf(next), Epoch: 5, Approval: m.approve(1, "image"), Tried: tried}); err != nil {
			t.Fatal(err)
		}
		if m.volume.Passed() {
			t.Error("whoever hands over has passed")
		}
		m.bootImage("image", 3)
		m.opens(key, true, false)
		if m.volume.Passed() {
			t.Error("what was not taken has passed")
		}
		m.bootImage(next, 5)
		m.opens(key, true, true)
		if m.volume.Passed() != tried {
			t.Errorf("it has passed: %t, want %t", m.volume.Passed(), tried)
		}
	}
}

// Back: the next release did not make it.
func TestHandOverAndFallBack(t *testing.T) {
	m, key := claimed(t)
	m.handOver(m.approve(1, "image"))
	m.bootImage(next, 5)
	m.opens(key, true, true)
	m.bootImage("image", 3)
	m.opens(key, true, false)
	if err := m.volume.Keep(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(3)
	m.bootImage(next, 5)
	m.refused(ErrSealed)
	m.bootImage("image", 3)
	m.opens(key, false, false)
	// It can be tried again under the same approval.
	m.handOver(m.approve(1, "image"))
	m.bootImage(next, 5)
	m.opens(key, true, true)
}

// A crash between the header and the TPM's memory of it is made good.
func TestKeepIsCutShort(t *testing.T) {
	m, key := claimed(t)
	m.handOver(m.approve(1, "image"))
	m.bootImage(next, 5)
	m.opens(key, true, true)
	auths := m.volume.auths
	m.volume.auths = authorizations{}
	if err := m.volume.Keep(); !errors.Is(err, ErrSealed) {
		t.Fatalf("keeping without the owner's authorization: %v", err)
	}
	m.volume.auths = auths
	m.wantEpoch(3)
	m.bootImage(next, 5)
	m.opens(key, false, false)
	if err := m.volume.Settle(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(5)
	if n, err := m.volume.NextUpdate(); n != 2 || err != nil {
		t.Errorf("the next update is number %d, %v", n, err)
	}
}

// No release opens the data that its owner did not approve, whoever signed it.
func TestReleasesThatAreNotApproved(t *testing.T) {
	m, _ := claimed(t)
	m.handOver(m.approve(1, "image"))
	m.bootImage("a third image", 9)
	m.refused(ErrSealed)
}

// What stands in the header is the host's to write: the next release takes the key
// only from whom the owner's approval names, and for one update.
func TestWhoHandsOver(t *testing.T) {
	m, key := claimed(t)
	first := m.approve(1, "image")
	m.handOver(first)
	good := m.header()
	stranger, err := ownership.Approve(m.newOwner(), first.Body)
	if err != nil {
		t.Fatal(err)
	}
	ofAnother := first.Body
	ofAnother.Claim[0]++
	foreign, err := ownership.Approve(m.owner, ofAnother)
	if err != nil {
		t.Fatal(err)
	}
	for name, approval := range map[string][]byte{
		"none":               nil,
		"garbage":            {1, 2, 3},
		"a stranger's":       stranger.Encode(),
		"another claim's":    foreign.Encode(),
		"another number's":   m.approve(2, "image").Encode(),
		"another release's":  m.approve(1, "a third image").Encode(),
		"the next release's": m.approve(1, next).Encode(),
	} {
		h := good
		h.Handover = &handover{Approval: approval, Next: good.Handover.Next}
		m.replaceHeader(h)
		m.bootImage(next, 5)
		t.Run(name, func(*testing.T) { m.refused(ErrMaker) })
	}
	m.replaceHeader(good)
	m.bootImage(next, 5)
	m.opens(key, true, true)
}

// An approval that was used is no leave to hand over again: a release that was
// updated because it has a hole makes no key that is taken afterwards.
func TestApprovalIsForOneUpdate(t *testing.T) {
	m, key := claimed(t)
	approval := m.approve(1, "image")
	m.handOver(approval)
	during := m.header()
	m.bootImage(next, 5)
	m.opens(key, true, true)
	if err := m.volume.Keep(); err != nil {
		t.Fatal(err)
	}
	// The host puts the header of the handover back: an earlier state of its own.
	m.replaceHeader(during)
	m.bootImage(next, 5)
	m.refused(ErrMaker)
	m.bootImage("image", 3)
	m.refused(ErrSealed)
}

// Another image that is booted on the machine forges a handover: it seals a key of
// its own to the next release, with the owner's approval beside it.
func TestForgedHandover(t *testing.T) {
	m, _ := claimed(t)
	approval := m.approve(1, "image")
	h := m.header()
	m.device.PowerOff()
	m.device.PowerOn()
	tpm, err := attester.Open(m.device)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm, m.volume.Device = tpm, tpm
	if err := tpm.Extend(4, attest.Sum([]byte("the forger's image"))); err != nil {
		t.Fatal(err)
	}
	h.Handover = &handover{Approval: approval.Encode()}
	under := m.terms(h)
	under.epoch = 5
	for _, n := range under.registers {
		r := m.registersOf(next)
		under.values = append(under.values, r[n][:]...)
	}
	err = m.tpm.Do(func(device transport.TPM) error {
		policy, err := trialPolicy(device, under)
		if err != nil {
			return err
		}
		h.Handover.Next, err = sealKey(device, make([]byte, keyBytes), policy, under)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.replaceHeader(h)
	m.bootImage(next, 5)
	m.refused(ErrMaker)
}

// Under a standing policy it is the agent that says from whom the key may come.
func TestHandOverUnderAStandingPolicy(t *testing.T) {
	m := newMachine(t)
	m.update = ownership.UpdatePolicy{Consent: ownership.UpdateStanding, Keys: [][]byte{{1}}}
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	key := bytes.Clone(m.mapper.key)
	m.handOver(nil)
	m.bootImage(next, 5)
	m.refused(ErrMaker)
	from := m.registersOf("a third image").SealDigest(false)
	epoch := uint64(3)
	m.volume.Predecessor = func(*ownership.Claim) ([]attest.Digest, uint64, error) { return []attest.Digest{{9}, from}, epoch, nil }
	m.refused(ErrMaker)
	from, epoch = m.registersOf("image").SealDigest(false), 2
	m.refused(ErrMaker)
	epoch = 3
	m.opens(key, true, true)
}

// One whose owner wants to be asked takes nothing else.
func TestStandingPolicyThatTheOwnerDidNotSign(t *testing.T) {
	m, _ := claimed(t)
	m.handOver(nil)
	m.volume.Predecessor = func(*ownership.Claim) ([]attest.Digest, uint64, error) {
		return []attest.Digest{m.registersOf("image").SealDigest(false)}, 3, nil
	}
	m.bootImage(next, 5)
	m.refused(ErrMaker)
}

// An older release than the floor is not handed over to, and what was handed over
// does not open below it.
func TestHandOverToAnOlderRelease(t *testing.T) {
	m, _ := claimed(t)
	if err := m.volume.HandOver(Successor{Registers: m.registersOf(next), Epoch: 2, Approval: m.approve(1, "image")}); !errors.Is(err, ErrSealed) {
		t.Errorf("an older epoch: %v", err)
	}
	if h := m.header(); h.Handover != nil {
		t.Error("it stands in the header")
	}
}

func TestNothingToKeep(t *testing.T) {
	m, _ := claimed(t)
	if err := m.volume.Keep(); !errors.Is(err, ErrNoHandover) {
		t.Errorf("without a handover: %v", err)
	}
	if err := new(DataVolume).HandOver(Successor{}); !errors.Is(err, ErrNoHandover) {
		t.Errorf("without a volume: %v", err)
	}
}
