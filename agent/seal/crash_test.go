package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// cut is a TPM that is lost with writing command number last, which is carried
// out or not, as at a power cut.
type cut struct {
	transport.TPM
	sent, last int
	carried    bool
}

// writes are the commands that change what a TPM keeps over a power cut: lost
// between two of them, it is as when the first was its last.
var writes = []tpm2.TPMCC{
	tpm2.TPMCCEvictControl, tpm2.TPMCCNVDefineSpace, tpm2.TPMCCNVUndefineSpace, tpm2.TPMCCNVWrite, tpm2.TPMCCNVWriteLock,
	tpm2.TPMCCHierarchyChanegAuth, ccSetPrimaryPolicy, ccClearControl,
}

func (c *cut) Send(command []byte) ([]byte, error) {
	if slices.Contains(writes, tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))) {
		c.sent++
	}
	if c.sent < c.last {
		return c.TPM.Send(command)
	}
	if c.sent == c.last && c.carried {
		c.TPM.Send(command) //nolint:errcheck // nobody hears the answer
	}
	return nil, errors.New("the power is gone")
}

// atEachCommand runs a test with the TPM lost at each writing command in turn, until
// what is cut reports that it was through before.
func atEachCommand(t *testing.T, test func(t *testing.T, last int, carried bool) (whole bool)) {
	for _, carried := range []bool{false, true} {
		for last, whole := 1, false; !whole && !t.Failed(); last++ {
			t.Run(fmt.Sprintf("command %d carried out %t", last, carried), func(t *testing.T) {
				whole = test(t, last, carried)
			})
		}
	}
}

// Wherever the power is lost in a claim, the next boot finds a machine that is
// unclaimed and can be claimed, or claimed with one volume, which opens; and
// its TPM is closed to other images.
func TestPowerLostInAClaim(t *testing.T) {
	atEachCommand(t, func(t *testing.T, last int, carried bool) bool {
		m := newMachine(t)
		whole := m.claimUntil(last, carried)
		m.reboot()
		s, err := Load(m.tpm)
		if err != nil {
			t.Fatal(err)
		}
		if s.Claim == nil {
			if err := m.commit(); err != nil {
				t.Fatalf("unclaimed, and %v", err)
			}
		}
		m.wantMended()
		return whole
	})
}

// Wherever the power is lost in the boot that mends a claim, the boot after it
// mends it.
func TestPowerLostInTheMendingBoot(t *testing.T) {
	atEachCommand(t, func(t *testing.T, last int, carried bool) bool {
		m := newMachine(t)
		if err := m.commit(); err != nil {
			t.Fatal(err)
		}
		m.failOwn()
		m.reboot()
		whole := m.openUntil(last, carried) == nil
		m.reboot()
		m.wantMended()
		return whole
	})
}

// wantMended opens the volume, and again a boot later, with the TPM closed.
func (m *machine) wantMended() {
	m.t.Helper()
	if _, err := m.openVolume(); err != nil {
		m.t.Fatal(err)
	}
	m.wantLocked()
	m.wantClosed()
	key := bytes.Clone(m.mapper.key)
	m.reboot()
	if _, err := m.openVolume(); err != nil || !bytes.Equal(m.mapper.key, key) {
		m.t.Fatalf("a boot later: %v", err)
	}
}

// failOwn makes the volume and loses the power before anything of the TPM is
// closed.
func (m *machine) failOwn() {
	m.t.Helper()
	device := &failing{TPM: m.device.TPM, code: ccSetPrimaryPolicy, times: 1}
	m.volume.Device = lossy{device}
	if _, err := m.openVolume(); err == nil {
		m.t.Fatal("the volume opened with an open tpm")
	}
}

// claimUntil claims the machine with a TPM that is lost at command number
// last, and reports whether the claim was through before it.
func (m *machine) claimUntil(last int, carried bool) bool {
	m.t.Helper()
	c := m.newClaim()
	lost := lossy{&cut{TPM: m.device.TPM, last: last, carried: carried}}
	err := Prepare(lost)
	if err == nil {
		err = Commit(lost, c)
	}
	if err == nil {
		m.volume.Device = lost
		_, err = m.volume.Open(m.t.Context(), State{Claim: c})
	}
	return err == nil
}

// openUntil opens the volume with a TPM that is lost at command number last.
func (m *machine) openUntil(last int, carried bool) error {
	m.t.Helper()
	s, err := Load(m.tpm)
	if err != nil {
		m.t.Fatal(err)
	}
	m.volume.Device = lossy{&cut{TPM: m.device.TPM, last: last, carried: carried}}
	_, err = m.volume.Open(m.t.Context(), s)
	return err
}

// lossy is a Device without a lock.
type lossy struct{ device transport.TPM }

func (l lossy) Do(f func(transport.TPM) error) error { return f(l.device) }
