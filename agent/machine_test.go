package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/ingress"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/agent/supervise"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// TestMain is the payload too: supervise runs this very program.
func TestMain(m *testing.M) {
	if socket := os.Getenv("SHED_SOCKET"); socket != "" {
		servePayload(socket)
		return
	}
	os.Exit(m.Run())
}

// servePayload says on which data it runs, and what it was sent.
func servePayload(socket string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("the payload's diary")
	if os.Getenv("UNHEALTHY") == "true" {
		http.Serve(l, http.NotFoundHandler()) //nolint:errcheck,gosec // it is killed
		return
	}
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:errcheck,gosec // it is killed
		if r.Header.Get("Upgrade") != "" {
			echo(w)
			return
		}
		if r.URL.Path == "/long" {
			for b := make([]byte, 64<<10); err == nil; {
				_, err = w.Write(b)
			}
			return
		}
		fmt.Fprintf(w, "%s authorization=%q token=%q owner=%q", r.URL.Path,
			r.Header.Values("Authorization"), r.Header.Values(ownership.Header), r.Header.Values(ingress.OwnerHeader))
	}))
}

// echo switches protocols and sends back what comes.
func echo(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n") //nolint:errcheck // the client's error tells
	io.Copy(conn, buffered)                                                                                  //nolint:errcheck // as above
}

// directory stands where the machine's mounts are, which need a kernel of
// one's own; the tests that boot machines exercise those.
type directory struct {
	mounted []string
	// used are what for, and what became of trials.
	used []string
	// broken is what mounting a device fails with, and cut what keeping a trial does.
	broken, cut error
}

func (d *directory) Device(path string, use boot.Use) error {
	d.mounted = append(d.mounted, path)
	d.used = append(d.used, map[boot.Use]string{
		boot.UseSettled: "settled", boot.UseTrial: "trial", boot.UseKept: "kept", boot.UseRestored: "restored",
	}[use])
	return d.broken
}
func (d *directory) Memory() error    { d.mounted = append(d.mounted, "memory"); return nil }
func (d *directory) Unmount() error   { return nil }
func (d *directory) KeepTrial() error { d.used = append(d.used, "keep"); return d.cut }
func (d *directory) Tidy() error      { d.used = append(d.used, "tidy"); return nil }

// plainMapper stands where device mapper is, for the same reason, and like it
// makes no mapping twice.
type plainMapper struct{ mapped bool }

func (p *plainMapper) Make(disk string, key []byte) (string, error) { return p.Map(disk, key) }

func (p *plainMapper) Map(disk string, _ []byte) (string, error) {
	if p.mapped {
		return "", syscall.EBUSY
	}
	p.mapped = true
	return disk, nil
}

func (p *plainMapper) Unmap() error {
	p.mapped = false
	return nil
}

// machine is the whole agent on a real software TPM, behind a real TLS port.
type machine struct {
	*agent.Machine
	t       *testing.T
	device  *swtpmtest.TPM
	data    *directory
	payload *supervise.Supervisor
	disk    string
	url     *url.URL
	key     *ecdsa.PrivateKey
	stop    func()
	// broken is what the next boot's mounts of a device fail with, and brokenFor an
	// image whose mounts fail.
	broken    error
	brokenFor string
	// wrap stands between the agent and its TPM from the next boot on.
	wrap func(transport.TPM) transport.TPM
	// starts is the disk and the firmware that the machine starts by.
	starts    *starter
	trialWait time.Duration
	// records is a directory of the volume's.
	records string
	// epoch is the release's that starts.
	epoch map[string]uint64
	// changes are the images whose release changes a list of Secure Boot's.
	changes map[string]listChange
	// unhealthy are the images whose payload never answers its probe.
	unhealthy map[string]bool
	// accepted counts the connections to the machine.
	accepted atomic.Int64
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	return newMachineWith(t, swtpmtest.Start(t))
}

func newMachineWith(t *testing.T, device *swtpmtest.TPM) *machine {
	t.Helper()
	return newMachineBy(t, device, nil)
}

// newMachineBy is one whose firmware has Secure Boot on by lists, where there are any.
func newMachineBy(t *testing.T, device *swtpmtest.TPM, lists map[string][]byte) *machine {
	t.Helper()
	m := &machine{t: t, device: device, disk: filepath.Join(t.TempDir(), "disk"), records: filepath.Join(t.TempDir(), "agent")}
	m.trialWait = time.Minute
	m.starts, m.epoch, m.unhealthy = newStarter(t), map[string]uint64{}, map[string]bool{}
	m.changes = map[string]listChange{}
	if lists != nil {
		m.starts.secure(lists)
	}
	if err := os.WriteFile(m.disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.disk, 8<<20); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	m.boot()
	t.Cleanup(func() { m.stop() })
	return m
}

// measured are the registers that firmware and stub extend at a boot of an image.
func measured(image string) map[uint8]attest.Digest {
	return map[uint8]attest.Digest{
		2: attest.Sum([]byte{0, 0, 0, 0}), 3: attest.Sum([]byte{0, 0, 0, 0}),
		4: attest.Sum([]byte(image)), 9: attest.Sum([]byte(image)), 11: attest.Sum([]byte(image)),
	}
}

