// Package agent is PID 1 of a machine: it measures what it was told, opens the
// owner's data, proves what it is, and keeps the payload running.
//
// Invariants: the configuration is measured before it is used, whether it comes
// before the network or by it; the claim
// register is extended before the network is up, so that nothing later can
// unseal the data key; what the operator's side says never decides what the
// owner's data is opened to. This is measured code: it links no provider, no
// control plane and nothing that only a server needs.
package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/enrol"
	"github.com/toolshed-cloud/shed/agent/ingress"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/agent/supervise"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Data is where the payload's data lives.
type Data interface {
	// Device mounts what a block device holds there, for a use of it; Memory a file
	// system in memory.
	Device(path string, use boot.Use) error
	Memory() error
	Unmount() error
	// KeepTrial makes the copy of the data that is mounted for a trial the data, and
	// Tidy removes what an update left beside it.
	KeepTrial() error
	Tidy() error
}

// Firmware is what the machine is started by.
type Firmware interface {
	update.Firmware
	// Asked says that StartOnce was called since the last Forget.
	Asked() (bool, error)
	Forget() error
}

// Machine is one boot of one machine.
type Machine struct {
	tpm      *attester.TPM
	volume   *seal.DataVolume
	data     Data
	payload  *supervise.Supervisor
	firmware Firmware
	slots    update.Slots
	updates  *update.Updater
	// trialWait is Parts.TrialWait.
	trialWait time.Duration
	log       *zap.Logger

	certificate tls.Certificate
	spki        []byte

	config   api.Config
	token    api.Token
	measured attest.Digest

	// claiming lets one claim through at a time.
	claiming sync.Mutex
	// mu guards the fields below and the configuration's above, and keeps
	// evidence from being made between the claim's two halves: the register and
	// the owner.
	mu    sync.RWMutex
	owner *ownership.Claim
	// awaiting says that there is a volume which only its owner's key opens.
	awaiting bool
	// trying says that this release is on trial.
	trying          bool
	referenceValues evidence.ReferenceValues
	// endorsements are encoded; nil for the endorsement certificate alone.
	endorsements []byte
	// verdicts are the control plane's, the latest alone.
	verdicts chan bool
}

var (
	_ ingress.Machine = (*Machine)(nil)
	_ enrol.Machine   = (*Machine)(nil)
)

// Parts are what a machine is put together from.
type Parts struct {
	TPM      *attester.TPM
	Volume   *seal.DataVolume
	Data     Data
	Payload  *supervise.Supervisor
	Firmware Firmware
	Lists    update.Lists
	Slots    update.Slots
	Records  update.Records
	// TrialWait is how long a release on trial has to enrol and to have its payload
	// healthy.
	TrialWait   time.Duration
	Certificate tls.Certificate
	// SPKI is the certificate's key, a DER SubjectPublicKeyInfo.
	SPKI []byte
	Log  *zap.Logger
}

// New is a machine that knows nothing of itself yet: Configure comes before it
// shows evidence.
func New(p Parts) *Machine {
	m := &Machine{
		tpm: p.TPM, volume: p.Volume, data: p.Data, payload: p.Payload, firmware: p.Firmware, slots: p.Slots, log: p.Log,
		trialWait: p.TrialWait, certificate: p.Certificate, spki: p.SPKI, verdicts: make(chan bool, 1),
	}
	m.updates = update.New(update.Parts{
		Owner: m.Owner, Here: m.here, Volume: p.Volume, Slots: p.Slots, Firmware: p.Firmware, Lists: p.Lists, Records: p.Records,
		Vouching: m.vouching, Now: time.Now, Log: p.Log.Named("update"),
	})
	p.Volume.Predecessor = m.predecessor
	return m
}

