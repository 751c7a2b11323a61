package main

import (
	"crypto/x509"
	"encoding/asn1"
	"maps"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onTPM are the attacks on a machine whose TPM is all that vouches for it.
func onTPM(tb testing.TB) ([]attack, error) {
	m := verifiertest.Boot(tb)
	t := &target{tb: tb, machine: m, policy: m.Policy, another: verifiertest.Boot(tb)}
	all := t.bound()
	all = append(all, t.registers()...)
	all = append(all, t.releases()...)
	all = append(all, t.identity()...)
	all = append(all, onMaker(tb)...)
	all = append(all, onClaimed(tb)...)
	return append(all, t.activations()...), nil
}

// registers extends each register that is fixed, as an attacker's boot would.
func (t *target) registers() []attack {
	var all []attack
	for _, c := range []struct {
		register uint8
		name     string
	}{
		{2, "option ROM or driver before the image"}, {3, "a driver's data before the image"},
		{4, "another kernel or UKI"}, {9, "another command line or initrd"}, {11, "another section of the UKI"},
		{12, "command line from outside"}, {13, "extension from outside"},
		{attest.RegisterConfig, "another configuration"}, {attest.RegisterClaim, "another claim measured"},
	} {
		m := t.machine
		m.Reboot(t.tb)
		good := judged(t.input(m).Appraise(t.policy()))
		m.Extend(t.tb, c.register, attest.Digest{1})
		name := tpmName(c.register)
		all = append(all, attack{
			name: c.name, good: good, bad: judged(t.input(m).Appraise(t.policy())),
			reason: reason{kind: attest.ErrRegisters, says: name, differs: []string{name}},
		})
	}
	t.machine.Reboot(t.tb)
	return all
}

func tpmName(register uint8) string {
	const digits = "0123456789"
	if register < 10 {
		return "pcr" + digits[register:register+1]
	}
	return "pcr1" + digits[register-10:register-9]
}

func (t *target) releases() []attack {
	return []attack{
		t.under("another release", reason{kind: attest.ErrRegisters, differs: []string{"pcr4"}}, func(p *verifier.Policy) {
			other := *t.machine.Release
			boot := other.Boots[0]
			boot.SHA256 = map[string]string{"4": attest.Digest{9}.String(), "9": boot.SHA256["9"], "11": boot.SHA256["11"]}
			other.Boots = []release.Boot{boot}
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{1}: &other}
		}),
		t.under("older epoch", reason{kind: attest.ErrRelease, says: "epoch"}, func(p *verifier.Policy) { p.EpochFloor = 4 }),
		t.under("release that fixes nothing", reason{kind: attest.ErrRelease}, func(p *verifier.Policy) {
			p.Releases = map[attest.ReleaseDigest]*release.Manifest{{1}: {Boots: []release.Boot{{}}}}
		}),
		t.under("empty policy", reason{kind: attest.ErrPolicy}, func(p *verifier.Policy) { *p = verifier.Policy{} }),
		t.under("no Secure Boot above tier software", reason{kind: attest.ErrRegisters, says: "pcr7"}, func(p *verifier.Policy) {
			p.TrustAnchors[0].Tier = attest.TierHardware
		}),
		t.under("Secure Boot off on firmware that has it on", reason{kind: attest.ErrRegisters, differs: []string{"pcr7"}}, lockedFirmware),
	}
}

// lockedFirmware has each release bring firmware with Secure Boot on, with which
// this machine would show another register 7.
func lockedFirmware(p *verifier.Policy) {
	none := attest.Digest{}.String()
	for digest, m := range p.Releases {
		locked := *m
		locked.Firmware = &release.Firmware{SecureBoot: true, Shapes: []release.Shape{{SHA256: map[string]string{"0": none, "1": none}}}}
		on := release.Boot{SecureBoot: true, SHA256: maps.Clone(m.Boots[0].SHA256)}
		on.SHA256["7"] = attest.Sum([]byte("keys")).String()
		locked.Boots = []release.Boot{m.Boots[0], on}
		p.Releases[digest] = &locked
	}
}

func (t *target) identity() []attack {
	foreign := t.input(t.machine)
	foreignEK := t.another.TPM.EKCertificate()
	e, err := evidence.Decode(foreign.Evidence)
	if err != nil {
		t.tb.Fatal(err)
	}
	if e.Endorsements, err = (&evidence.Endorsements{EKCertificate: foreignEK}).Encode(); err != nil {
		t.tb.Fatal(err)
	}
	if foreign.Evidence, err = e.Encode(); err != nil {
		t.tb.Fatal(err)
	}
	p := t.policy()
	v, err := new(verifier.Verifier).Verify(foreign.Evidence, foreign.Nonce, foreign.Channel)
	foreignOutcome := outcome{err: err}
	if err == nil {
		foreignOutcome = judged(verifier.Appraise(v, verifier.NotActivated, p))
		foreignOutcome.err = activateAs(t, v)
	}
	stranger := verifiertest.Boot(t.tb)
	empty, err := new(evidence.Endorsements).Encode()
	if err != nil {
		t.tb.Fatal(err)
	}
	bare := t.alter(func(e *evidence.Evidence) { e.Endorsements = empty })
	return []attack{
		t.refused("endorsement certificate left out", onIdentity("no endorsement certificate"), judged(bare.Appraise(t.policy()))),
		t.refused("challenge without an endorsement key", onIdentity("no endorsement key to challenge"), challenged(bare)),
		t.refused("foreign EK", onIdentity("not activated"), foreignOutcome),
		t.under("unknown authority", unknownAuthority, func(p *verifier.Policy) {
			p.TrustAnchors[0].Certificate = otherRoot(t, stranger)
		}),
		t.under("certificate not yet valid", onIdentity("not yet valid"), func(p *verifier.Policy) { p.Now = time.Unix(1e9, 0) }),
		t.under("tier below the minimum", reason{kind: attest.ErrIdentity, says: "tier"}, func(p *verifier.Policy) {
			p.Minimum.Identity = attest.TierProviderRooted
		}),
		t.under("memory below the minimum", reason{kind: attest.ErrPlatform, says: "tier"}, func(p *verifier.Policy) {
			p.Minimum.Memory = attest.TierHardware
		}),
	}
}

