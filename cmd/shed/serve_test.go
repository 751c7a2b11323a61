package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	agentapi "github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/enrol"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

// imageDigest is what every pinned register of the tests' release measured.
var imageDigest = attest.Sum([]byte("image"))

// shop is a control plane on the memory provider, whose machines are software
// TPMs with the agent's own enrolment code.
type shop struct {
	t     *testing.T
	state string
	dir   string
	cloud *cloud
	tpm   *swtpmtest.TPM
	stop  func() error
}

// cloud boots an agent for each machine that is made.
type cloud struct {
	*memory.Provider
	booted func(agentapi.Config, agentapi.Token)
}

func (c *cloud) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	m, err := c.Provider.Create(ctx, req)
	if err != nil {
		return m, err
	}
	encoded, token, err := agentapi.DecodeDrive(req.Spec.Config)
	if err != nil {
		return m, err
	}
	config, err := agentapi.DecodeConfig(encoded)
	if err != nil {
		return m, err
	}
	c.booted(config, token)
	return m, nil
}

func newShop(t *testing.T, altered bool) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{t: t, dir: dir, state: filepath.Join(dir, "state"), tpm: swtpmtest.Start(t)}
	s.writeRelease()
	s.cloud = &cloud{Provider: memory.New(time.Now), booted: func(c agentapi.Config, token agentapi.Token) { s.boot(c, token, altered) }}
	s.start(false)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	s.run("release", "add", dir)
	return s
}

