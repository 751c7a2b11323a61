// Package verifiertest is a machine for tests of what verifies machines: a
// real software TPM whose registers were extended as a boot of a release
// would, with stand-ins for the processors that report beside it.
//
// Invariants: it is for tests and benchmarks alone; every root that vouches
// for its machines was drawn by the process that uses it and is shipped
// nowhere.
package verifiertest

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Machine is a booted machine.
type Machine struct {
	Device  *swtpmtest.TPM
	TPM     *attester.TPM
	Release *release.Manifest
	Config  []byte
	Channel attest.Channel
	// Reporters are the stand-ins for its hardware, Endorsements what vouches
	// for these beside the endorsement certificate, the TPM's own where none is
	// set.
	Reporters    []attester.Reporter
	Endorsements evidence.Endorsements
	// Paravisor runs the TPM where it is set, and its key signs in place of the
	// agent's.
	Paravisor *Azure
	// Values are what it shows of its release; none at first.
	Values evidence.ReferenceValues
}

// Boot starts a machine that runs the release in it.
func Boot(t testing.TB) *Machine {
	t.Helper()
	m := &Machine{Device: swtpmtest.Start(t), Config: []byte("configuration"), Channel: attest.Channel{
		Role: attest.RoleServe, SPKI: []byte("key of this boot"), Exporter: [32]byte{1},
	}}
	m.measure(t)
	return m
}

// Reboot resets the registers and extends them again.
func (m *Machine) Reboot(t testing.TB) {
	t.Helper()
	m.Device.PowerOff()
	m.Device.PowerOn()
	m.measure(t)
}

func (m *Machine) measure(t testing.TB) {
	t.Helper()
	var err error
	if m.TPM, err = attester.Open(m.Device); err != nil {
		t.Fatal(err)
	}
	separator := attest.Sum([]byte{0, 0, 0, 0})
	image := attest.Sum([]byte("image"))
	want := map[string]string{}
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: image, 9: image, 11: image,
		14: attest.ConfigDigest(m.Config), 15: attest.Unclaimed(),
	} {
		m.Extend(t, register, digest)
		if register == 4 || register == 9 || register == 11 {
			want[strconv.Itoa(int(register))] = attest.Extend(attest.Digest{}, digest).String()
		}
	}
	m.Release = &release.Manifest{Schema: 1, Version: "1.0.0", Epoch: 3, Boots: []release.Boot{{SHA256: want}}}
}

// Extend extends a register.
func (m *Machine) Extend(t testing.TB, register uint8, digest attest.Digest) {
	t.Helper()
	if err := m.TPM.Extend(register, digest); err != nil {
		t.Fatal(err)
	}
}

// PinSecureBoot has the release fix register 7 to what it is, as a boot with
// Secure Boot: above tier software no other is accepted.
func (m *Machine) PinSecureBoot() {
	boot := &m.Release.Boots[0]
	boot.SecureBoot, boot.SHA256["7"] = true, attest.Digest{}.String()
}

// Evidence answers a nonce on the machine's channel, as one that holds the
// claim of this digest.
func (m *Machine) Evidence(t testing.TB, nonce attest.Nonce, claim attest.Digest) []byte {
	t.Helper()
	b, err := m.Ask(nonce, m.Channel, claim)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Ask is Evidence on any channel. Errors are the TPM's and the reporters'.
func (m *Machine) Ask(nonce attest.Nonce, ch attest.Channel, claim attest.Digest) ([]byte, error) {
	m.TPM.Reporters = m.Reporters
	vouching := m.Endorsements
	if vouching.EKCertificate == nil && m.Paravisor == nil {
		vouching.EKCertificate = m.TPM.EKCertificate()
	}
	endorsements, err := vouching.Encode()
	if err != nil {
		return nil, err
	}
	b, err := m.TPM.Evidence(attester.Subject{
		Channel: ch, Nonce: nonce, Config: attest.ConfigDigest(m.Config), Claim: claim, Endorsements: endorsements, ReferenceValues: m.Values,
	})
	if err != nil || m.Paravisor == nil {
		return b, err
	}
	return m.Paravisor.signed(m, b, ch.Leaf(nonce, attest.ConfigDigest(m.Config), claim))
}

// Input is one piece of evidence with what the verifier knows of its own.
type Input struct {
	Evidence []byte
	Nonce    attest.Nonce
	Channel  attest.Channel
}

// Input asks for evidence.
func (m *Machine) Input(t testing.TB) Input {
	t.Helper()
	nonce := attest.Nonce{7}
	return Input{Evidence: m.Evidence(t, nonce, attest.Digest{}), Nonce: nonce, Channel: m.Channel}
}

// Appraise verifies and appraises, as a client does that has activated the key.
func (in Input) Appraise(p verifier.Policy) (attest.AttestationResult, error) {
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		return attest.AttestationResult{}, err
	}
	return verifier.Appraise(v, verifier.ActivatedHere, p)
}

