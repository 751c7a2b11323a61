package seal

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// cut is a TPM that is lost with command number last, which is carried out or
// not, as at a power cut.
type cut struct {
	transport.TPM
	sent, last int
	carried    bool
}

func (c *cut) Send(command []byte) ([]byte, error) {
	c.sent++
	if c.sent < c.last {
		return c.TPM.Send(command)
	}
	if c.sent == c.last && c.carried {
		c.TPM.Send(command) //nolint:errcheck // nobody hears the answer
	}
	return nil, errors.New("the power is gone")
}

// Wherever the power is lost in a claim, the next boot finds a machine that is
// unclaimed and can be claimed, or claimed with one volume, which opens.
func TestPowerLostInAClaim(t *testing.T) {
	m := newMachine(t)
	for _, carried := range []bool{false, true} {
		for last := 1; ; last++ {
			m.renew()
			whole := m.claimUntil(last, carried)
			m.reboot()
			s, err := Load(m.tpm)
			if err != nil {
				t.Fatalf("command %d lost, carried out %v: %v", last, carried, err)
			}
			if s.Claim == nil {
				if err := Commit(m.tpm, m.newClaim()); err != nil {
					t.Fatalf("command %d lost, carried out %v: unclaimed, and %v", last, carried, err)
				}
			}
			if _, err := m.openVolume(); err != nil {
				t.Fatalf("command %d lost, carried out %v: %v", last, carried, err)
			}
			m.wantLocked()
			key := bytes.Clone(m.mapper.key)
			m.reboot()
			if _, err := m.openVolume(); err != nil || !bytes.Equal(m.mapper.key, key) {
				t.Fatalf("command %d lost, carried out %v: a boot later: %v", last, carried, err)
			}
			if whole {
				break
			}
		}
	}
}

// renew makes the machine one that was never claimed, in a new boot.
func (m *machine) renew() {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) (err error) {
		for _, index := range []tpm2.TPMHandle{indexClaim, indexDocument, indexVolume, indexEpoch} {
			err = errors.Join(err, undefineNV(device, index))
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(m.volume.Disk, 0), os.Truncate(m.volume.Disk, 8<<20)); err != nil {
		m.t.Fatal(err)
	}
	m.reboot()
}

// claimUntil claims the machine with a TPM that is lost at command number
// last, and reports whether the claim was through before it.
func (m *machine) claimUntil(last int, carried bool) bool {
	m.t.Helper()
	device := &cut{TPM: m.device.TPM, last: last, carried: carried}
	c := m.newClaim()
	lost := lossy{device}
	err := Commit(lost, c)
	if err == nil {
		volume := *m.volume
		volume.Device = lost
		_, err = volume.Open(m.t.Context(), State{Claim: c})
	}
	return err == nil
}

// lossy is a Device without a lock.
type lossy struct{ device transport.TPM }

func (l lossy) Do(f func(transport.TPM) error) error { return f(l.device) }