// challenged has a client make a challenge for what evidence shows.
func challenged(in verifiertest.Input) outcome {
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err == nil {
		_, err = v.Challenge(zeros{})
	}
	return outcome{accepted: err == nil, err: err}
}

// onMaker are the attacks on what a TPM's maker says of its endorsement key.
func onMaker(tb testing.TB) []attack {
	m := verifiertest.Boot(tb)
	maker := verifiertest.NewMaker(tb)
	maker.Certify(tb, m, nil)
	t := &target{tb: tb, machine: m, policy: func() verifier.Policy {
		p := m.Policy()
		p.TrustAnchors[0].Certificate, p.EKRevocation = maker.Root.Certificate, chain.Required
		return p
	}}
	var all []attack
	shown := func(name string, r reason, change func()) {
		change()
		bad := judged(t.input(m).Appraise(t.policy()))
		maker.Certify(tb, m, nil)
		all = append(all, t.refused(name, r, bad))
	}
	listed := func(edit func(*x509.RevocationList), revoked ...*x509.Certificate) func() {
		return func() {
			m.Endorsements.RevocationLists = [][]byte{maker.Root.List(nil), maker.Intermediate.List(edit, revoked...)}
		}
	}
	shown("revoked endorsement key", reason{kind: attest.ErrRevoked}, func() { listed(nil, maker.Leaf)() })
	shown("revoked maker", reason{kind: attest.ErrRevoked}, func() {
		m.Endorsements.RevocationLists = [][]byte{maker.Root.List(nil, maker.Intermediate.Certificate), maker.Intermediate.List(nil)}
	})
	shown("maker's revocation list left out", onCollateral("no revocation list"), func() {
		m.Endorsements.RevocationLists = m.Endorsements.RevocationLists[:1]
	})
	shown("maker's revocation list past its grace", onCollateral("revocation list"), listed(func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().AddDate(0, 0, -2), time.Now().AddDate(0, 0, -1)
	}))
	shown("maker's intermediate left out", unknownAuthority, func() { m.Endorsements.EKIntermediates = nil })
	shown("certificate that is for no endorsement key", onIdentity("endorsement key"), func() {
		maker.Certify(tb, m, func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}
		})
	})
	shown("certificate that is for a key that signs", onIdentity("endorsement key"), func() {
		maker.Certify(tb, m, func(c *x509.Certificate) {
			c.KeyUsage, c.UnknownExtKeyUsage = x509.KeyUsageDigitalSignature, nil
		})
	})
	shown("certificate of another maker's", unknownAuthority, func() { verifiertest.NewMaker(tb).Certify(tb, m, nil) })
	return all
}

// otherRoot is an authority that did not make the machine's TPM.
func otherRoot(t *target, m *verifiertest.Machine) *x509.Certificate {
	if !m.Device.Root.Equal(t.machine.Device.Root) {
		return m.Device.Root
	}
	return t.another.Device.Root
}

// activateAs has the machine open a credential made for the endorsement key
// that the evidence names, which is another TPM's.
func activateAs(t *target, v *verifier.Verified) error {
	c, err := v.Challenge(zeros{})
	if err != nil {
		return err
	}
	answer, err := t.machine.TPM.Activate(t.machine.Channel, c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		answer = attest.Digest{}
	}
	return c.Answered(answer[:], t.machine.Channel)
}

// activations are credentials that are opened for somebody else.
func (t *target) activations() []attack {
	m := t.machine
	ek, err := tpm.ParseEK(m.TPM.EKCertificate())
	if err != nil {
		t.tb.Fatal(err)
	}
	ak, err := tpm.ParseAK(m.TPM.AKPublic())
	if err != nil {
		t.tb.Fatal(err)
	}
	c, err := tpm.NewChallenge(zeros{}, ek, ak)
	if err != nil {
		t.tb.Fatal(err)
	}
	answered := func(ch attest.Channel) outcome {
		answer, err := m.TPM.Activate(ch, c.CredentialBlob, c.EncryptedSecret)
		if err == nil {
			err = c.Answered(answer[:], m.Channel)
		}
		return outcome{accepted: err == nil, err: err}
	}
	var all []attack
	for name, relay := range map[string]func(*attest.Channel){
		"relayed activation (exporter)": func(ch *attest.Channel) { ch.Exporter[0]++ },
		"relayed activation (key)":      func(ch *attest.Channel) { ch.SPKI = []byte("the stranger's key") },
		"reflected activation (role)":   func(ch *attest.Channel) { ch.Role = attest.RoleEnrol },
	} {
		elsewhere := m.Channel
		relay(&elsewhere)
		all = append(all, attack{name: name, reason: reason{kind: attest.ErrIdentity}, good: answered(m.Channel), bad: answered(elsewhere)})
	}
	return append(all, t.refused("nobody activated the key", nobodyActivated, t.notActivated()))
}

// nobodyActivated has no kind: that nobody looked is no refusal by itself.
var nobodyActivated = reason{says: "nobody has checked that the attestation key lives beside"}

func (t *target) notActivated() outcome {
	in := t.input(t.machine)
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		return outcome{err: err}
	}
	return judged(verifier.Appraise(v, verifier.NotActivated, t.policy()))
}

// zeros is randomness for credentials whose secrecy nothing here depends on.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