// Policy accepts the machine as it booted, and no hardware report.
func (m *Machine) Policy() verifier.Policy {
	return verifier.Policy{
		TrustAnchors: []verifier.TrustAnchor{{Certificate: m.Device.Root, Tier: attest.TierSoftware}},
		Releases:     map[attest.ReleaseDigest]*release.Manifest{{9}: m.Release},
		Minimum:      attest.Tiers{Identity: attest.TierSoftware},
		EKRevocation: chain.RequiredWhereNamed,
		Now:          time.Now(),
	}
}

// PolicyAt is Policy with the machine's own authority worth a tier, as if it
// were a cloud's or a maker's.
func (m *Machine) PolicyAt(tier attest.Tier) verifier.Policy {
	p := m.Policy()
	p.TrustAnchors[0].Tier = tier
	p.Minimum.Identity = tier
	return p
}

// Quote has the agent's attestation key sign a quote over any extra data, as a
// TPM does for whoever reaches it. Errors are the TPM's.
func (m *Machine) Quote(extra attest.Digest) (quote, signature []byte, err error) {
	return m.byAgent(tpm.PCRSelection(), extra)
}

// QuoteOver has the key that signs the machine's evidence sign a quote over any
// registers. Errors are the TPM's.
func (m *Machine) QuoteOver(selection tpm2.TPMLPCRSelection, extra attest.Digest) (quote, signature []byte, err error) {
	if m.Paravisor != nil {
		return m.quote(m.Paravisor.key, selection, extra)
	}
	return m.byAgent(selection, extra)
}

func (m *Machine) byAgent(selection tpm2.TPMLPCRSelection, extra attest.Digest) (quote, signature []byte, err error) {
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.AKTemplate())}.Execute(m.Device)
	if err != nil {
		return nil, nil, err
	}
	defer tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(m.Device) //nolint:errcheck // the TPM ends with its test
	return m.quote(tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, selection, extra)
}

func (m *Machine) quote(key tpm2.NamedHandle, selection tpm2.TPMLPCRSelection, extra attest.Digest) (quote, signature []byte, err error) {
	rsp, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: extra[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      selection,
	}.Execute(m.Device)
	if err != nil {
		return nil, nil, err
	}
	return rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature), nil
}

// Manifest is the release's manifest, encoded, as a signer would have it: what
// a boot does not fix is made up. Errors are release's.
func (m *Machine) Manifest() ([]byte, error) {
	whole := *m.Release
	file := func(name string) release.File {
		return release.File{Name: name, SHA256: attest.Sum([]byte(name)), Bytes: 1}
	}
	whole.Architecture, whole.StubVersion, whole.Disk, whole.UKI = "amd64", 252, file("disk.raw"), file("uki.efi")
	whole.Inputs = []release.Input{{Name: "kernel", SHA256: attest.Sum([]byte("kernel")), Bytes: 1}}
	boot := whole.Boots[0]
	boot.SHA384 = map[string]string{}
	for register := range boot.SHA256 {
		boot.SHA384[register] = strings.Repeat("0", 96)
	}
	whole.Boots = []release.Boot{boot}
	return whole.Encode()
}
