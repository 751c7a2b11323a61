package attester_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// crooked is a TPM that stands in for some commands; send is asked first.
type crooked struct {
	transport.TPM
	send func(code tpm2.TPMCC, command []byte) (answer []byte, err error)
	sent int
}

func (c *crooked) Send(command []byte) ([]byte, error) {
	c.sent++
	if c.send != nil {
		answer, err := c.send(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])), command)
		if answer != nil || err != nil {
			return answer, err
		}
	}
	return c.TPM.Send(command)
}

func opened(t *testing.T) (*attester.TPM, *crooked) {
	t.Helper()
	device := &crooked{TPM: swtpmtest.Start(t)}
	m, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	return m, device
}

// A machine does not show a certificate of another's endorsement key.
func TestCertificateOfAnotherKey(t *testing.T) {
	other := swtpmtest.Start(t)
	device := &crooked{TPM: swtpmtest.Start(t), send: func(code tpm2.TPMCC, command []byte) ([]byte, error) {
		if code == tpm2.TPMCCNVRead || code == tpm2.TPMCCNVReadPublic {
			return other.Send(command)
		}
		return nil, nil
	}}
	if _, err := attester.Open(device); !errors.Is(err, attester.ErrOtherKey) {
		t.Errorf("error %v, want %v", err, attester.ErrOtherKey)
	}
}

// A certificate with room behind it is shown without.
func TestCertificateWithRoomBehindIt(t *testing.T) {
	m, device := opened(t)
	software, padded := device.TPM, append(bytes.Clone(m.EKCertificate()), make([]byte, 40)...)
	other := swtpmtest.Start(t)
	for _, template := range tpm.EKTemplates() {
		public, err := tpm2.NVReadPublic{NVIndex: template.Certificate}.Execute(other)
		if errors.Is(err, tpm2.TPMRCHandle) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		replaceIndex(t, other, tpm2.NamedHandle{Handle: template.Certificate, Name: public.NVName}, padded)
	}
	device.send = func(code tpm2.TPMCC, command []byte) ([]byte, error) {
		if code == tpm2.TPMCCNVRead || code == tpm2.TPMCCNVReadPublic {
			return other.Send(command)
		}
		return software.Send(command)
	}
	again, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.EKCertificate(), m.EKCertificate()) {
		t.Errorf("%d bytes, want %d", len(again.EKCertificate()), len(m.EKCertificate()))
	}
}

// replaceIndex has an index of the platform's hold something else.
func replaceIndex(t *testing.T, device transport.TPM, index tpm2.NamedHandle, content []byte) {
	t.Helper()
	platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
	_, err := tpm2.NVUndefineSpace{AuthHandle: platform, NVIndex: index}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: platform, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index.Handle, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(content)),
		Attributes: tpm2.TPMANV{PPWrite: true, AuthRead: true, PlatformCreate: true, NoDA: true},
	})}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(content); offset += 512 {
		public, err := tpm2.NVReadPublic{NVIndex: index.Handle}.Execute(device)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: platform, NVIndex: tpm2.NamedHandle{Handle: index.Handle, Name: public.NVName}, Offset: uint16(offset),
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: content[offset:min(offset+512, len(content))]},
		}.Execute(device)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What is too long for any key is refused before the TPM is asked.
func TestLongCredential(t *testing.T) {
	m, device := opened(t)
	for _, sizes := range [][2]int{{257, 1}, {1, 257}} {
		before := device.sent
		_, err := m.Activate(attest.Channel{}, make([]byte, sizes[0]), make([]byte, sizes[1]))
		if err == nil || device.sent != before {
			t.Errorf("%v bytes: error %v after %d commands", sizes, err, device.sent-before)
		}
	}
}

