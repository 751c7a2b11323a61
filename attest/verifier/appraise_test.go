package verifier_test

import (
	"bytes"
	"context"
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
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

func TestGoodMachineIsAccepted(t *testing.T) {
	m := verifiertest.Boot(t)
	r, err := m.Input(t).Appraise(m.Policy())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Accepted() || r.Status != attest.Affirming {
		t.Fatalf("appraisal %+v", r)
	}
	if want := (attest.Tiers{Identity: attest.TierSoftware}); r.Tiers != want {
		t.Errorf("tiers %+v, want %+v: a tpm says nothing of memory", r.Tiers, want)
	}
	if r.Release != (attest.ReleaseDigest{9}) || r.Transparency != "none" {
		t.Errorf("release %s, transparency %q", r.Release, r.Transparency)
	}
	for _, d := range attest.Dimensions {
		if r.Finding(d).Reason == "" {
			t.Errorf("%s has no reason", d)
		}
	}
}

// Evidence for one connection, nonce or role never passes for another: promise 1.
func TestBinding(t *testing.T) {
	m := verifiertest.Boot(t)
	good := m.Input(t)
	for name, c := range map[string]struct {
		change func(*verifiertest.Input)
		want   error
	}{
		"replayed nonce":   {func(in *verifiertest.Input) { in.Nonce[0]++ }, attest.ErrStale},
		"other key":        {func(in *verifiertest.Input) { in.Channel.SPKI = []byte("a proxy's key") }, attest.ErrBinding},
		"other connection": {func(in *verifiertest.Input) { in.Channel.Exporter[0]++ }, attest.ErrBinding},
		"other role":       {func(in *verifiertest.Input) { in.Channel.Role = attest.RoleEnrol }, attest.ErrBinding},
		"no channel":       {func(in *verifiertest.Input) { in.Channel.Exporter = [32]byte{} }, attest.ErrBinding},
		"empty":            {func(in *verifiertest.Input) { in.Evidence = nil }, attest.ErrMalformed},
		"trailing byte":    {func(in *verifiertest.Input) { in.Evidence = append(bytes.Clone(in.Evidence), 0) }, attest.ErrMalformed},
		"too long":         {func(in *verifiertest.Input) { in.Evidence = make([]byte, evidence.MaxBytes+1) }, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			in := good
			c.change(&in)
			refuse(t, in, m.Policy(), c.want)
		})
	}
}

