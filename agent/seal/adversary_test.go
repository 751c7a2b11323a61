package seal

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// A release that was replaced by one of the same epoch opens nothing by its own
// header, which the host has kept: an epoch is raised by hand, the count by itself.
func TestHeaderOfAReplacedReleaseOfTheSameEpoch(t *testing.T) {
	m, key := claimed(t)
	before := m.header()
	if err := m.volume.HandOver(Successor{Registers: m.registersOf(next), Epoch: 3, Approval: m.approve(1, "image")}); err != nil {
		t.Fatal(err)
	}
	during := m.header()
	m.bootImage(next, 3)
	m.opens(key, true, true)
	if err := m.volume.Keep(); err != nil {
		t.Fatal(err)
	}
	after := m.header()
	for _, h := range []header{before, during} {
		m.replaceHeader(h)
		m.bootImage("image", 3)
		m.refused(ErrSealed)
	}
	m.replaceHeader(after)
	m.bootImage(next, 3)
	m.opens(key, false, false)
}

// A release on trial lets no third one in.
func TestHandOverOnTrial(t *testing.T) {
	m, key := claimed(t)
	m.handOver(m.approve(1, "image"))
	m.bootImage(next, 5)
	m.opens(key, true, true)
	err := m.volume.HandOver(Successor{Registers: m.registersOf("a third image"), Epoch: 5, Approval: m.approve(1, next)})
	if !errors.Is(err, ErrNoHandover) {
		t.Errorf("on trial: %v", err)
	}
	m.bootImage("a third image", 5)
	m.refused(ErrSealed)
}

// That a trial was passed is the release's own word, and of that trial.
func TestPassedIsNotTheHostsToSay(t *testing.T) {
	m, key := claimed(t)
	if err := m.volume.Pass(); !errors.Is(err, ErrNoHandover) {
		t.Errorf("without a handover: %v", err)
	}
	approval := m.approve(1, "image")
	m.handOver(approval)
	if err := m.volume.Pass(); !errors.Is(err, ErrNoHandover) || m.volume.Passed() {
		t.Errorf("by the release before: %v", err)
	}
	m.bootImage(next, 5)
	m.opens(key, true, true)
	if m.volume.Passed() {
		t.Error("passed before it was")
	}
	if err := m.volume.Pass(); err != nil {
		t.Fatal(err)
	}
	m.bootImage(next, 5)
	m.opens(key, true, true)
	if !m.volume.Passed() {
		t.Error("it is forgotten")
	}
	passed := m.header().Handover.Passed
	m.bootImage("image", 3)
	m.opens(key, true, false)
	if err := m.volume.Keep(); err != nil {
		t.Fatal(err)
	}
	m.handOver(approval)
	for _, code := range [][]byte{passed, {1}, nil, make([]byte, 32)} {
		h := m.header()
		h.Handover.Passed = code
		m.replaceHeader(h)
		m.bootImage(next, 5)
		m.opens(key, true, true)
		if m.volume.Passed() {
			t.Errorf("passed by %x, which is of no trial or another", code)
		}
	}
}

// The approval beside a key is the one that it was made under.
func TestApprovalsDoNotChangePlaces(t *testing.T) {
	m, _ := claimed(t)
	approval := m.approve(1, "image")
	m.handOver(approval)
	body := approval.Body
	body.Release = attest.ReleaseDigest{2}
	another, err := ownership.Approve(m.owner, body)
	if err != nil {
		t.Fatal(err)
	}
	h := m.header()
	h.Handover.Approval = another.Encode()
	m.replaceHeader(h)
	m.bootImage(next, 5)
	m.refused(ErrMaker)
}

func TestTheFloorSinksNever(t *testing.T) {
	m, _ := claimed(t)
	for _, to := range []floor{{epoch: 4, updates: 2}, {epoch: 3, updates: 3}, {epoch: 5, updates: 1}} {
		if err := m.volume.raise(to); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readFloor(m.volume.Device); err != nil || got != (floor{epoch: 5, updates: 3}) {
		t.Errorf("the floor is %+v, %v", got, err)
	}
}

// What another image has planted before the claim neither keeps its owner from
// claiming the machine nor from updating it.
func TestPlantedFloor(t *testing.T) {
	for name, planted := range map[string][]byte{
		"the last number": floor{epoch: 1, updates: math.MaxUint64}.encode(),
		"another shape":   bytes.Repeat([]byte{1}, 7),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if err := m.commit(); err != nil {
				t.Fatal(err)
			}
			err := m.tpm.Do(func(device transport.TPM) error { return putNV(device, indexEpoch, rewritable, planted) })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.openVolume(); err != nil {
				t.Fatal(err)
			}
			if err := m.volume.Settle(); err != nil {
				t.Fatal(err)
			}
			if n, err := m.volume.NextUpdate(); n != 1 || err != nil {
				t.Errorf("the next update is number %d, %v", n, err)
			}
		})
	}
}
