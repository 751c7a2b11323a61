package verifier_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// machine is a software TPM whose registers were extended as a boot of the
// release would.
type machine struct {
	device  *swtpmtest.TPM
	tpm     *attester.TPM
	release *release.Manifest
	config  []byte
	channel attest.Channel
}

func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{device: swtpmtest.Start(t), config: []byte("configuration"), channel: attest.Channel{
		Role: attest.RoleServe, SPKI: []byte("key of this boot"), Exporter: [32]byte{1},
	}}
	m.measure(t)
	return m
}

// reboot resets the registers and extends them again.
func (m *machine) reboot(t *testing.T) {
	t.Helper()
	m.device.PowerOff()
	m.device.PowerOn()
	m.measure(t)
}

func (m *machine) measure(t *testing.T) {
	t.Helper()
	var err error
	if m.tpm, err = attester.Open(m.device); err != nil {
		t.Fatal(err)
	}
	separator := attest.Sum([]byte{0, 0, 0, 0})
	image := attest.Sum([]byte("image"))
	want := map[string]string{}
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: image, 9: image, 11: image,
		14: attest.ConfigDigest(m.config), 15: attest.Unclaimed(),
	} {
		m.extend(t, register, digest)
		if register == 4 || register == 9 || register == 11 {
			want[strconv.Itoa(int(register))] = attest.Extend(attest.Digest{}, digest).String()
		}
	}
	m.release = &release.Manifest{Schema: 1, Version: "1.0.0", Epoch: 3, Boots: []release.Boot{{SHA256: want}}}
}

func (m *machine) extend(t *testing.T, register uint8, digest attest.Digest) {
	t.Helper()
	if err := m.tpm.Extend(register, digest); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) evidence(t *testing.T, nonce attest.Nonce, claim []byte) []byte {
	t.Helper()
	b, err := m.tpm.Evidence(attester.Subject{Channel: m.channel, Nonce: nonce, Config: m.config, Claim: claim})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (m *machine) input(t *testing.T) verifier.Input {
	t.Helper()
	nonce := attest.Nonce{7}
	return verifier.Input{
		Evidence: m.evidence(t, nonce, nil), Nonce: nonce, Channel: m.channel, Activation: verifier.ActivatedHere,
	}
}

func (m *machine) policy() verifier.Policy {
	return verifier.Policy{
		TrustAnchors: []verifier.TrustAnchor{{Certificate: m.device.Root, Tier: attest.TierSoftware}},
		Releases:     map[attest.ReleaseDigest]*release.Manifest{{9}: m.release},
		MinimumTier:  attest.TierSoftware,
		Now:          time.Now(),
	}
}

func TestGoodMachineIsAccepted(t *testing.T) {
	m := boot(t)
	r, err := verifier.Appraise(m.input(t), m.policy())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Appraisal.Accepted() || r.Appraisal.Status != attest.Affirming {
		t.Fatalf("appraisal %+v", r.Appraisal)
	}
	if want := (attest.Tiers{Memory: attest.TierSoftware, Identity: attest.TierSoftware}); r.Appraisal.Tiers != want {
		t.Errorf("tiers %+v, want %+v: an emulated tpm is worth no more", r.Appraisal.Tiers, want)
	}
	if r.Appraisal.Release != (attest.ReleaseDigest{9}) || r.Appraisal.Transparency != "none" {
		t.Errorf("release %s, transparency %q", r.Appraisal.Release, r.Appraisal.Transparency)
	}
	for _, d := range attest.Dimensions {
		if r.Appraisal.Finding(d).Reason == "" {
			t.Errorf("%s has no reason", d)
		}
	}
}

// Evidence for one connection, nonce or role never passes for another: promise 1.
func TestBinding(t *testing.T) {
	m := boot(t)
	good := m.input(t)
	for name, c := range map[string]struct {
		change func(*verifier.Input)
		want   error
	}{
		"replayed nonce":   {func(in *verifier.Input) { in.Nonce[0]++ }, attest.ErrStale},
		"other key":        {func(in *verifier.Input) { in.Channel.SPKI = []byte("a proxy's key") }, attest.ErrBinding},
		"other connection": {func(in *verifier.Input) { in.Channel.Exporter[0]++ }, attest.ErrBinding},
		"other role":       {func(in *verifier.Input) { in.Channel.Role = attest.RoleEnrol }, attest.ErrBinding},
		"no channel":       {func(in *verifier.Input) { in.Channel.Exporter = [32]byte{} }, attest.ErrBinding},
		"empty":            {func(in *verifier.Input) { in.Evidence = nil }, attest.ErrMalformed},
		"trailing byte":    {func(in *verifier.Input) { in.Evidence = append(bytes.Clone(in.Evidence), 0) }, attest.ErrMalformed},
		"too long":         {func(in *verifier.Input) { in.Evidence = make([]byte, evidence.MaxBytes+1) }, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			in := good
			c.change(&in)
			refuse(t, in, m.policy(), c.want)
		})
	}
}