// Every field of the evidence is covered by something that is checked.
func TestAlteredEvidence(t *testing.T) {
	m := verifiertest.Boot(t)
	good := m.Input(t)
	other := verifiertest.Boot(t)
	for name, c := range map[string]struct {
		change func(*evidence.Evidence)
		want   error
	}{
		"version":         {func(e *evidence.Evidence) { e.Version++ }, attest.ErrMalformed},
		"binding":         {func(e *evidence.Evidence) { e.Binding++ }, attest.ErrMalformed},
		"unknown role":    {func(e *evidence.Evidence) { e.Role = 9 }, attest.ErrMalformed},
		"configuration":   {func(e *evidence.Evidence) { e.Config[0]++ }, attest.ErrBinding},
		"claim":           {func(e *evidence.Evidence) { e.Claim[0]++ }, attest.ErrBinding},
		"batch count":     {func(e *evidence.Evidence) { e.Batch.Count = 0 }, attest.ErrMalformed},
		"batch path":      {func(e *evidence.Evidence) { e.Batch.Path = []attest.Digest{{1}} }, attest.ErrMalformed},
		"deep path":       {func(e *evidence.Evidence) { e.Batch.Path = make([]attest.Digest, 21) }, attest.ErrMalformed},
		"wider batch":     {func(e *evidence.Evidence) { e.Batch = evidence.Batch{Count: 2, Path: []attest.Digest{{}}} }, attest.ErrBinding},
		"register":        {func(e *evidence.Evidence) { e.TPM.Registers[2] = attest.Digest{1} }, attest.ErrRegisters},
		"no register":     {func(e *evidence.Evidence) { e.TPM.Registers = e.TPM.Registers[:12] }, attest.ErrRegisters},
		"more register":   {func(e *evidence.Evidence) { e.TPM.Registers = append(e.TPM.Registers, attest.Digest{}) }, attest.ErrRegisters},
		"signature":       {func(e *evidence.Evidence) { e.TPM.Signature[len(e.TPM.Signature)-1] ^= 1 }, attest.ErrSignature},
		"quote":           {func(e *evidence.Evidence) { e.TPM.Quote[len(e.TPM.Quote)-1] ^= 1 }, attest.ErrSignature},
		"other's ak":      {func(e *evidence.Evidence) { e.TPM.AKPublic = other.TPM.AKPublic() }, attest.ErrSignature},
		"ak attributes":   {func(e *evidence.Evidence) { e.TPM.AKPublic[5] ^= 0x10 }, attest.ErrIdentity},
		"ek":              {func(e *evidence.Evidence) { e.Endorsements = endorse(t, []byte{1}) }, attest.ErrMalformed},
		"no endorsements": {func(e *evidence.Evidence) { e.Endorsements = nil }, attest.ErrMalformed},
		"long log":        {func(e *evidence.Evidence) { e.EventLog = make([]byte, evidence.MaxEventLog+1) }, attest.ErrMalformed},
		"report":          {func(e *evidence.Evidence) { e.Reports = []evidence.Report{{Kind: 9}} }, attest.ErrMalformed},
		"long ek":         {func(e *evidence.Evidence) { e.Endorsements = endorse(t, make([]byte, 17<<10)) }, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			// What is decoded points into the bytes, which other cases use.
			e, err := evidence.Decode(bytes.Clone(good.Evidence))
			if err != nil {
				t.Fatal(err)
			}
			c.change(e)
			in := good
			if in.Evidence, err = e.Encode(); err != nil {
				t.Fatal(err)
			}
			refuse(t, in, m.Policy(), c.want)
		})
	}
}