// Configure measures the encoded configuration and only then reads it. It is
// called once, before or after OpenData. The error is api.ErrConfig where it is
// not one to use, or where the token beside it is not the one it names.
func (m *Machine) Configure(encoded []byte, token api.Token) error {
	measured := attest.ConfigDigest(encoded)
	if err := m.tpm.Extend(attest.RegisterConfig, measured); err != nil {
		return err
	}
	config, err := api.DecodeConfig(encoded)
	if err != nil {
		return err
	}
	if token.Hash() != config.TokenHash {
		return fmt.Errorf("%w: token_hash is not that of the token beside it", api.ErrConfig)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config, m.token, m.measured = config, token, measured
	return nil
}

// OpenData reads the claim, opens the owner's volume and closes the way back by
// extending the claim register. It must be done before the network is up. A
// volume that does not open is no error: the machine then serves without a
// payload, so that its owner can see why. The error is update.ErrRestart where
// another release may open it.
func (m *Machine) OpenData(ctx context.Context) error {
	state, err := seal.Load(m.tpm)
	if err != nil {
		return err
	}
	if state.Claim == nil {
		return m.openNothing()
	}
	m.owner = state.Claim
	path, openErr := m.volume.Open(ctx, state)
	if err := m.tpm.Extend(attest.RegisterClaim, state.Claim.Digest()); err != nil {
		return err
	}
	if openErr != nil {
		m.log.Error("the owner's data stays closed", zap.Error(openErr))
		if WasTried(m.firmware, m.log) {
			return update.ErrRestart
		}
		m.await(state)
		return nil
	}
	// What does not mount, or does not start, waits for no key.
	if err := m.startOn(path); err != nil {
		m.log.Error("nothing runs on the owner's data", zap.Error(err))
		if m.Trying() {
			m.updates.Failing(api.ReasonUnhealthy)
			return errors.Join(update.ErrRestart, m.Close())
		}
	}
	return nil
}

// openNothing is for a machine without an owner: its payload runs in memory,
// unless the disk holds what another machine's owner has not got back yet.
func (m *Machine) openNothing() error {
	if err := m.tpm.Extend(attest.RegisterClaim, attest.Unclaimed()); err != nil {
		return err
	}
	if m.await(seal.State{}); m.Awaiting() {
		return nil
	}
	if err := m.data.Memory(); err != nil {
		return err
	}
	return m.payload.Start()
}

// startOn mounts the data that an update has come to, and starts the payload on it.
func (m *Machine) startOn(device string) error {
	use := m.use()
	m.setTrying(use == boot.UseTrial)
	if err := m.data.Device(device, use); err != nil {
		return err
	}
	if err := m.goOn(use); err != nil {
		return err
	}
	return m.payload.Start()
}

// Close stops the payload and closes its data.
func (m *Machine) Close() error {
	m.payload.Stop()
	if err := m.data.Unmount(); err != nil {
		return err
	}
	return m.volume.Mapper.Unmap()
}

// Evidence implements ingress.Machine and enrol.Machine.
func (m *Machine) Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.measured.IsZero() {
		return nil, fmt.Errorf("making evidence: %w: there is none yet", api.ErrConfig)
	}
	s := attester.Subject{Channel: ch, Nonce: nonce, Config: m.measured, Endorsements: m.endorsements}
	if m.owner != nil {
		s.Claim = m.owner.Digest()
	}
	// The control plane has the reference values: it gave them.
	if ch.Role == attest.RoleServe {
		s.ReferenceValues = m.referenceValues
	}
	return m.tpm.Evidence(s)
}

// Activate implements ingress.Machine and enrol.Machine.
func (m *Machine) Activate(ch attest.Channel, blob, secret []byte) (attest.Digest, error) {
	return m.tpm.Activate(ch, blob, secret)
}

// EKCertificate implements enrol.Machine.
func (m *Machine) EKCertificate() []byte { return m.tpm.EKCertificate() }

// EKPublic implements enrol.Machine.
func (m *Machine) EKPublic() []byte { return m.tpm.EKPublic() }

// AKPublic implements enrol.Machine.
func (m *Machine) AKPublic() []byte { return m.tpm.AKPublic() }

// Owner implements ingress.Machine.
func (m *Machine) Owner() *ownership.Claim {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.owner
}

// Claim implements ingress.Machine: design promise 10. The claim holds from the
// moment it is committed; a crash afterwards is made good at the next boot.
func (m *Machine) Claim(ctx context.Context, c *ownership.Claim) error {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	if m.Owner() != nil {
		return seal.ErrClaimed
	}
	switch adopted, err := m.adopt(ctx); {
	case adopted:
		return errors.Join(err, seal.ErrClaimed)
	case err != nil:
		return err
	}
	if !bytes.Equal(c.Body.AKName, m.tpm.AKName()) {
		return fmt.Errorf("%w: it was made for another machine", attest.ErrClaim)
	}
	if err := m.volume.CheckBlank(); err != nil {
		return err
	}
	if err := m.commit(c); err != nil {
		return err
	}
	// From here on the client's patience no longer counts.
	err := m.mountVolume(context.WithoutCancel(ctx), c)
	if err != nil {
		m.log.Error("a claim could not be carried out", zap.Error(err))
	}
	return err
}

// commit makes c the machine's claim for good.
func (m *Machine) commit(c *ownership.Claim) error {
	if err := seal.Prepare(m.tpm); err != nil {
		return err
	}
	if err := seal.Commit(m.tpm, c); err != nil {
		return err
	}
	return m.hold(c)
}