// Every field of the evidence is covered by something that is checked.
func TestAlteredEvidence(t *testing.T) {
	m := boot(t)
	good := m.input(t)
	other := boot(t)
	for name, c := range map[string]struct {
		change func(*evidence.Evidence)
		want   error
	}{
		"version":       {func(e *evidence.Evidence) { e.Version++ }, attest.ErrMalformed},
		"binding":       {func(e *evidence.Evidence) { e.Binding++ }, attest.ErrMalformed},
		"unknown role":  {func(e *evidence.Evidence) { e.Role = 9 }, attest.ErrMalformed},
		"configuration": {func(e *evidence.Evidence) { e.Config = []byte("other") }, attest.ErrBinding},
		"claim":         {func(e *evidence.Evidence) { e.Claim = []byte{1} }, attest.ErrMalformed},
		"batch count":   {func(e *evidence.Evidence) { e.Batch.Count = 0 }, attest.ErrMalformed},
		"batch path":    {func(e *evidence.Evidence) { e.Batch.Path = []attest.Digest{{1}} }, attest.ErrMalformed},
		"deep path":     {func(e *evidence.Evidence) { e.Batch.Path = make([]attest.Digest, 21) }, attest.ErrMalformed},
		"wider batch":   {func(e *evidence.Evidence) { e.Batch = evidence.Batch{Count: 2, Path: []attest.Digest{{}}} }, attest.ErrBinding},
		"register":      {func(e *evidence.Evidence) { e.TPM.Registers[2] = attest.Digest{1} }, attest.ErrRegisters},
		"no register":   {func(e *evidence.Evidence) { delete(e.TPM.Registers, 12) }, attest.ErrRegisters},
		"more register": {func(e *evidence.Evidence) { e.TPM.Registers[20] = attest.Digest{} }, attest.ErrRegisters},
		"signature":     {func(e *evidence.Evidence) { e.TPM.Signature[len(e.TPM.Signature)-1] ^= 1 }, attest.ErrSignature},
		"quote":         {func(e *evidence.Evidence) { e.TPM.Quote[len(e.TPM.Quote)-1] ^= 1 }, attest.ErrSignature},
		"other's ak":    {func(e *evidence.Evidence) { e.TPM.AKPublic = other.tpm.AKPublic() }, attest.ErrSignature},
		"ak attributes": {func(e *evidence.Evidence) { e.TPM.AKPublic[5] ^= 0x10 }, attest.ErrIdentity},
		"ek":            {func(e *evidence.Evidence) { e.TPM.EKCertificate = []byte{1} }, attest.ErrMalformed},
		"long ek":       {func(e *evidence.Evidence) { e.TPM.EKCertificate = make([]byte, 9<<10) }, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := evidence.Decode(good.Evidence)
			if err != nil {
				t.Fatal(err)
			}
			c.change(e)
			in := good
			if in.Evidence, err = e.Encode(); err != nil {
				t.Fatal(err)
			}
			refuse(t, in, m.policy(), c.want)
		})
	}
}