// An index that is cut off is an error, and not waited for.
func TestIndexThatIsCutOff(t *testing.T) {
	_, device := opened(t)
	software := device.TPM
	reads := 0
	device.send = func(code tpm2.TPMCC, command []byte) ([]byte, error) {
		if code != tpm2.TPMCCNVRead {
			return nil, nil
		}
		if reads++; reads > 2 {
			return nil, errors.New("it is asked on and on")
		}
		answer, err := software.Send(command)
		if err != nil {
			return nil, err
		}
		// The parameters are no bytes at all; the sessions are as they were.
		const header = 10
		sessions := answer[header+4+binary.BigEndian.Uint32(answer[header:]):]
		empty := append(bytes.Clone(answer[:header]), 0, 0, 0, 2, 0, 0)
		empty = append(empty, sessions...)
		binary.BigEndian.PutUint32(empty[2:], uint32(len(empty)))
		return empty, nil
	}
	for _, template := range tpm.EKTemplates() {
		_, err := attester.ReadNV(device, template.Certificate)
		if errors.Is(err, attester.ErrNoIndex) {
			continue
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%#x: %v", uint32(template.Certificate), err)
		}
		return
	}
	t.Error("the tpm has no certificate at all")
}

// A TPM that answers about another property has said nothing of its owner.
func TestAnotherProperty(t *testing.T) {
	_, device := opened(t)
	software := device.TPM
	for name, spoil := range map[string]func(answer []byte) []byte{
		"another": func(answer []byte) []byte { answer[22]++; return answer },
		"none": func(answer []byte) []byte {
			none := bytes.Clone(answer[:19])
			binary.BigEndian.PutUint32(none[15:], 0)
			binary.BigEndian.PutUint32(none[2:], uint32(len(none)))
			return none
		},
	} {
		device.send = func(code tpm2.TPMCC, command []byte) ([]byte, error) {
			if code != tpm2.TPMCCGetCapability {
				return nil, nil
			}
			answer, err := software.Send(command)
			if err != nil {
				return nil, err
			}
			return spoil(bytes.Clone(answer)), nil
		}
		if p, err := attester.ReadPermanent(device); err == nil {
			t.Errorf("%s: %#x", name, uint32(p))
		}
	}
}

// Evidence of a quote that failed is none, and the next is whole.
func TestQuoteThatFails(t *testing.T) {
	m, device := opened(t)
	broken := errors.New("the tpm does not answer")
	for name, code := range map[string]tpm2.TPMCC{"quoting": tpm2.TPMCCQuote, "reading": tpm2.TPMCCPCRRead} {
		device.send = func(got tpm2.TPMCC, _ []byte) ([]byte, error) {
			if got == code {
				return nil, broken
			}
			return nil, nil
		}
		if b, err := m.Evidence(subject(1)); !errors.Is(err, broken) || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	device.send = nil
	m.Reporters = []attester.Reporter{silent{broken}}
	if b, err := m.Evidence(subject(1)); !errors.Is(err, broken) || b != nil {
		t.Errorf("a report: %d bytes, %v", len(b), err)
	}
	m.Reporters = nil
	if _, err := m.Evidence(subject(1)); err != nil {
		t.Error(err)
	}
}

// silent makes no reports.
type silent struct{ err error }

func (s silent) Report([64]byte) (evidence.Report, error) { return evidence.Report{}, s.err }

// Registers that a TPM leaves out are not made up.
func TestRegisterLeftOut(t *testing.T) {
	m, device := opened(t)
	software := device.TPM
	device.send = func(code tpm2.TPMCC, command []byte) ([]byte, error) {
		if code != tpm2.TPMCCPCRRead {
			return nil, nil
		}
		// Header, count, hash and size of the bitmap stand before it.
		fewer := bytes.Clone(command)
		fewer[17] &= fewer[17] - 1
		return software.Send(fewer)
	}
	if values, err := m.Registers(0, 1, 2); err == nil {
		t.Errorf("%d registers", len(values))
	}
}

// A TPM that cannot say which endorsement key its maker left has none derived
// in its place.
func TestEndorsementKeyThatIsNotRead(t *testing.T) {
	broken := errors.New("the tpm does not answer")
	device := &crooked{TPM: swtpmtest.Start(t), send: func(code tpm2.TPMCC, _ []byte) ([]byte, error) {
		if code == tpm2.TPMCCReadPublic {
			return nil, broken
		}
		return nil, nil
	}}
	if _, err := attester.Open(device); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}