func (m *machine) boot() {
	m.t.Helper()
	var device transport.TPM = m.device
	if m.wrap != nil {
		device = m.wrap(device)
	}
	tpm, err := attester.Open(device)
	if err != nil {
		m.t.Fatal(err)
	}
	image, noise := m.starts.boot()
	for register, digest := range measured(image) {
		if err := tpm.Extend(register, digest); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, digest := range m.starts.seven(m.starts.lists, image) {
		if err := tpm.Extend(7, digest); err != nil {
			m.t.Fatal(err)
		}
	}
	if noise {
		if err := tpm.Extend(4, attest.Sum([]byte("a file that did not start"))); err != nil {
			m.t.Fatal(err)
		}
	}
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	config, err := api.Config{
		Version: api.ConfigVersion, Machine: strings.Repeat("a", 26), ControlPlane: "127.0.0.1:1", TokenHash: api.Token{}.Hash(),
	}.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "agent")
	if err != nil {
		m.t.Fatal(err)
	}
	m.data = &directory{broken: m.broken}
	if m.brokenFor == image {
		m.data.broken = errors.New("it does not mount")
	}
	m.payload = supervise.New(supervise.Payload{
		Command: []string{self}, Socket: filepath.Join(sockets, "http.sock"), Data: m.t.TempDir(), Health: "/", Log: zap.NewNop(),
		Environment: []string{fmt.Sprintf("UNHEALTHY=%t", m.unhealthy[image])},
	})
	m.Machine = agent.New(agent.Parts{
		TPM: tpm, Data: m.data, Payload: m.payload, Certificate: certificate, SPKI: spki, Log: zap.NewNop(),
		Firmware: m.starts.variables, Lists: m.starts, Slots: m.starts.slots(), Records: update.Records(m.records), TrialWait: m.trialWait,
		Volume: &seal.DataVolume{
			Device: tpm, Mapper: new(plainMapper), Rand: rand.Reader, Disk: m.disk, Epoch: max(m.epoch[image], 1),
			Format: func(context.Context, string) error { return nil },
		},
	})
	if err := m.Configure(config, api.Token{}); err != nil {
		m.t.Fatal(err)
	}
	if err := m.OpenData(m.t.Context()); errors.Is(err, update.ErrRestart) {
		if err := m.Close(); err != nil {
			m.t.Fatal(err)
		}
		os.RemoveAll(sockets)
		m.device.PowerOff()
		m.device.PowerOn()
		m.boot()
		return
	} else if err != nil {
		m.t.Fatal(err)
	}
	m.SetReferenceValues(m.endorsement("1.0.0"))
	m.serve(sockets)
}

type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

func (m *machine) serve(sockets string) {
	m.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	m.url = &url.URL{Scheme: "https", Host: l.Addr().String()}
	l = countingListener{l, &m.accepted}
	ctx, cancel := context.WithCancel(context.Background())
	front := m.Ingress()
	front.Rand = rand.Reader
	served := make(chan struct{})
	go func() {
		defer close(served)
		front.Serve(ctx, l) //nolint:errcheck // it ends with ctx
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		<-served
		if err := m.Close(); err != nil {
			m.t.Error(err)
		}
		os.RemoveAll(sockets)
	})
}

// reboot resets the TPM and starts anew, at another port.
func (m *machine) reboot() {
	m.t.Helper()
	m.stop()
	m.device.PowerOff()
	m.device.PowerOn()
	m.boot()
}

// endorsement is a release signed by the machine's own publisher, in the shape
// of a Sigstore bundle, whose registers the machine has.
func (m *machine) endorsement(version string) api.EnrolResult {
	m.t.Helper()
	return m.releaseOf(version, "image", 1)
}

// releaseOf is a release of an image.
func (m *machine) releaseOf(version, image string, epoch uint64) api.EnrolResult {
	m.t.Helper()
	sha256s, sha384s := map[string]string{}, map[string]string{}
	for _, register := range []uint8{4, 9, 11} {
		name := strconv.Itoa(int(register))
		sha256s[name] = attest.Extend(attest.Digest{}, measured(image)[register]).String()
		sha384s[name] = strings.Repeat("0", 96)
	}
	file := release.File{Name: "disk.raw", SHA256: attest.Sum(nil), Bytes: 1}
	described := &release.Manifest{
		Schema: release.SchemaVersion, Version: version, Epoch: epoch, Architecture: "amd64", Disk: file,
		UKI: release.File{Name: "uki.efi", SHA256: attest.Sum([]byte(image)), Bytes: int64(len(image))}, StubVersion: 252,
		Boots:  []release.Boot{{SHA256: sha256s, SHA384: sha384s}},
		Inputs: []release.Input{{Name: "kernel", SHA256: attest.Sum(nil), Bytes: 1}},
	}
	m.withLists(described, image)
	manifest, err := described.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	digest := sha256.Sum256(manifest)
	signature, err := ecdsa.SignASN1(rand.Reader, m.key, digest[:])
	if err != nil {
		m.t.Fatal(err)
	}
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"dGVzdA=="}},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
		release.BundleMediaType, base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(signature))
	return api.EnrolResult{Accepted: true, Manifest: manifest, Bundle: bundle}
}

func (m *machine) trust() client.Trust {
	return client.Trust{
		Log:        release.LogPolicy{NotRequired: true},
		ReleaseKey: m.key.Public(), Now: time.Now, Rand: rand.Reader, Verifier: new(verifier.Verifier),
		Policy: verifier.Policy{
			Minimum:      attest.Tiers{Identity: attest.TierSoftware},
			EKRevocation: chain.RequiredWhereNamed,
			TrustAnchors: []verifier.TrustAnchor{{Certificate: m.device.Root, Tier: attest.TierSoftware}},
		},
	}
}

func newKeys(t *testing.T) client.Keys {
	t.Helper()
	keys, err := client.ClientState{Dir: t.TempDir()}.Keys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// claimed is a machine with its owner's keys and what they accepted of it.
func claimed(t *testing.T) (*machine, client.Keys, client.Pin) {
	t.Helper()
	m, keys := newMachine(t), newKeys(t)
	s, err := m.trust().Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Claim(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	return m, keys, s.Pin()
}

func refused(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v, want %v", err, want)
	}
}