func refuse(t *testing.T, in verifier.Input, p verifier.Policy, want error) {
	t.Helper()
	if _, err := verifier.Appraise(in, p); !errors.Is(err, want) || !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// A register that differs contraindicates the machine and is named: promise 3.
func TestEachRegisterDecides(t *testing.T) {
	m := boot(t)
	for register, dimension := range map[uint8]attest.Dimension{
		2: attest.Executables, 3: attest.Executables, 4: attest.Executables, 9: attest.FileSystem,
		11: attest.Executables, 12: attest.Configuration, 13: attest.Configuration,
		14: attest.Configuration, 15: attest.Configuration,
	} {
		name := "pcr" + strconv.Itoa(int(register))
		t.Run(name, func(t *testing.T) {
			m.reboot(t)
			m.extend(t, register, attest.Digest{1})
			r, err := verifier.Appraise(m.input(t), m.policy())
			if err != nil {
				t.Fatal(err)
			}
			if r.Appraisal.Accepted() || !slices.Equal(r.Appraisal.Differs, []string{name}) {
				t.Errorf("accepted %v, differs %v, want %s alone", r.Appraisal.Accepted(), r.Appraisal.Differs, name)
			}
			if f := r.Appraisal.Finding(dimension); f.Verdict != attest.Contraindicated {
				t.Errorf("finding %+v", f)
			}
		})
	}
	m.reboot(t)
	for _, register := range []uint8{0, 1, 5, 7} {
		m.extend(t, register, attest.Digest{1})
	}
	if r, err := verifier.Appraise(m.input(t), m.policy()); err != nil || !r.Appraisal.Accepted() {
		t.Errorf("registers 0, 1, 5 and 7 are reported, not pinned: %v %v", err, r.Appraisal.Differs)
	}
}

// What a release fixes decides, whichever register it is; what it may not fix
// makes it no release at all.
func TestReleaseFixesMoreRegisters(t *testing.T) {
	m := boot(t)
	wrong := attest.Digest{1}.String()
	for register, dimension := range map[string]attest.Dimension{
		"0": attest.Hardware, "1": attest.Hardware, "5": attest.Hardware, "7": attest.Configuration,
		"2": attest.Executables, "8": attest.Executables, "12": attest.Executables, "14": attest.Executables,
	} {
		p := m.policy()
		pins := maps.Clone(m.release.Boots[0].SHA256)
		pins[register] = wrong
		p.Releases = map[attest.ReleaseDigest]*release.Manifest{{9}: {Version: "1.0.0", Epoch: 3, Boots: []release.Boot{{SHA256: pins}}}}
		r, err := verifier.Appraise(m.input(t), p)
		if err != nil || r.Appraisal.Accepted() || r.Appraisal.Finding(dimension).Verdict != attest.Contraindicated {
			t.Errorf("register %s: error %v, accepted %v, %+v", register, err, r.Appraisal.Accepted(), r.Appraisal.Finding(dimension))
		}
	}
}

// Above tier software register 7 has to be fixed to Secure Boot: promise 3.
func TestSecureBootAboveSoftware(t *testing.T) {
	m := boot(t)
	pins := maps.Clone(m.release.Boots[0].SHA256)
	pins["7"] = attest.Digest{}.String()
	off, on := m.release.Boots[0], release.Boot{SecureBoot: true, SHA256: pins}
	for name, c := range map[string]struct {
		boots []release.Boot
		want  bool
	}{
		"off":              {[]release.Boot{off}, false},
		"off and pinned":   {[]release.Boot{{SHA256: pins}}, false},
		"on, not pinned":   {[]release.Boot{{SecureBoot: true, SHA256: off.SHA256}}, false},
		"on":               {[]release.Boot{on}, true},
		"off, then the on": {[]release.Boot{off, on}, true},
	} {
		p := m.policy()
		p.TrustAnchors[0].Tier = attest.TierProviderRooted
		m.release.Boots = c.boots
		r, err := verifier.Appraise(m.input(t), p)
		if err != nil || r.Appraisal.Accepted() != c.want {
			t.Errorf("%s: error %v, accepted %v, %+v", name, err, r.Appraisal.Accepted(), r.Appraisal.Finding(attest.Configuration))
		}
	}
}

// A policy with anything unset rejects, and one that asks for more than is
// proved does too.
func TestPolicyFailsClosed(t *testing.T) {
	m := boot(t)
	in := m.input(t)
	for name, change := range map[string]func(*verifier.Policy){
		"empty":       func(p *verifier.Policy) { *p = verifier.Policy{} },
		"no roots":    func(p *verifier.Policy) { p.TrustAnchors = nil },
		"no releases": func(p *verifier.Policy) { p.Releases = nil },
		"no tier":     func(p *verifier.Policy) { p.MinimumTier = attest.TierNone },
		"no time":     func(p *verifier.Policy) { p.Now = time.Time{} },
		"hollow release": func(p *verifier.Policy) {
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{9}: nil}
		},
		"hollow root": func(p *verifier.Policy) { p.TrustAnchors = []verifier.TrustAnchor{{}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := m.policy()
			change(&p)
			refuse(t, in, p, attest.ErrPolicy)
		})
	}
	for name, change := range map[string]func(*verifier.Policy){
		"higher tier":   func(p *verifier.Policy) { p.MinimumTier = attest.TierHardware },
		"other root":    func(p *verifier.Policy) { p.TrustAnchors[0].Certificate = boot(t).device.Root },
		"not yet valid": func(p *verifier.Policy) { p.Now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"older epoch":   func(p *verifier.Policy) { p.EpochFloor = 4 },
		"no pins in boot": func(p *verifier.Policy) {
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{}: {Boots: []release.Boot{{}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := m.policy()
			change(&p)
			r, err := verifier.Appraise(in, p)
			if err != nil || r.Appraisal.Accepted() {
				t.Errorf("accepted %v, error %v", r.Appraisal.Accepted(), err)
			}
		})
	}
	in.Activation = verifier.NotActivated
	if r, err := verifier.Appraise(in, m.policy()); err != nil || r.Appraisal.Accepted() {
		t.Errorf("a key that nobody activated: accepted %v, error %v", r.Appraisal.Accepted(), err)
	}
}

func TestActivationNeedsTheSameTPM(t *testing.T) {
	m, other := boot(t), boot(t)
	challenge, err := tpm.NewChallenge(rand.Reader, m.tpm.EKCertificate(), m.tpm.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := m.tpm.Activate(challenge.CredentialBlob, challenge.EncryptedSecret)
	if err != nil || challenge.Answered(secret) != nil {
		t.Errorf("own credential: %v", err)
	}
	if err := challenge.Answered(make([]byte, 32)); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("wrong secret: %v", err)
	}
	mixed, err := tpm.NewChallenge(rand.Reader, m.tpm.EKCertificate(), other.tpm.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.tpm.Activate(mixed.CredentialBlob, mixed.EncryptedSecret); err == nil {
		t.Error("a tpm activated another's attestation key")
	}
}

// driver refuses what is longer than the kernel's buffer, as /dev/tpm0 does.
type driver struct{ transport.TPM }

func (d driver) Send(command []byte) ([]byte, error) {
	if len(command) > 4096 {
		return nil, unix.E2BIG
	}
	return d.TPM.Send(command)
}

// Whatever a stranger sends for a credential, the TPM has sessions left.
func TestFailedActivationsLeaveNoSession(t *testing.T) {
	m := boot(t)
	var err error
	if m.tpm, err = attester.Open(driver{m.device}); err != nil {
		t.Fatal(err)
	}
	challenge, err := tpm.NewChallenge(rand.Reader, m.tpm.EKCertificate(), m.tpm.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		for _, size := range []int{0, 1, 100, 256, 3000, 6000} {
			if _, err := m.tpm.Activate(make([]byte, size), challenge.EncryptedSecret); err == nil {
				t.Errorf("a blob of %d bytes was opened", size)
			}
			if _, err := m.tpm.Activate(challenge.CredentialBlob, make([]byte, size)); err == nil {
				t.Errorf("a secret of %d bytes was opened", size)
			}
		}
	}
	if secret, err := m.tpm.Activate(challenge.CredentialBlob, challenge.EncryptedSecret); err != nil || challenge.Answered(secret) != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Signals, which the runtime sends itself, interrupt no command.
func TestSignalsInterruptNoCommand(t *testing.T) {
	m := boot(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	runtime.LockOSThread()
	thread := unix.Gettid()
	go func() {
		for ctx.Err() == nil {
			unix.Tgkill(unix.Getpid(), thread, unix.SIGURG) //nolint:errcheck // it is this process
		}
	}()
	for range 200 {
		if _, err := m.tpm.Registers(tpm.Selection[:]...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttestationKeyOutlivesReset(t *testing.T) {
	m := boot(t)
	before := m.tpm.AKName()
	m.reboot(t)
	if !bytes.Equal(before, m.tpm.AKName()) {
		t.Error("the attestation key changed over a reset")
	}
}

// A claim counts when it is the owner's, for this machine, and in the register.
func TestClaim(t *testing.T) {
	m := boot(t)
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(ak []byte) *ownership.Claim {
		c, err := ownership.Sign(owner, ownership.Body{AKName: ak, Update: ownership.UpdateAsk, Recovery: [32]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := sign(m.tpm.AKName())
	nonce := attest.Nonce{1}
	in := verifier.Input{Nonce: nonce, Channel: m.channel, Activation: verifier.ActivatedBefore}
	in.Evidence = m.evidence(t, nonce, c.Encode())
	r, err := verifier.Appraise(in, m.policy())
	if err != nil || r.Appraisal.Accepted() || !slices.Equal(r.Appraisal.Differs, []string{"pcr15"}) {
		t.Errorf("a claim that was not measured: %v %v", err, r.Appraisal.Differs)
	}
	m.extend(t, attest.RegisterClaim, c.Digest())
	in.Evidence = m.evidence(t, nonce, c.Encode())
	r, err = verifier.Appraise(in, m.policy())
	if err != nil || !r.Appraisal.Accepted() || r.Facts.Claim != c.Digest() {
		t.Errorf("a measured claim: %v %+v", err, r.Appraisal)
	}
	if r.Appraisal.Tiers.Storage != attest.TierSoftware {
		t.Errorf("storage tier %s", r.Appraisal.Tiers.Storage)
	}
	other := sign(append([]byte{0, 0x0b}, make([]byte, 32)...))
	in.Evidence = m.evidence(t, nonce, other.Encode())
	refuse(t, in, m.policy(), attest.ErrClaim)
}