// writeRelease makes a signed release, and the key and root that accept it.
func (s *shop) writeRelease() {
	s.t.Helper()
	registers := func(bytes int) map[string]string {
		m := map[string]string{}
		for _, r := range []int{4, 9, 11} {
			m[strconv.Itoa(r)] = strings.Repeat("0", 2*bytes)
			if bytes == 32 {
				m[strconv.Itoa(r)] = attest.Extend(attest.Digest{}, imageDigest).String()
			}
		}
		return m
	}
	disk := []byte("disk")
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: "disk.raw", SHA256: attest.Sum(disk), Bytes: int64(len(disk))},
		UKI:    release.File{Name: "uki.efi", SHA256: attest.Sum([]byte("uki")), Bytes: 3},
		Boots:  []release.Boot{{SHA256: registers(32), SHA384: registers(48)}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Sum([]byte("a")), Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		s.t.Fatal(err)
	}
	digest := attest.Sum(manifest)
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"dGVzdA=="}},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`, release.BundleMediaType,
		base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(ed25519.Sign(private, manifest)))
	s.write("manifest.json", manifest)
	s.write(sign.BundleName, bundle)
	s.write("disk.raw", disk)
	s.write("release.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	s.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.tpm.Root.Raw}))
}

func (s *shop) write(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start runs serve as the command does, on the memory provider.
func (s *shop) start(powerOff bool) {
	s.t.Helper()
	c, _, err := config.Load(config.Sources{
		Env: func(string) (string, bool) { return "", false },
		Flags: []string{
			"listen.admin=127.0.0.1:0", "listen.webhooks=127.0.0.1:0", "listen.agents=127.0.0.1:0",
			"agents.advertise=127.0.0.1:0", "agents.heartbeat=200ms", "provider.name=memory",
			"release.key_file=" + filepath.Join(s.dir, "release.pub"),
			"policy.ek_roots=[{\"file\":\"" + filepath.Join(s.dir, "root.pem") + "\",\"tier\":\"software\"}]",
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	o := planeOptions(filepath.Join(s.state, "control"), c, s.t.Output())
	o.Provider = func(context.Context) (providers.Provider, error) { return s.cloud, nil }
	go func() {
		ended <- serveThen(ctx, o, powerOff, func(*controlplane.ControlPlane) { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatal(err)
	}
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}

// boot is a machine's life: measure, then enrol and beat until the test ends.
func (s *shop) boot(c agentapi.Config, token agentapi.Token, altered bool) {
	machine, err := attester.Open(s.tpm)
	if err != nil {
		s.t.Error(err)
		return
	}
	encoded, err := c.Encode()
	if err != nil {
		s.t.Error(err)
		return
	}
	separator := attest.Sum([]byte{0, 0, 0, 0})
	image := imageDigest
	if altered {
		image = attest.Sum([]byte("altered image"))
	}
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: imageDigest, 9: imageDigest, 11: image,
		14: attest.ConfigDigest(encoded), 15: attest.Unclaimed(),
	} {
		if err := machine.Extend(register, digest); err != nil {
			s.t.Error(err)
		}
	}
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.enrol(c, token, &measured{TPM: machine, config: encoded}, certificate, spki)
}

func (s *shop) enrol(c agentapi.Config, token agentapi.Token, m *measured, certificate tls.Certificate, spki []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e := &enrol.Enroller{
		Config: c, Token: token, Machine: m, Payload: serving{}, Certificate: certificate, SPKI: spki,
		Enrolled: func(agentapi.EnrolResult) {}, Log: zap.NewNop(),
	}
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-done
	})
}

type measured struct {
	*attester.TPM
	config []byte
}

func (m *measured) Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error) {
	return m.TPM.Evidence(attester.Subject{Channel: ch, Nonce: nonce, Config: attest.ConfigDigest(m.config)})
}

type serving struct{}

func (serving) Running() bool            { return true }
func (serving) Healthy() bool            { return true }
func (serving) Changed() <-chan struct{} { return nil }

// run executes a command line against the shop and returns what it printed.
func (s *shop) run(args ...string) string {
	s.t.Helper()
	out, code := s.try(args...)
	if code != exitDone {
		s.t.Fatalf("shed %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func (s *shop) try(args ...string) (string, int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := run(s.t.Context(), append([]string{"--state", s.state}, args...), &out, &errs)
	s.t.Logf("shed %s: exit %d\n%s%s", strings.Join(args, " "), code, &errs, &out)
	if code != exitDone {
		return errs.String(), code
	}
	return out.String(), code
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestSignupBecomesReadyAndDeletionLeavesNothing(t *testing.T) {
	s := newShop(t, false)
	id := string(parse[signup.Outcome](t, s.run("--json", "webhook", "send", "--user", "amara")).Instance)
	i := parse[api.Instance](t, s.run("--json", "instance", "wait", id, "--timeout", "60s"))
	if i.State != "ready" || i.URL == "" || i.Tier != "software" || !i.Healthy {
		t.Errorf("%+v", i)
	}
	var a attest.AttestationResult
	if err := json.Unmarshal(i.AttestationResult, &a); err != nil || !a.Accepted() {
		t.Errorf("appraisal %s: %v", i.AttestationResult, err)
	}
	if out := s.run("instance", "list"); !strings.Contains(out, i.URL) {
		t.Errorf("list: %s", out)
	}
	s.run("instance", "delete", id, "--wait", "--timeout", "60s")
	page, err := s.cloud.List(t.Context(), "", "")
	if err == nil && len(page.Resources) != 0 {
		t.Errorf("left behind: %v", page.Resources)
	}
	if out := s.run("instance", "list"); strings.Contains(out, id) {
		t.Errorf("still listed: %s", out)
	}
}

func (s *shop) onlyInstance() api.Instance {
	s.t.Helper()
	all := parse[api.Instances](s.t, s.run("--json", "instance", "list")).Instances
	if len(all) != 1 {
		s.t.Fatalf("%d instances", len(all))
	}
	return all[0]
}

func TestAlteredImageIsQuarantinedByTheRegisterThatDiffers(t *testing.T) {
	s := newShop(t, true)
	out, code := s.try("instance", "create", "--user", "amara", "--wait", "--timeout", "60s")
	if code != exitRefused || !strings.Contains(out, "pcr11") {
		t.Errorf("exit %d: %s", code, out)
	}
	i := s.onlyInstance()
	if i.State != "quarantined" || i.URL != "" || !strings.Contains(i.Reason, "pcr11") {
		t.Errorf("%+v", i)
	}
}

// A control plane that is stopped and started again finds the machine ready:
// the agent comes back by itself.
func TestRestartFindsTheMachineAgain(t *testing.T) {
	s := newShop(t, false)
	s.run("instance", "create", "--user", "amara", "--wait", "--timeout", "60s")
	before := s.onlyInstance()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if out, code := s.try("instance", "list"); code != exitUnreachable || !strings.Contains(out, "hint:") {
		t.Errorf("exit %d: %s", code, out)
	}
	s.start(true)
	if after := s.onlyInstance(); after.Machine != before.Machine || after.State != "ready" {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if n := s.cloud.Calls(memory.CallCreate); n != 1 {
		t.Errorf("%d machines were asked for", n)
	}
	// With --power-off-on-exit the stop leaves every machine off.
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	m, err := s.cloud.Get(t.Context(), providers.MachineID(before.Machine))
	if err != nil || m.Power != providers.PowerOff {
		t.Errorf("power %q: %v", m.Power, err)
	}
	s.start(false)
}

func TestSecondServeIsRefusedWithAHint(t *testing.T) {
	s := newShop(t, false)
	err := explainServe(serve(t.Context(), planeOptions(filepath.Join(s.state, "control"), config.Config{}, t.Output()), false))
	var out bytes.Buffer
	if code := report(&out, err); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if text := out.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "hint: stop that one first") {
		t.Errorf("%s", text)
	}
}

func TestUsedPortIsRefusedWithAHint(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := config.Config{AdminListen: taken.Addr().String()}
	err = explainServe(serve(t.Context(), planeOptions(t.TempDir(), c, t.Output()), false))
	var out bytes.Buffer
	report(&out, err)
	want := "listening on " + c.AdminListen + " (listen.admin): address already in use\nhint: another program listens there"
	if !strings.Contains(out.String(), want) {
		t.Errorf("%s", &out)
	}
}

func TestFullDiskIsExplained(t *testing.T) {
	var out bytes.Buffer
	report(&out, explainServe(fmt.Errorf("opening the store: %w", orchestrator.ErrFull)))
	if !strings.Contains(out.String(), "the disk is full\nhint: make room") {
		t.Errorf("%s", &out)
	}
}

// --power-off needs no control plane, and listens nowhere.
func TestPowerOffAlone(t *testing.T) {
	s := newShop(t, false)
	s.run("instance", "create", "--user", "amara", "--wait", "--timeout", "60s")
	machine := s.onlyInstance().Machine
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	o := planeOptions(filepath.Join(s.state, "control"), config.Config{Settings: []byte("{}")}, t.Output())
	o.Provider = func(context.Context) (providers.Provider, error) { return s.cloud, nil }
	if err := powerOffAll(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m, err := s.cloud.Get(t.Context(), providers.MachineID(machine))
	if err != nil || m.Power != providers.PowerOff {
		t.Errorf("power %q: %v", m.Power, err)
	}
}
