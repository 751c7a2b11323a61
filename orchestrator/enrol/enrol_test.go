package enrol_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/orchestrator/voucher"
)

const machineID = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

var token = api.Token{7}

// gate is a server over a real store, and one machine with a software TPM.
type gate struct {
	// endorsements are handed out, or unreadable.
	endorsements []byte
	unreadable   error

	// voucher vouches for machines without a certificate; nil where nobody does.
	voucher *voucher.Voucher
	// foreign are accepted roots that issued nothing of the machine's.
	foreign []verifier.TrustAnchor

	t       *testing.T
	store   *sqlite.Store
	server  *enrol.Server
	config  api.Config
	encoded []byte
	spki    attest.Digest
	key     *ecdsa.PrivateKey
	tpm     *attester.TPM
	device  *swtpmtest.TPM
	// appraise stands in for the appraisal where a test says what it finds;
	// nil for the real one.
	appraise enrol.Appraise
	// proof is what the log has to show, and ahead how far the clock is.
	proof []byte
	ahead time.Duration
	// withdrawn are the releases whose withdrawal the log has.
	withdrawn sync.Map
}

func newGate(t *testing.T) *gate {
	t.Helper()
	return newGateOf(t, swtpmtest.Start(t))
}

func newGateOf(t *testing.T, device *swtpmtest.TPM) *gate {
	t.Helper()
	return newGateEvery(t, device, time.Second)
}

// newGateEvery wants heartbeats that far apart.
func newGateEvery(t *testing.T, device *swtpmtest.TPM, every time.Duration) *gate {
	t.Helper()
	g := &gate{t: t, device: device}
	var err error
	if g.store, err = sqlite.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.store.Close() }) //nolint:errcheck // the test is over
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	certificate, spki, err := enrol.LoadCertificate(filepath.Join(t.TempDir(), "agent.key"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g.spki = spki
	if g.key, err = enrol.LoadKey(filepath.Join(t.TempDir(), "ear.key"), "a test's key", rand.Reader); err != nil {
		t.Fatal(err)
	}
	g.config = api.Config{
		Version: api.ConfigVersion, Machine: machineID, ControlPlane: l.Addr().String(), ControlPlaneSPKI: spki, TokenHash: token.Hash(),
	}
	if g.encoded, err = g.config.Encode(); err != nil {
		t.Fatal(err)
	}
	if g.tpm, err = attester.Open(g.device); err != nil {
		t.Fatal(err)
	}
	g.addRows()
	g.server = enrol.New(enrol.Parts{
		Store: g.store, Certificate: certificate, ResultKey: g.key,
		Appraise: func(v *verifier.Verified, a verifier.Activation, p verifier.Policy) (attest.AttestationResult, error) {
			if g.appraise != nil {
				return g.appraise(v, a, p)
			}
			return verifier.Appraise(v, a, p)
		},
		TrustAnchors: func() ([]verifier.TrustAnchor, error) {
			if g.device.Root == nil {
				return g.foreign, nil
			}
			return []verifier.TrustAnchor{{Certificate: g.device.Root, Tier: attest.TierSoftware}}, nil
		},
		MinimumTier: attest.TierSoftware, HeartbeatEvery: every, ProofEvery: time.Minute,
		Proof: func(context.Context, attest.ReleaseDigest) ([]byte, error) { return g.proof, nil },
		Withdrawn: func(d attest.ReleaseDigest) bool {
			_, withdrawn := g.withdrawn.Load(d)
			return withdrawn
		},
		Endorsements: func() ([]byte, error) { return g.endorsements, g.unreadable },
		Voucher: func(string) enrol.Voucher {
			if g.voucher == nil {
				return nil
			}
			return g.voucher
		},
		Clock: func() time.Time { return time.Now().Add(g.ahead) }, Random: rand.Reader, Logger: zap.NewNop(), Trap: func(failpoint.Point) {},
	})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return g
}

// measure is what the machine's firmware and agent measure as it boots an image.
func (g *gate) measure(name string) {
	g.t.Helper()
	separator, image := attest.Sum([]byte{0, 0, 0, 0}), attest.Sum([]byte(name))
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: image, 9: image, 11: image,
		14: attest.ConfigDigest(g.encoded), 15: attest.Unclaimed(),
	} {
		if err := g.tpm.Extend(register, digest); err != nil {
			g.t.Fatal(err)
		}
	}
}