func endorse(t *testing.T, ekCertificate []byte) []byte {
	t.Helper()
	b, err := (&evidence.Endorsements{EKCertificate: ekCertificate}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func refuse(t *testing.T, in verifiertest.Input, p verifier.Policy, want error) {
	t.Helper()
	if _, err := in.Appraise(p); !errors.Is(err, want) || !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// A register that differs contraindicates the machine and is named: promise 3.
func TestEachRegisterDecides(t *testing.T) {
	m := verifiertest.Boot(t)
	for register, dimension := range map[uint8]attest.Dimension{
		2: attest.Executables, 3: attest.Executables, 4: attest.Executables, 9: attest.FileSystem,
		11: attest.Executables, 12: attest.Configuration, 13: attest.Configuration,
		14: attest.Configuration, 15: attest.Configuration,
	} {
		name := "pcr" + strconv.Itoa(int(register))
		t.Run(name, func(t *testing.T) {
			m.Reboot(t)
			m.Extend(t, register, attest.Digest{1})
			r, err := m.Input(t).Appraise(m.Policy())
			if err != nil {
				t.Fatal(err)
			}
			if r.Accepted() || !slices.Equal(r.Differs, []string{name}) {
				t.Errorf("accepted %v, differs %v, want %s alone", r.Accepted(), r.Differs, name)
			}
			if f := r.Finding(dimension); f.Verdict != attest.Contraindicated {
				t.Errorf("finding %+v", f)
			}
		})
	}
	m.Reboot(t)
	for _, register := range []uint8{0, 1, 5, 7} {
		m.Extend(t, register, attest.Digest{1})
	}
	if r, err := m.Input(t).Appraise(m.Policy()); err != nil || !r.Accepted() {
		t.Errorf("registers 0, 1, 5 and 7 are reported, not pinned: %v %v", err, r.Differs)
	}
}

// What a release fixes decides, whichever register it is; what it may not fix
// makes it no release at all.
func TestReleaseFixesMoreRegisters(t *testing.T) {
	m := verifiertest.Boot(t)
	wrong := attest.Digest{1}.String()
	for register, dimension := range map[string]attest.Dimension{
		"0": attest.Hardware, "1": attest.Hardware, "5": attest.Hardware, "7": attest.Configuration,
		"2": attest.Executables, "8": attest.Executables, "12": attest.Executables, "14": attest.Executables,
	} {
		p := m.Policy()
		pins := maps.Clone(m.Release.Boots[0].SHA256)
		pins[register] = wrong
		p.Releases = map[attest.ReleaseDigest]*release.Manifest{{9}: {Version: "1.0.0", Epoch: 3, Boots: []release.Boot{{SHA256: pins}}}}
		r, err := m.Input(t).Appraise(p)
		if err != nil || r.Accepted() || r.Finding(dimension).Verdict != attest.Contraindicated {
			t.Errorf("register %s: error %v, accepted %v, %+v", register, err, r.Accepted(), r.Finding(dimension))
		}
	}
}

// Above tier software register 7 has to be fixed to Secure Boot: promise 3.
func TestSecureBootAboveSoftware(t *testing.T) {
	m := verifiertest.Boot(t)
	pins := maps.Clone(m.Release.Boots[0].SHA256)
	pins["7"] = attest.Digest{}.String()
	off, on := m.Release.Boots[0], release.Boot{SecureBoot: true, SHA256: pins}
	others := maps.Clone(pins)
	others["7"] = attest.Sum([]byte("another db")).String()
	other := release.Boot{SecureBoot: true, SHA256: others}
	for name, c := range map[string]struct {
		boots []release.Boot
		want  bool
	}{
		"off":              {[]release.Boot{off}, false},
		"off and pinned":   {[]release.Boot{{SHA256: pins}}, false},
		"on, not pinned":   {[]release.Boot{{SecureBoot: true, SHA256: off.SHA256}}, false},
		"on":               {[]release.Boot{on}, true},
		"off, then the on": {[]release.Boot{off, on}, true},
		// As a release that changes db or dbx has it, on either side of the change.
		"after a change":  {[]release.Boot{off, on, other}, true},
		"before a change": {[]release.Boot{off, other, on}, true},
		"neither":         {[]release.Boot{off, other, other}, false},
	} {
		p := m.Policy()
		p.TrustAnchors[0].Tier = attest.TierProviderRooted
		m.Release.Boots = c.boots
		r, err := m.Input(t).Appraise(p)
		if err != nil || r.Accepted() != c.want {
			t.Errorf("%s: error %v, accepted %v, %+v", name, err, r.Accepted(), r.Finding(attest.Configuration))
		}
	}
}

// A release whose own firmware has Secure Boot on is none of its with it off,
// at any tier.
func TestSecureBootOfItsOwnFirmware(t *testing.T) {
	m := verifiertest.Boot(t)
	ownFirmware(m, t)
	pins := maps.Clone(m.Release.Boots[0].SHA256)
	pins["7"] = attest.Digest{}.String()
	others := maps.Clone(pins)
	others["7"] = attest.Sum([]byte("other keys")).String()
	off, on, other := release.Boot{SHA256: pins}, release.Boot{SecureBoot: true, SHA256: pins}, release.Boot{SecureBoot: true, SHA256: others}
	for name, c := range map[string]struct {
		boots []release.Boot
		only  bool
		want  bool
	}{
		"off, where it may be":  {[]release.Boot{off, other}, false, true},
		"off, where it must on": {[]release.Boot{off, other}, true, false},
		"on":                    {[]release.Boot{off, on}, true, true},
		"nothing but off":       {[]release.Boot{off}, true, false},
	} {
		m.Release.Boots, m.Release.Firmware.SecureBoot = c.boots, c.only
		r, err := m.Input(t).Appraise(m.Policy())
		if err != nil || r.Accepted() != c.want {
			t.Errorf("%s: error %v, accepted %v, %+v", name, err, r.Accepted(), r.Finding(attest.Configuration))
		}
		if c.only && !c.want && len(c.boots) > 1 && !slices.Equal(r.Differs, []string{"pcr7"}) {
			t.Errorf("%s: %v differ", name, r.Differs)
		}
	}
}

// A policy with anything unset rejects, and one that asks for more than is
// proved does too.
func TestPolicyFailsClosed(t *testing.T) {
	m := verifiertest.Boot(t)
	in := m.Input(t)
	for name, change := range map[string]func(*verifier.Policy){
		"empty":                 func(p *verifier.Policy) { *p = verifier.Policy{} },
		"no roots":              func(p *verifier.Policy) { p.TrustAnchors = nil },
		"no releases":           func(p *verifier.Policy) { p.Releases = nil },
		"no tier":               func(p *verifier.Policy) { p.Minimum.Identity = attest.TierNone },
		"no word on revocation": func(p *verifier.Policy) { p.EKRevocation = 0 },
		"no time":               func(p *verifier.Policy) { p.Now = time.Time{} },
		"hollow release": func(p *verifier.Policy) {
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{9}: nil}
		},
		"hollow root": func(p *verifier.Policy) { p.TrustAnchors = []verifier.TrustAnchor{{}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := m.Policy()
			change(&p)
			refuse(t, in, p, attest.ErrPolicy)
		})
	}
	for name, change := range map[string]func(*verifier.Policy){
		"higher tier":   func(p *verifier.Policy) { p.Minimum.Identity = attest.TierHardware },
		"other root":    func(p *verifier.Policy) { p.TrustAnchors[0].Certificate = verifiertest.Boot(t).Device.Root },
		"not yet valid": func(p *verifier.Policy) { p.Now = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"older epoch":   func(p *verifier.Policy) { p.EpochFloor = 4 },
		"no pins in boot": func(p *verifier.Policy) {
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{}: {Boots: []release.Boot{{}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := m.Policy()
			change(&p)
			r, err := in.Appraise(p)
			if err != nil || r.Accepted() {
				t.Errorf("accepted %v, error %v", r.Accepted(), err)
			}
		})
	}
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := verifier.Appraise(v, verifier.NotActivated, m.Policy()); err != nil || r.Accepted() {
		t.Errorf("a key that nobody activated: accepted %v, error %v", r.Accepted(), err)
	}
}

// challenge is a credential for a machine's keys, or for those of two.
func challenge(t *testing.T, ekOf, akOf *verifiertest.Machine) *tpm.Challenge {
	t.Helper()
	ek, err := tpm.ParseEK(ekOf.TPM.EKCertificate())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.ParseAK(akOf.TPM.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	c, err := tpm.NewChallenge(rand.Reader, ek, ak)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestActivationNeedsTheSameTPM(t *testing.T) {
	m, other := verifiertest.Boot(t), verifiertest.Boot(t)
	c := challenge(t, m, m)
	answer, err := m.TPM.Activate(m.Channel, c.CredentialBlob, c.EncryptedSecret)
	if err != nil || c.Answered(answer[:], m.Channel) != nil {
		t.Errorf("own credential: %v", err)
	}
	if err := c.Answered(make([]byte, 32), m.Channel); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("wrong answer: %v", err)
	}
	mixed := challenge(t, m, other)
	if _, err := m.TPM.Activate(m.Channel, mixed.CredentialBlob, mixed.EncryptedSecret); err == nil {
		t.Error("a tpm activated another's attestation key")
	}
}

// A stranger who has a machine open somebody else's credential gets an answer
// for the stranger's own connection: CVE-2026-33697's class.
func TestRelayedActivation(t *testing.T) {
	m := verifiertest.Boot(t)
	c := challenge(t, m, m)
	for name, relay := range map[string]func(*attest.Channel){
		"connection": func(ch *attest.Channel) { ch.Exporter[0]++ },
		"key":        func(ch *attest.Channel) { ch.SPKI = []byte("the stranger's key") },
		"role":       func(ch *attest.Channel) { ch.Role = attest.RoleEnrol },
	} {
		elsewhere := m.Channel
		relay(&elsewhere)
		answer, err := m.TPM.Activate(elsewhere, c.CredentialBlob, c.EncryptedSecret)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Answered(answer[:], m.Channel); !errors.Is(err, attest.ErrIdentity) {
			t.Errorf("relayed from another %s: %v", name, err)
		}
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
	m := verifiertest.Boot(t)
	var err error
	if m.TPM, err = attester.Open(driver{m.Device}); err != nil {
		t.Fatal(err)
	}
	c := challenge(t, m, m)
	for range 5 {
		for _, size := range []int{0, 1, 100, 256, 3000, 6000} {
			if _, err := m.TPM.Activate(m.Channel, make([]byte, size), c.EncryptedSecret); err == nil {
				t.Errorf("a blob of %d bytes was opened", size)
			}
			if _, err := m.TPM.Activate(m.Channel, c.CredentialBlob, make([]byte, size)); err == nil {
				t.Errorf("a secret of %d bytes was opened", size)
			}
		}
	}
	if answer, err := m.TPM.Activate(m.Channel, c.CredentialBlob, c.EncryptedSecret); err != nil || c.Answered(answer[:], m.Channel) != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Signals, which the runtime sends itself, interrupt no command.
func TestSignalsInterruptNoCommand(t *testing.T) {
	m := verifiertest.Boot(t)
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
		if _, err := m.TPM.Registers(tpm.Selection[:]...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttestationKeyOutlivesReset(t *testing.T) {
	m := verifiertest.Boot(t)
	before := m.TPM.AKName()
	m.Reboot(t)
	if !bytes.Equal(before, m.TPM.AKName()) {
		t.Error("the attestation key changed over a reset")
	}
}

// A claim counts when it is in the register, and the data's tier follows from
// the release that sealed the key, not from the claim alone.
func TestClaim(t *testing.T) {
	m := verifiertest.Boot(t)
	claim := attest.Sum([]byte("a claim"))
	in := verifiertest.Input{Nonce: attest.Nonce{1}, Channel: m.Channel}
	in.Evidence = m.Evidence(t, in.Nonce, claim)
	r, err := in.Appraise(m.Policy())
	if err != nil || r.Accepted() || !slices.Equal(r.Differs, []string{"pcr15"}) || r.Tiers.Storage != attest.TierNone {
		t.Errorf("a claim that was not measured: %v %v, storage %s", err, r.Differs, r.Tiers.Storage)
	}
	m.Extend(t, attest.RegisterClaim, claim)
	in.Evidence = m.Evidence(t, in.Nonce, claim)
	if r, err = in.Appraise(m.Policy()); err != nil || !r.Accepted() || r.Tiers.Storage != attest.TierSoftware {
		t.Errorf("a measured claim: %v %+v", err, r)
	}
	if f := r.Finding(attest.StorageOpaque); f.Verdict != attest.NoClaim {
		t.Errorf("an emulated tpm is said to keep the data from the host: %+v", f)
	}
	m.Extend(t, 11, attest.Digest{1})
	in.Evidence = m.Evidence(t, in.Nonce, claim)
	if r, err = in.Appraise(m.Policy()); err != nil || r.Tiers.Storage != attest.TierNone {
		t.Errorf("a claim that another image holds: %v, storage %s", err, r.Tiers.Storage)
	}
}

// No root of a TPM's key says anything of memory.
func TestMemoryNeedsEvidenceOfMemory(t *testing.T) {
	m := verifiertest.Boot(t)
	p := m.Policy()
	p.TrustAnchors[0].Tier = attest.TierHardware
	if r, err := m.Input(t).Appraise(p); err != nil || r.Tiers.Memory != attest.TierNone || r.Tiers.Identity != attest.TierHardware {
		t.Errorf("error %v, tiers %+v", err, r.Tiers)
	}
}
