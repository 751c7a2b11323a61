package seal

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"math"
	"os"
	"reflect"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// lost is a machine with a volume, of which the disk and the owner's recovery
// key are left, and the key that the owner finds with it.
func lost(t *testing.T) (disk string, left *Left, key []byte) {
	t.Helper()
	m, want := claimed(t)
	left, err := m.volume.Left()
	if err != nil || left == nil {
		t.Fatalf("%v, %v", left, err)
	}
	return m.volume.Disk, left, bytes.Clone(openRecovery(t, m.recovery, left, want))
}

func openRecovery(t *testing.T, recovery *ecdh.PrivateKey, left *Left, want []byte) []byte {
	t.Helper()
	r, err := ownership.OpenRecovery(recovery, ownership.RecoveryContext(left.Volume, left.Claim), left.Recovery)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.VolumeKey, want) {
		t.Fatal("the owner finds another key")
	}
	return r.VolumeKey
}

// another is a machine that gets a disk of somebody's.
func another(t *testing.T, disk string) *machine {
	t.Helper()
	m := newMachine(t)
	m.volume.Disk = disk
	return m
}

func (m *machine) adopt(id VolumeID, key []byte) error {
	m.t.Helper()
	s, err := Load(m.tpm)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = m.volume.Adopt(s, id, key)
	return err
}

// The data of a lost machine opens in another that its owner hands the key, boot
// after boot, and no more in the first.
func TestVolumeOfALostMachine(t *testing.T) {
	first, key := claimed(t)
	left, err := first.volume.Left()
	if err != nil {
		t.Fatal(err)
	}
	m := another(t, first.volume.Disk)
	if err := m.volume.CheckBlank(); !errors.Is(err, ErrNotBlank) {
		t.Errorf("a claim would find %v", err)
	}
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.refused(ErrForeign)
	if err := m.adopt(left.Volume, key); err != nil {
		t.Fatal(err)
	}
	if m.formats != 0 || !bytes.Equal(m.mapper.key, key) {
		t.Errorf("%d formats, mapped under the owner's key: %t", m.formats, bytes.Equal(m.mapper.key, key))
	}
	m.wantMended()
	first.reboot()
	first.refused(ErrForeign)
	// What the next loss needs stands in the header that this machine wrote.
	left, err = m.volume.Left()
	if err != nil {
		t.Fatal(err)
	}
	openRecovery(t, m.recovery, left, key)
}

// A machine that takes a volume over draws authorizations of its own: those of the
// lost one's TPM are in other hands. On the machine that they are of they stay.
func TestAuthorizationsOfALostMachine(t *testing.T) {
	of := func(m *machine, key []byte) authorizations {
		t.Helper()
		auths, err := decryptAuthorizations(key, m.header())
		if err != nil {
			t.Fatal(err)
		}
		return auths
	}
	first, key := claimed(t)
	key = bytes.Clone(key)
	id, before := first.header().Volume, of(first, key)
	if err := first.adopt(id, key); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(of(first, key), before) {
		t.Error("its own machine drew others")
	}
	m := another(t, first.volume.Disk)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	if err := m.adopt(id, key); err != nil {
		t.Fatal(err)
	}
	if reflect.DeepEqual(of(m, key), before) {
		t.Error("another machine has those of the lost one")
	}
}

