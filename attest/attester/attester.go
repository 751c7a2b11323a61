// Package attester makes evidence inside the machine, from its TPM.
//
// Invariants: one lock covers every extend, read and quote, so that no
// register moves between being read and being signed; the attestation key is
// derived from the TPM's own seed, and taken where it is kept only once nobody
// else can put one there; its private part is never loaded anywhere else.
package attester

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// TPM is the machine's own TPM, with what else vouches for the machine.
type TPM struct {
	// Reporters make the hardware reports that go beside each quote, by
	// ascending kind, and EventLog is the firmware's log. Both are set before
	// the first Evidence.
	Reporters []Reporter
	EventLog  []byte

	// mu guards device: a sequence of commands runs whole or waits.
	mu     sync.Mutex
	device transport.TPM
	queue  queue

	ak            tpm2.NamedHandle
	ek            endorsementKey
	akPublic      []byte
	ekCertificate []byte
	// endorsements are the endorsement certificate alone, encoded.
	endorsements []byte
}

// Reporter makes reports of one kind that carry the given bytes as the guest's
// own. Errors are the device's.
type Reporter interface {
	Report(data [64]byte) (evidence.Report, error)
}

// Open readies the attestation key and reads the endorsement certificate, where
// the TPM has one. The caller keeps device and closes it after the TPM is no
// longer used. Errors are ErrNoKey or ErrForeignKey where its owner authorization is set and no attestation key is
// kept, or the TPM's.
func Open(device transport.TPM) (*TPM, error) {
	t := &TPM{device: device}
	var err error
	if t.ek, t.ekCertificate, err = findEK(device); err != nil {
		return nil, err
	}
	if t.endorsements, err = (&evidence.Endorsements{EKCertificate: t.ekCertificate}).Encode(); err != nil {
		return nil, err
	}
	ak, err := findAK(device)
	if err != nil {
		return nil, err
	}
	t.ak = tpm2.NamedHandle{Handle: ak.Handle, Name: ak.Name}
	t.akPublic = tpm2.Marshal(ak.Public)
	return t, nil
}

// AKPublic is the attestation key, a marshalled TPMT_PUBLIC.
func (t *TPM) AKPublic() []byte { return t.akPublic }

// AKName is the attestation key's TPM name.
func (t *TPM) AKName() []byte { return t.ak.Name.Buffer }

// EKCertificate is the endorsement certificate, DER; nil where the TPM has none,
// as those of some clouds.
func (t *TPM) EKCertificate() []byte { return t.ekCertificate }

// EKPublic is the endorsement key, a DER SubjectPublicKeyInfo.
func (t *TPM) EKPublic() []byte { return t.ek.public }

// Do runs a sequence of commands that nothing else may come between. Errors
// are f's.
func (t *TPM) Do(f func(transport.TPM) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return f(t.device)
}

// maxCredential caps each part of a credential: the secret is as long as the
// RSA-2048 key that encrypts it, a point on P-384 is shorter, and the blob
// holds two digests at the most.
const maxCredential = 256

// Activate opens a credential that was made for this TPM's two keys (TPM 2.0
// Part 3, section 12.5) and answers it for the connection ch alone. Errors are
// the TPM's, of which most say that it was made for other keys.
func (t *TPM) Activate(ch attest.Channel, blob, encryptedSecret []byte) (attest.Digest, error) {
	secret, err := t.open(blob, encryptedSecret)
	if err != nil {
		return attest.Digest{}, err
	}
	defer clear(secret)
	return ch.ActivationAnswer(secret, t.AKName()), nil
}

func (t *TPM) open(blob, encryptedSecret []byte) ([]byte, error) {
	if len(blob) > maxCredential || len(encryptedSecret) > maxCredential {
		return nil, fmt.Errorf("activating credential: %d and %d bytes, at most %d", len(blob), len(encryptedSecret), maxCredential)
	}
	var secret []byte
	err := t.Do(func(device transport.TPM) error {
		return t.ek.use(device, func(ek tpm2.AuthHandle) error {
			rsp, err := tpm2.ActivateCredential{
				ActivateHandle: tpm2.AuthHandle{Handle: t.ak.Handle, Name: t.ak.Name, Auth: tpm2.PasswordAuth(nil)},
				KeyHandle:      ek,
				CredentialBlob: tpm2.TPM2BIDObject{Buffer: blob},
				Secret:         tpm2.TPM2BEncryptedSecret{Buffer: encryptedSecret},
			}.Execute(device)
			if err != nil {
				return fmt.Errorf("activating credential: %w", err)
			}
			secret = rsp.CertInfo.Buffer
			return nil
		})
	})
	return secret, err
}

// WithPolicySession opens a policy session, fulfils its policy, uses it and
// flushes it, whatever fails in between: a TPM holds three at once, and
// go-tpm's own one-time sessions stay behind where the policy or the transport
// fails.
func WithPolicySession(device transport.TPM, assert func(transport.TPM, tpm2.TPMISHPolicy) error, use func(tpm2.Session) error, options ...tpm2.AuthOption) error {
	session, end, err := tpm2.PolicySession(device, tpm2.TPMAlgSHA256, 16, options...)
	if err != nil {
		return fmt.Errorf("starting policy session: %w", err)
	}
	if err = assert(device, session.Handle()); err == nil {
		err = use(session)
	}
	return errors.Join(err, end())
}

// ErrNoIndex says that an NV index is not defined.
var ErrNoIndex = errors.New("nv index is not defined")

// nvChunk is what every TPM returns at once (TPM_PT_NV_BUFFER_MAX is at least
// 512, PC Client Platform TPM Profile 1.05, table 10).
const nvChunk = 512

// ReadNV reads a whole NV index that its own empty authorization opens. The
// error is ErrNoIndex where there is none.
func ReadNV(device transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, fmt.Errorf("%#x: %w", uint32(index), ErrNoIndex)
	}
	if err != nil {
		return nil, fmt.Errorf("reading nv index %#x: %w", uint32(index), err)
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading nv index %#x: %w", uint32(index), err)
	}
	auth := tpm2.AuthHandle{Handle: index, Name: public.NVName, Auth: tpm2.PasswordAuth(nil)}
	named := tpm2.NamedHandle{Handle: index, Name: public.NVName}
	var out []byte
	for size := int(contents.DataSize); len(out) < size; {
		rsp, err := tpm2.NVRead{
			AuthHandle: auth, NVIndex: named,
			Size: uint16(min(nvChunk, size-len(out))), Offset: uint16(len(out)),
		}.Execute(device)
		if err != nil {
			return nil, fmt.Errorf("reading nv index %#x: %w", uint32(index), err)
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, fmt.Errorf("reading nv index %#x: %w", uint32(index), io.ErrUnexpectedEOF)
		}
		out = append(out, rsp.Data.Buffer...)
	}
	return out, nil
}
