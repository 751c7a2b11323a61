package seal

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
)

// measuring is a TPM that the kernel measures something into, a register of no
// meaning here, whenever the data key is about to be unsealed.
type measuring struct {
	transport.TPM
	t     *testing.T
	times int
}

func (m *measuring) Send(command []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCUnseal && m.times > 0 {
		m.times--
		digest := attest.Sum([]byte("a module"))
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(10), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
		}.Execute(m.TPM)
		if err != nil {
			m.t.Error(err)
		}
	}
	return m.TPM.Send(command)
}

// What is measured beside the opening of the volume does not keep it closed; what
// never ends does.
func TestMeasuringMeanwhile(t *testing.T) {
	m, _ := claimed(t)
	for times, want := range map[int]error{1: nil, unsealTries - 1: nil, unsealTries: ErrSealed} {
		m.wrap = func(device transport.TPM) transport.TPM { return &measuring{TPM: device, t: t, times: times} }
		m.reboot()
		if _, err := m.openVolume(); !errors.Is(err, want) {
			t.Errorf("measured %d times: %v, want %v", times, err, want)
		}
	}
}