// adopt finishes a claim of this boot that is in the TPM and was not followed
// through, because locking it failed. It reports whether there was one.
func (m *Machine) adopt(ctx context.Context) (bool, error) {
	state, err := seal.Load(m.tpm)
	if err != nil || state.Claim == nil {
		return false, err
	}
	if err := m.hold(state.Claim); err != nil {
		return true, err
	}
	return true, m.mountVolume(context.WithoutCancel(ctx), state.Claim)
}

// hold puts a claim that is in the TPM into the register and into force, as
// one step to whoever asks for evidence.
func (m *Machine) hold(c *ownership.Claim) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.tpm.Extend(attest.RegisterClaim, c.Digest()); err != nil {
		return err
	}
	m.owner = c
	return nil
}

// mountVolume takes the payload from memory to the owner's new volume.
func (m *Machine) mountVolume(ctx context.Context, c *ownership.Claim) error {
	m.payload.Stop()
	if err := m.data.Unmount(); err != nil {
		return err
	}
	path, err := m.volume.Open(ctx, seal.State{Claim: c})
	if err != nil {
		return err
	}
	if err := m.startOn(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mountWait)
	defer cancel()
	return m.payload.WaitHealthy(ctx)
}

// mountWait bounds how long a claim waits for the payload to serve again.
const mountWait = 30 * time.Second

// SetReferenceValues keeps what the control plane says was released, for clients to check
// by its own signature.
func (m *Machine) SetReferenceValues(r api.EnrolResult) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.referenceValues = evidence.ReferenceValues{Manifest: r.Manifest, Bundle: r.Bundle, Proof: within(r.Proof)}
	select {
	case <-m.verdicts:
	default:
	}
	m.verdicts <- r.Accepted
}

// Endorse implements enrol.Machine. Whoever verifies checks each of them, so
// that at worst they are of no use. The error is attest.ErrMalformed.
func (m *Machine) Endorse(encoded []byte) error {
	endorsements, err := merge(encoded, m.tpm.EKCertificate(), m.tpm.EKPublic())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endorsements = endorsements
	return err
}

// merge puts the machine's own endorsement certificate into what was handed out.
// A machine without one takes what was handed out for its key. Nothing handed
// out, or nothing that can be used, is nil.
func merge(encoded, certificate, key []byte) ([]byte, error) {
	if len(encoded) == 0 {
		return nil, nil
	}
	if len(encoded) > api.MaxEndorsements {
		return nil, fmt.Errorf("%w: endorsements have %d bytes, at most %d", attest.ErrMalformed, len(encoded), api.MaxEndorsements)
	}
	e, err := evidence.DecodeEndorsements(encoded)
	if err != nil {
		return nil, err
	}
	if certificate != nil {
		e.EKCertificate = certificate
	} else if err := isFor(e.EKCertificate, key); err != nil {
		return nil, err
	}
	return e.Encode()
}

// isFor refuses a certificate of another's key: evidence that shows it would be
// refused for that alone.
func isFor(certificate, key []byte) error {
	if len(certificate) == 0 {
		return nil
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("%w: endorsement certificate that was handed out: %w", attest.ErrMalformed, err)
	}
	if !bytes.Equal(parsed.RawSubjectPublicKeyInfo, key) {
		return fmt.Errorf("%w: the endorsement certificate that was handed out is for another key", attest.ErrMalformed)
	}
	return nil
}

// SetProof keeps a newer proof of the same release.
func (m *Machine) SetProof(proof []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.referenceValues.Proof = within(proof)
}

// within drops a proof that no client would read: evidence has to stay below
// its own cap whatever the control plane says.
func within(proof []byte) []byte {
	if len(proof) > logproof.MaxDocumentBytes {
		return nil
	}
	return proof
}

// Ingress is the machine's inbound port.
func (m *Machine) Ingress() *ingress.Ingress {
	return &ingress.Ingress{
		Machine: m, Certificate: m.certificate, SPKI: m.spki,
		Payload: m.payload.Transport(), Output: m.payload.Output,
	}
}

// Enroller keeps the machine enrolled at its control plane.
func (m *Machine) Enroller() *enrol.Enroller {
	return &enrol.Enroller{
		Config: m.config, Token: m.token, Machine: m, Payload: m.payload,
		Certificate: m.certificate, SPKI: m.spki, Enrolled: m.SetReferenceValues, Refreshed: m.SetProof,
		Updates: m.updates, Log: m.log,
	}
}