// A key that is not the volume's changes nothing.
func TestWrongKeyForALostVolume(t *testing.T) {
	disk, left, key := lost(t)
	m := another(t, disk)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	before := m.header()
	for name, c := range map[string]struct {
		id  VolumeID
		key []byte
	}{
		"another key":    {left.Volume, make([]byte, keyBytes)},
		"no key":         {left.Volume, nil},
		"another volume": {VolumeID{1}, key},
	} {
		if err := m.volume.CheckKey(c.id, c.key); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.adopt(c.id, c.key); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := m.header(); after.Sequence != before.Sequence || m.mapper.key != nil {
		t.Error("a wrong key changed something")
	}
	if err := m.volume.CheckKey(left.Volume, key); err != nil {
		t.Error(err)
	}
}

// A machine that has a volume of its own takes no other.
func TestAdoptingBesideAVolume(t *testing.T) {
	disk, left, key := lost(t)
	m, _ := claimed(t)
	m.volume.Disk = disk
	if err := m.adopt(left.Volume, key); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

// Registers that changed for good, as by another firmware of the cloud's, leave
// a volume that its owner opens again on the same machine; not under an image
// that is below the floor of the epoch.
func TestVolumeUnderOtherRegisters(t *testing.T) {
	m, key := claimed(t)
	left, err := m.volume.Left()
	if err != nil {
		t.Fatal(err)
	}
	m.reboot()
	if err := m.tpm.Extend(4, attest.Sum([]byte("another firmware"))); err != nil {
		t.Fatal(err)
	}
	m.refused(ErrSealed)
	m.volume.Epoch--
	if err := m.adopt(left.Volume, key); !errors.Is(err, ErrSealed) {
		t.Errorf("an older image: %v", err)
	}
	m.volume.Epoch++
	if err := m.adopt(left.Volume, key); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	if err := m.tpm.Extend(4, attest.Sum([]byte("another firmware"))); err != nil {
		t.Fatal(err)
	}
	if _, err := m.openVolume(); err != nil {
		t.Error(err)
	}
}

// Wherever the power is lost while a volume is taken over, the next boot has it
// open, or its owner hands the key over again; nothing is ever formatted.
func TestPowerLostInAdopting(t *testing.T) {
	atEachCommand(t, func(t *testing.T, last int, carried bool) bool {
		disk, left, key := lost(t)
		m := another(t, disk)
		if err := m.commit(); err != nil {
			t.Fatal(err)
		}
		s, err := Load(m.tpm)
		if err != nil {
			t.Fatal(err)
		}
		m.volume.Device = lossy{&cut{TPM: m.device.TPM, last: last, carried: carried}}
		_, err = m.volume.Adopt(s, left.Volume, key)
		m.reboot()
		if _, openErr := m.openVolume(); openErr != nil {
			if err := m.adopt(left.Volume, key); err != nil {
				t.Fatalf("the next boot: %v; again: %v", openErr, err)
			}
		}
		m.wantMended()
		if m.formats != 0 {
			t.Errorf("%d formats", m.formats)
		}
		return err == nil
	})
}

// A blank disk, and one of another kind, hold nothing to take over.
func TestNothingLeft(t *testing.T) {
	m := newMachine(t)
	if left, err := m.volume.Left(); left != nil || err != nil {
		t.Errorf("%v, %v", left, err)
	}
	if err := m.volume.CheckKey(VolumeID{}, make([]byte, keyBytes)); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
	if _, err := m.volume.Adopt(State{}, VolumeID{}, nil); err == nil {
		t.Error("an unclaimed machine takes a disk over")
	}
}

// What the disk's host has made of the count of headers, which nothing
// authenticates, the one that is written next is the one that holds.
func TestHeaderAfterAnyCount(t *testing.T) {
	for _, count := range []uint64{math.MaxUint64, math.MaxInt64} {
		disk, left, key := lost(t)
		h := readHeaderOf(t, disk)
		h.Sequence = count
		b, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		writeAt(t, disk, b, 0)
		writeAt(t, disk, b, secondHeader)
		m := another(t, disk)
		if err := m.commit(); err != nil {
			t.Fatal(err)
		}
		if err := m.adopt(left.Volume, key); err != nil {
			t.Fatal(err)
		}
		m.reboot()
		if _, err := m.openVolume(); err != nil {
			t.Errorf("after header %d: %v", count, err)
		}
	}
}

func readHeaderOf(t *testing.T, disk string) header {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := readHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func writeAt(t *testing.T, disk string, b []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteAt(b, at); errors.Join(err, f.Close()) != nil {
		t.Fatal(err)
	}
}
