package enrol_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

const machineID = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

// gate is a server over a real store, and one machine with a software TPM.
type gate struct {
	t       *testing.T
	store   *sqlite.Store
	server  *enrol.Server
	config  api.Config
	encoded []byte
	spki    attest.Digest
	tpm     *attester.TPM
	device  *swtpmtest.TPM
	// appraise stands in for the appraisal where a test says what it finds;
	// nil for the real one.
	appraise enrol.Appraise
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{t: t, device: swtpmtest.Start(t)}
	var err error
	if g.store, err = sqlite.Open(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
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
	g.config = api.Config{
		Version: api.ConfigVersion, Machine: machineID, ControlPlane: l.Addr().String(), ControlPlaneSPKI: spki, Token: [32]byte{7},
	}
	if g.encoded, err = g.config.Encode(); err != nil {
		t.Fatal(err)
	}
	if g.tpm, err = attester.Open(g.device); err != nil {
		t.Fatal(err)
	}
	g.addRows()
	g.server = enrol.New(enrol.Parts{
		Store: g.store, Certificate: certificate,
		Appraise: func(in verifier.Input, p verifier.Policy) (verifier.Result, error) {
			if g.appraise != nil {
				return g.appraise(in, p)
			}
			return verifier.Appraise(in, p)
		},
		TrustAnchors: func() ([]verifier.TrustAnchor, error) {
			return []verifier.TrustAnchor{{Certificate: g.device.Root, Tier: attest.TierSoftware}}, nil
		},
		MinimumTier: attest.TierSoftware, HeartbeatEvery: time.Second,
		Clock: time.Now, Random: rand.Reader, Logger: zap.NewNop(), Trap: func(failpoint.Point) {},
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

func (g *gate) addRows() {
	g.t.Helper()
	separator, image := attest.Sum([]byte{0, 0, 0, 0}), attest.Sum([]byte("image"))
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: image, 9: image, 11: image,
		14: attest.ConfigDigest(g.encoded), 15: attest.Unclaimed(),
	} {
		if err := g.tpm.Extend(register, digest); err != nil {
			g.t.Fatal(err)
		}
	}
	want := attest.Extend(attest.Digest{}, image).String()
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
			Release: rel.Digest, ConfigDigest: attest.ConfigDigest(g.encoded), TokenHash: attest.Sum(g.config.Token[:]),
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
	return &agent{gate: g, conn: conn}
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
	answer, err := a.conn.Call(a.t.Context(), http.MethodPost, path, "application/json", bytes.NewReader(body), api.MaxMessageBytes)
	var status *channel.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	if err != nil {
		a.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			a.t.Fatal(err)
		}
	}
	return http.StatusOK
}

func (a *agent) introduction() api.EnrolBegin {
	return api.EnrolBegin{
		Machine: machineID, Token: a.config.Token, EKCertificate: a.tpm.EKCertificate(), AKPublic: a.tpm.AKPublic(),
	}
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
	secret, err := a.tpm.Activate(c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		a.t.Fatal(err)
	}
	evidence, err := a.tpm.Evidence(attester.Subject{Channel: a.conn.Channel, Nonce: c.Nonce, Config: a.encoded})
	if err != nil {
		a.t.Fatal(err)
	}
	return api.EnrolFinish{Secret: secret, Evidence: evidence}
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

func TestWrongSecretIsRefusedAndWritesNoVerdict(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	finish := a.answer(a.begin())
	finish.Secret[0]++
	if got := a.call(api.EnrolFinishPath, finish, nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.Judged {
		t.Error("a verdict was written")
	}
}

// Evidence made on one connection proves nothing on another.
func TestRelayedEvidenceIsNotAccepted(t *testing.T) {
	g := newGate(t)
	victim, relay := g.dial(), g.dial()
	c := relay.begin()
	finish := victim.answer(c)
	var r api.EnrolResult
	if got := relay.call(api.EnrolFinishPath, finish, &r); got != http.StatusOK || r.Accepted {
		t.Errorf("%d %+v", got, r)
	}
	if e := g.instance().Enrolment; e.Accepted || !e.EK.IsZero() {
		t.Errorf("%+v", e)
	}
}

func TestAnotherEndorsementKeyIsRefusedForEver(t *testing.T) {
	g := newGate(t)
	g.dial().enrol()
	ek := g.instance().Enrolment.EK
	other := swtpmtest.Start(t)
	var err error
	if g.tpm, err = attester.Open(other); err != nil {
		t.Fatal(err)
	}
	a := g.dial()
	if got := a.call(api.EnrolBeginPath, a.introduction(), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.EK != ek {
		t.Error("the endorsement key changed")
	}
	var events []orchestrator.Event
	if err := g.store.View(t.Context(), func(v store.Reader) (err error) {
		events, err = v.Events(0, "instance", 10)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || !strings.Contains(events[0].Reason, "another endorsement key") {
		t.Errorf("events %+v", events)
	}
}

func TestEvidenceOfOtherKeysThanChallengedIsRefused(t *testing.T) {
	g := newGate(t)
	g.appraise = func(in verifier.Input, p verifier.Policy) (verifier.Result, error) {
		r, err := verifier.Appraise(in, p)
		r.Facts.EK[0]++
		return r, err
	}
	a := g.dial()
	if got := a.call(api.EnrolFinishPath, a.answer(a.begin()), nil); got != http.StatusForbidden {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.Judged {
		t.Error("a verdict was written")
	}
}

func TestWhatIsNotAcceptedIsSaid(t *testing.T) {
	accepted := func(r *verifier.Result) { r.Appraisal.Differs = []string{"pcr2", "pcr4"} }
	for name, c := range map[string]struct {
		alter func(*verifier.Result)
		want  string
	}{
		"registers":     {accepted, "pcr2, pcr4"},
		"configuration": {func(r *verifier.Result) { r.Facts.Config = []byte("other") }, "pcr14"},
		"tier":          {func(r *verifier.Result) { r.Appraisal.Tiers = attest.Tiers{} }, "minimum of software"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.appraise = func(in verifier.Input, p verifier.Policy) (verifier.Result, error) {
				r, err := verifier.Appraise(in, p)
				c.alter(&r)
				return r, err
			}
			r := g.dial().enrol()
			if e := g.instance().Enrolment; r.Accepted || e.Accepted || !strings.Contains(e.Verdict, c.want) {
				t.Errorf("%q, want %q", e.Verdict, c.want)
			}
		})
	}
}

// A fault of ours is none of the machine's: it may try again.
func TestIncompletePolicyGivesNoVerdict(t *testing.T) {
	g := newGate(t)
	g.appraise = func(verifier.Input, verifier.Policy) (verifier.Result, error) {
		return verifier.Result{}, attest.ErrPolicy
	}
	a := g.dial()
	if got := a.call(api.EnrolFinishPath, a.answer(a.begin()), nil); got != http.StatusInternalServerError {
		t.Errorf("%d", got)
	}
	if g.instance().Enrolment.Judged {
		t.Error("a verdict was written")
	}
}

func TestCertificateKeepsItsKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.key")
	_, first, err := enrol.LoadCertificate(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := enrol.LoadCertificate(path, rand.Reader)
	if err != nil || first != second {
		t.Errorf("%s became %s: %v", first, second, err)
	}
}