// reset is the machine's restart, into an image.
func (g *gate) reset(image string) {
	g.t.Helper()
	g.device.PowerOff()
	g.device.PowerOn()
	var err error
	if g.tpm, err = attester.Open(g.device); err != nil {
		g.t.Fatal(err)
	}
	g.measure(image)
}

func (g *gate) addRows() {
	g.t.Helper()
	g.measure("image")
	want := attest.Extend(attest.Digest{}, attest.Sum([]byte("image"))).String()
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk: release.File{Name: "disk.raw", SHA256: attest.Digest{1}, Bytes: 1},
		UKI:  release.File{Name: "uki.efi", SHA256: attest.Digest{2}, Bytes: 1},
		Boots: []release.Boot{{
			SHA256: map[string]string{"4": want, "9": want, "11": want},
			SHA384: map[string]string{"4": want + want[:32], "9": want + want[:32], "11": want + want[:32]},
		}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}},
	}
	if g.device.Root == nil {
		// Above tier software no other is accepted; nothing is measured there.
		m.Boots[0].SecureBoot = true
		m.Boots[0].SHA256["7"], m.Boots[0].SHA384["7"] = strings.Repeat("0", 64), strings.Repeat("0", 96)
	}
	manifest, err := m.Encode()
	if err != nil {
		g.t.Fatal(err)
	}
	rel := orchestrator.Release{
		Digest: attest.ReleaseDigest(attest.Sum(manifest)), Version: m.Version, Epoch: 1,
		Manifest: manifest, Bundle: []byte("bundle"), AddedAt: time.Now(),
	}
	i := orchestrator.Instance{
		ID: "instance", User: "amara", Desired: orchestrator.Present, State: orchestrator.StateBooting, Machine: machineID,
		Plan: orchestrator.Plan{
			Release: rel.Digest, ConfigDigest: attest.ConfigDigest(g.encoded), TokenHash: token.Hash(),
		},
	}
	err = g.store.Update(g.t.Context(), func(tx store.Tx) error { return errors.Join(tx.PutRelease(rel), tx.Insert(i)) })
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gate) instance() (i orchestrator.Instance) {
	g.t.Helper()
	err := g.store.View(g.t.Context(), func(v store.Reader) (err error) {
		i, err = v.InstanceOfMachine(machineID)
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return i
}

// result is the newest that was recorded, as the control plane's word.
func (g *gate) result() *ear.Claims {
	g.t.Helper()
	var last auditlog.Record
	err := g.store.View(g.t.Context(), func(v store.Reader) (err error) {
		last, err = v.LastResult("instance")
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	claims, err := ear.Verify(last.EAR, g.key.Public(), ear.ControlPlane)
	if err != nil || last.Machine != machineID {
		g.t.Fatalf("result of machine %s: %v", last.Machine, err)
	}
	return claims
}

func (g *gate) change(f func(*orchestrator.Instance)) {
	g.t.Helper()
	err := g.store.Update(g.t.Context(), func(tx store.Tx) error {
		i, err := tx.InstanceOfMachine(machineID)
		if err != nil {
			return err
		}
		f(&i)
		return tx.Replace(&i)
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// agent is one boot: one TLS key on one connection.
type agent struct {
	*gate
	conn *channel.Conn
	// certificate is this boot's key, and own that key's SubjectPublicKeyInfo.
	certificate tls.Certificate
	own         []byte
	// name is the machine's.
	name string
}

func (g *gate) dial() *agent {
	g.t.Helper()
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	conn, err := channel.DialEnrol(g.t.Context(), g.config.ControlPlane, certificate, spki, g.spki)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the test is over
	return &agent{gate: g, conn: conn, certificate: certificate, own: spki, name: machineID}
}

// call returns the status, and decodes a good answer.
func (a *agent) call(path string, in, out any) int {
	a.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.raw(path, body, out)
}

func (a *agent) raw(path string, body []byte, out any) int {
	a.t.Helper()
	answer, err := a.conn.Call(a.t.Context(), http.MethodPost, path, "application/json", body, api.MaxMessageBytes)
	var status *channel.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	if err != nil {
		a.t.Fatal(err)
	}
	if out != nil && len(answer) > 0 {
		if err := json.Unmarshal(answer, out); err != nil {
			a.t.Fatal(err)
		}
	}
	return http.StatusOK
}

func (a *agent) introduction() api.EnrolBegin {
	in := api.EnrolBegin{Machine: machineID, Token: token, EKCertificate: a.tpm.EKCertificate(), AKPublic: a.tpm.AKPublic()}
	if in.EKCertificate == nil {
		in.EKPublic = a.tpm.EKPublic()
	}
	return in
}

func (a *agent) begin() (c api.EnrolChallenge) {
	a.t.Helper()
	if got := a.call(api.EnrolBeginPath, a.introduction(), &c); got != http.StatusOK {
		a.t.Fatalf("begin: %d", got)
	}
	return c
}

func (a *agent) answer(c api.EnrolChallenge) api.EnrolFinish {
	a.t.Helper()
	answer, err := a.tpm.Activate(a.conn.Channel, c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		a.t.Fatal(err)
	}
	subject := attester.Subject{Channel: a.conn.Channel, Nonce: c.Nonce, Config: attest.ConfigDigest(a.encoded)}
	if a.tpm.EKCertificate() == nil {
		subject.Endorsements = c.Endorsements
	}
	evidence, err := a.tpm.Evidence(subject)
	if err != nil {
		a.t.Fatal(err)
	}
	return api.EnrolFinish{Answer: answer, Evidence: evidence}
}

func (a *agent) enrol() (r api.EnrolResult) {
	a.t.Helper()
	if got := a.call(api.EnrolFinishPath, a.answer(a.begin()), &r); got != http.StatusOK {
		a.t.Fatalf("finish: %d", got)
	}
	return r
}

func TestMachineEnrolsAndBeats(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	r := a.enrol()
	if !r.Accepted || len(r.Manifest) == 0 || string(r.Bundle) != "bundle" || r.HeartbeatMS != 1000 {
		t.Errorf("%+v", r)
	}
	e := g.instance().Enrolment
	if !e.Judged || !e.Accepted || e.EK.IsZero() || e.Healthy {
		t.Errorf("%+v", e)
	}
	beat := api.Heartbeat{Machine: machineID, Running: true, Healthy: true}
	if got := a.call(api.HeartbeatPath, beat, nil); got != http.StatusNoContent && got != http.StatusOK {
		t.Errorf("heartbeat: %d", got)
	}
	if !g.instance().Enrolment.Healthy {
		t.Error("the heartbeat was not written")
	}
	machine := g.result().Submods.Machine
	if !machine.Shed.Accepted || machine.Shed.EK != e.EK || machine.Shed.AK != hex.EncodeToString(e.AK) || machine.Nonce == "" || len(machine.Policies) != 1 {
		t.Errorf("the signed result is %+v", machine)
	}
}

// A machine gets a new proof of its release once the one it has is old.
func TestProofsAreRenewed(t *testing.T) {
	g := newGate(t)
	g.proof = []byte("first")
	a := g.dial()
	if r := a.enrol(); string(r.Proof) != "first" {
		t.Errorf("enrolled with proof %q", r.Proof)
	}
	g.proof = []byte("second")
	beat := func() string {
		var answer api.HeartbeatAnswer
		if got := a.call(api.HeartbeatPath, api.Heartbeat{Machine: machineID}, &answer); got != http.StatusOK {
			t.Errorf("heartbeat: %d", got)
		}
		return string(answer.Proof)
	}
	if got := beat(); got != "" {
		t.Errorf("while it is fresh: %q", got)
	}
	g.ahead = 2 * time.Minute
	if got := beat(); got != "second" {
		t.Errorf("once it is old: %q", got)
	}
	if got := beat(); got != "" {
		t.Errorf("and then: %q", got)
	}
}

// A beat that says nothing new is not worth a transaction of its own.
func TestHeartbeatsAreWrittenTogether(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	before := g.instance()
	for range 5 {
		a.call(api.HeartbeatPath, api.Heartbeat{Machine: machineID}, nil)
	}
	if got := g.instance().Version; got != before.Version {
		t.Errorf("version %d, was %d", got, before.Version)
	}
	if err := g.server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := g.instance(); !after.Enrolment.LastSeen.After(before.Enrolment.LastSeen) || after.Version != before.Version {
		t.Errorf("last seen %s, was %s", after.Enrolment.LastSeen, before.Enrolment.LastSeen)
	}
}

// Each thing that a heartbeat says is news where it alone has changed.
func TestWhatAHeartbeatSaysIsWritten(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	for _, beat := range []api.Heartbeat{{Running: true}, {Running: true, AwaitingOwner: true}, {Running: true}, {Running: true, Healthy: true}, {Running: true}} {
		beat.Machine = machineID
		a.call(api.HeartbeatPath, beat, nil)
		if e := g.instance().Enrolment; e.Running != beat.Running || e.Healthy != beat.Healthy || e.AwaitingOwner != beat.AwaitingOwner {
			t.Errorf("said %+v, written %+v", beat, e)
		}
	}
}

func TestHeartbeatOfAKeyThatDidNotEnrolIsRefused(t *testing.T) {
	g := newGate(t)
	g.dial().enrol()
	if got := g.dial().call(api.HeartbeatPath, api.Heartbeat{Machine: machineID, Healthy: true}, nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.Healthy {
		t.Error("a stranger's heartbeat was written")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	wrongToken := a.introduction()
	wrongToken.Token[0]++
	unknown := a.introduction()
	unknown.Machine = "bbbbbbbbbbbbbbbbbbbbbbbbbb"
	for name, in := range map[string]any{"token": wrongToken, "machine": unknown} {
		if got := a.call(api.EnrolBeginPath, in, nil); got != http.StatusForbidden {
			t.Errorf("%s: %d", name, got)
		}
	}
	for _, s := range []orchestrator.State{orchestrator.StateFailed, orchestrator.StateStopped, orchestrator.StateDeleting} {
		g.change(func(i *orchestrator.Instance) { i.State = s })
		if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
			t.Errorf("while %s: %d", s, got)
		}
	}
	g.change(func(i *orchestrator.Instance) { i.State, i.Desired = orchestrator.StateBooting, orchestrator.Absent })
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("once its deletion was requested: %d", got)
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	g := newGate(t)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"no json":       {"hello", http.StatusBadRequest},
		"unknown field": {`{"machine":"x","root":true}`, http.StatusBadRequest},
		"two messages":  {`{} {}`, http.StatusBadRequest},
		"a brace more":  {`{}}`, http.StatusBadRequest},
		"too long":      {`{"machine":"` + strings.Repeat("a", api.MaxMessageBytes) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		if got := g.dial().raw(api.EnrolBeginPath, []byte(c.body), nil); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
}

func TestFinishNeedsAChallengeOfThisConnectionOnce(t *testing.T) {
	g := newGate(t)
	first, second := g.dial(), g.dial()
	finish := first.answer(first.begin())
	if got := second.call(api.EnrolFinishPath, finish, nil); got != http.StatusConflict {
		t.Errorf("on another connection: %d", got)
	}
	if got := first.call(api.EnrolFinishPath, finish, nil); got != http.StatusOK {
		t.Errorf("on its own: %d", got)
	}
	if got := first.call(api.EnrolFinishPath, finish, nil); got != http.StatusConflict {
		t.Errorf("a second time: %d", got)
	}
}

func TestWrongAnswerIsRefusedAndWritesNoVerdict(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	finish := a.answer(a.begin())
	finish.Answer[0]++
	if got := a.call(api.EnrolFinishPath, finish, nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.Judged {
		t.Error("a verdict was written")
	}
}

// What proves nothing changes nothing: a stranger who knows a machine's public
// endorsement certificate, and has the machine open any credential for anybody,
// takes nothing over and leaves no trace in the row.
func TestStrangerWithTheMachinesCertificate(t *testing.T) {
	g := newGate(t)
	g.dial().enrol()
	before := g.instance()
	introduction := func(a *agent) api.EnrolBegin {
		in := a.introduction()
		in.Token = api.Token{}
		return in
	}
	for name, attack := range map[string]func(stranger, victim *agent, c api.EnrolChallenge) api.EnrolFinish{
		"relays the credential and the evidence": func(_, victim *agent, c api.EnrolChallenge) api.EnrolFinish {
			return victim.answer(c)
		},
		"relays the credential": func(stranger, victim *agent, c api.EnrolChallenge) api.EnrolFinish {
			finish := stranger.answer(c)
			finish.Answer = victim.answer(c).Answer
			return finish
		},
		"sends nothing": func(_, _ *agent, _ api.EnrolChallenge) api.EnrolFinish { return api.EnrolFinish{} },
		"has the answer and no evidence": func(stranger, _ *agent, c api.EnrolChallenge) api.EnrolFinish {
			finish := stranger.answer(c)
			finish.Evidence = finish.Evidence[1:]
			return finish
		},
		"has evidence for another connection": func(stranger, victim *agent, c api.EnrolChallenge) api.EnrolFinish {
			finish := stranger.answer(c)
			finish.Evidence = victim.answer(c).Evidence
			return finish
		},
	} {
		t.Run(name, func(t *testing.T) {
			stranger, victim := g.dial(), g.dial()
			var c api.EnrolChallenge
			if got := stranger.call(api.EnrolBeginPath, introduction(stranger), &c); got != http.StatusOK {
				t.Fatalf("begin: %d", got)
			}
			if got := stranger.call(api.EnrolFinishPath, attack(stranger, victim, c), nil); got != http.StatusForbidden {
				t.Errorf("finish: %d", got)
			}
			if after := g.instance(); after.Version != before.Version {
				t.Errorf("the row changed: %+v", after.Enrolment)
			}
		})
	}
	// The machine itself enrols again after a reboot, by its key alone.
	a := g.dial()
	var c api.EnrolChallenge
	if got := a.call(api.EnrolBeginPath, introduction(a), &c); got != http.StatusOK {
		t.Fatalf("begin: %d", got)
	}
	if got := a.call(api.EnrolFinishPath, a.answer(c), nil); got != http.StatusOK {
		t.Errorf("finish: %d", got)
	}
}

// The token is void once a machine has enrolled with it.
func TestTokenIsGoodOnce(t *testing.T) {
	g := newGate(t)
	g.dial().enrol()
	if hash := g.instance().Plan.TokenHash; !hash.IsZero() {
		t.Errorf("the token's hash is still there: %s", hash)
	}
	var err error
	if g.tpm, err = attester.Open(swtpmtest.Start(t)); err != nil {
		t.Fatal(err)
	}
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("another machine with the token: %d", got)
	}
	in := a.introduction()
	in.Token = api.Token{}
	if got := a.call(api.EnrolBeginPath, in, nil); got != http.StatusForbidden {
		t.Errorf("another machine without one: %d", got)
	}
}

// Whoever shows the token before the machine has enrolled is still only the
// machine that enrols first; its endorsement key then never changes.
func TestAnotherEndorsementKeyIsRefusedForEver(t *testing.T) {
	g := newGate(t)
	first := g.dial()
	finish := first.answer(first.begin())
	g.change(func(i *orchestrator.Instance) { i.Enrolment.EK = attest.Digest{1} })
	if got := first.call(api.EnrolFinishPath, finish, nil); got != http.StatusForbidden {
		t.Errorf("finish: %d", got)
	}
	if got := g.dial().call(api.EnrolBeginPath, first.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("begin: %d", got)
	}
	if i := g.instance(); i.Enrolment.EK != (attest.Digest{1}) || i.Enrolment.Judged {
		t.Errorf("%+v", i.Enrolment)
	}
}

func TestEvidenceOfOtherKeysThanChallengedIsRefused(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	finish := a.answer(a.begin())
	other, err := attester.Open(swtpmtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Decode(finish.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	if finish.Evidence, err = other.Evidence(attester.Subject{Channel: a.conn.Channel, Nonce: e.Nonce, Config: e.Config}); err != nil {
		t.Fatal(err)
	}
	if got := a.call(api.EnrolFinishPath, finish, nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	// The certificate is public: a forger shows it beside a key of their own.
	a = g.dial()
	finish = a.answer(a.begin())
	if e, err = evidence.Decode(finish.Evidence); err != nil {
		t.Fatal(err)
	}
	b, err := other.Evidence(attester.Subject{Channel: a.conn.Channel, Nonce: e.Nonce, Config: e.Config})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = evidence.Decode(b); err != nil {
		t.Fatal(err)
	}
	endorsements := evidence.Endorsements{EKCertificate: g.tpm.EKCertificate()}
	if e.Endorsements, err = endorsements.Encode(); err != nil {
		t.Fatal(err)
	}
	if finish.Evidence, err = e.Encode(); err != nil {
		t.Fatal(err)
	}
	if got := a.call(api.EnrolFinishPath, finish, nil); got != http.StatusForbidden {
		t.Errorf("with the machine's certificate: %d", got)
	}
	if g.instance().Enrolment.Judged {
		t.Error("a verdict was written")
	}
}

func TestWhatIsNotAcceptedIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(*verifier.Verified, *attest.AttestationResult)
		want  string
	}{
		"registers":     {func(_ *verifier.Verified, r *attest.AttestationResult) { r.Differs = []string{"pcr2", "pcr4"} }, "pcr2, pcr4"},
		"configuration": {func(v *verifier.Verified, _ *attest.AttestationResult) { v.Config[0]++ }, "pcr14"},
		"tier":          {func(_ *verifier.Verified, r *attest.AttestationResult) { r.Tiers = attest.Tiers{} }, "minimum of software"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.appraise = func(v *verifier.Verified, a verifier.Activation, p verifier.Policy) (attest.AttestationResult, error) {
				r, err := verifier.Appraise(v, a, p)
				c.alter(v, &r)
				return r, err
			}
			r := g.dial().enrol()
			if e := g.instance().Enrolment; r.Accepted || e.Accepted || !strings.Contains(e.Verdict, c.want) {
				t.Errorf("%q, want %q", e.Verdict, c.want)
			}
			if claims := g.result(); claims.Submods.Machine.Shed.Accepted || claims.Status == "affirming" || claims.Status == "warning" {
				t.Errorf("the signed result is %+v", claims)
			}
		})
	}
}

// A fault of ours is none of the machine's: it may try again.
func TestIncompletePolicyGivesNoVerdict(t *testing.T) {
	g := newGate(t)
	g.appraise = func(*verifier.Verified, verifier.Activation, verifier.Policy) (attest.AttestationResult, error) {
		return attest.AttestationResult{}, attest.ErrPolicy
	}
	a := g.dial()
	if got := a.call(api.EnrolFinishPath, a.answer(a.begin()), nil); got != http.StatusInternalServerError {
		t.Errorf("%d", got)
	}
	i := g.instance()
	if i.Enrolment.Judged {
		t.Error("a verdict was written")
	}
	if !strings.Contains(i.Reason, "cannot judge the machine") {
		t.Errorf("the row says %q", i.Reason)
	}
}

func TestCertificateKeepsItsKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.key")
	_, first, err := enrol.LoadCertificate(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
	_, second, err := enrol.LoadCertificate(path, rand.Reader)
	if err != nil || first != second {
		t.Errorf("%s became %s: %v", first, second, err)
	}
}

// A machine is given what others need to check its keys with before it proves
// itself, and proves itself without where that cannot be read.
func TestEndorsementsAreHandedOut(t *testing.T) {
	g := newGate(t)
	g.endorsements = []byte("endorsements")
	if c := g.dial().begin(); !bytes.Equal(c.Endorsements, g.endorsements) {
		t.Errorf("handed out %q", c.Endorsements)
	}
	g.endorsements, g.unreadable = nil, errors.New("no such file")
	if c := g.dial().begin(); c.Endorsements != nil || len(c.CredentialBlob) == 0 {
		t.Errorf("handed out %q", c.Endorsements)
	}
}
