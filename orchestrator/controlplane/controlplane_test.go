package controlplane_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/orchestrator/translog/translogtest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

// site is a host on which a control plane is started.
type site struct {
	t *testing.T
	// dir holds the keys, state the control plane's own files.
	dir, state string
	flags      []string
	// plain has the provider name no endorsement keys.
	plain bool
}

// unendorsing is a provider without its rare abilities.
type unendorsing struct{ providers.Provider }

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), state: filepath.Join(translogtest.TempDir(t), "control")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	root := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &root, &root, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s.write("release.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o644)
	s.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	s.flags = []string{
		"listen.admin=127.0.0.1:0", "listen.webhooks=127.0.0.1:0", "listen.agents=127.0.0.1:0",
		"release.key_file=" + filepath.Join(s.dir, "release.pub"),
		`policy.ek_roots=[{"file":"` + filepath.Join(s.dir, "root.pem") + `","tier":"software"}]`,
	}
	return s
}

func (s *site) write(name string, content []byte, mode os.FileMode) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// open starts a control plane, which the test closes.
func (s *site) open(flags ...string) (*controlplane.ControlPlane, error) {
	s.t.Helper()
	c, _, err := config.Load(config.Sources{Env: func(string) (string, bool) { return "", false }, Flags: append(s.flags, flags...)})
	if err != nil {
		return nil, err
	}
	return controlplane.Open(s.t.Context(), controlplane.Options{
		Dir: s.state, Config: c, Clock: time.Now, Random: rand.Reader, Logger: zap.NewNop(),
		Provider: func(context.Context, string) (providers.Provider, error) {
			if s.plain {
				return unendorsing{memory.New(time.Now)}, nil
			}
			return memory.New(time.Now), nil
		},
	})
}

// A provider that names the keys of its machines needs no roots of certificates.
func TestNoRootsWhereKeysAreNamed(t *testing.T) {
	s := newSite(t)
	if err := s.once("policy.ek_roots=[]"); err != nil {
		t.Error(err)
	}
}

// TestProviderThatDoesNotStart is one whose program dies at once.
func TestProviderThatDoesNotStart(t *testing.T) {
	s := newSite(t)
	died := errors.New("died at once")
	c, _, err := config.Load(config.Sources{Env: func(string) (string, bool) { return "", false }, Flags: s.flags})
	if err != nil {
		t.Fatal(err)
	}
	_, err = controlplane.Open(t.Context(), controlplane.Options{
		Dir: s.state, Config: c, Clock: time.Now, Random: rand.Reader, Logger: zap.NewNop(),
		Provider: func(context.Context, string) (providers.Provider, error) { return (*nobody)(nil), died },
	})
	if !errors.Is(err, died) {
		t.Errorf("got %v, want %v", err, died)
	}
}

// nobody is what a constructor that fails gives back.
type nobody struct{ providers.Provider }

// once starts a control plane and stops it.
func (s *site) once(flags ...string) error {
	s.t.Helper()
	p, err := s.open(flags...)
	if err != nil {
		return err
	}
	return p.Close()
}

// A part of the state that is lost is not made anew without a word: machines
// and users would be forgotten, and no machine would speak to another key.
func TestLostState(t *testing.T) {
	for _, lost := range []string{sqlite.DatabaseFile, "agent.key", "ear.key", "ek-voucher.key", controlplane.SecretFile} {
		t.Run(lost, func(t *testing.T) {
			s := newSite(t)
			for range 2 {
				if err := s.once(); err != nil {
					t.Fatal(err)
				}
			}
			aside := filepath.Join(t.TempDir(), lost)
			if err := os.Rename(filepath.Join(s.state, lost), aside); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				var missing *controlplane.LostError
				if err := s.once(); !errors.As(err, &missing) || missing.File != lost || len(missing.Beside) == 0 {
					t.Errorf("error %v", err)
				}
			}
			if _, err := os.Stat(filepath.Join(s.state, lost)); err == nil {
				t.Errorf("a new %s was made", lost)
			}
			if err := os.Rename(aside, filepath.Join(s.state, lost)); err != nil {
				t.Fatal(err)
			}
			if err := s.once(); err != nil {
				t.Errorf("once it is back: %v", err)
			}
		})
	}
}

// What others can read is no secret: the start says which file it is.
func TestExposedSecrets(t *testing.T) {
	s := newSite(t)
	if err := s.once(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"agent.key", "ear.key", "ek-voucher.key", controlplane.TokenFile, controlplane.SecretFile} {
		path := filepath.Join(s.state, name)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		var exposed *controlplane.ExposedError
		if err := s.once(); !errors.As(err, &exposed) || exposed.Path != path {
			t.Errorf("%s: error %v", name, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.once(); err != nil {
		t.Errorf("once they are secrets: %v", err)
	}
}

// Whatever is there of a state without its database is a state that lost it.
func TestAnythingBesideALostDatabase(t *testing.T) {
	for _, name := range []string{
		"agent.key", "ek-voucher.key", controlplane.TokenFile, controlplane.SecretFile, controlplane.AddressesFile,
		sqlite.DatabaseFile + "-wal", sqlite.CommitsFile,
	} {
		s := newSite(t)
		if err := os.MkdirAll(s.state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		var missing *controlplane.LostError
		if err := s.once(); !errors.As(err, &missing) || !slices.Equal(missing.Beside, []string{name}) {
			t.Errorf("beside %s: %v", name, err)
		}
	}
}

// The port that machines were told stays theirs, and what is written is for its
// owner alone.
func TestAgentsPortStays(t *testing.T) {
	s := newSite(t)
	var before string
	for range 2 {
		p, err := s.open()
		if err != nil {
			t.Fatal(err)
		}
		at := p.Addresses().Agents
		if before != "" && at != before {
			t.Errorf("agents report to %s, and were told %s", at, before)
		}
		before = at
		entries, err := os.ReadDir(s.state)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().IsRegular() && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, error %v", e.Name(), info.Mode(), err)
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A key that was put in the place of the one that machines know is refused.
func TestForeignAgentKey(t *testing.T) {
	s, other := newSite(t), newSite(t)
	for _, one := range []*site{s, other} {
		if err := one.once(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(other.state, "agent.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.state, "agent.key"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.once(); err == nil || !strings.Contains(fmt.Sprint(err), "another key") {
		t.Errorf("error %v", err)
	}
}

// A database from before the key was noted opens with its key and notes it;
// without one it is refused like any other.
func TestStateFromBefore(t *testing.T) {
	s, other := newSite(t), newSite(t)
	if err := other.once(); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), s.state)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx store.Tx) error { return tx.PutMeta("installation", strings.Repeat("a", 26)) })
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	var missing *controlplane.LostError
	if err := s.once(); !errors.As(err, &missing) {
		t.Errorf("without the key: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(other.state, "agent.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.state, "agent.key"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.once(); err != nil {
			t.Errorf("with its key: %v", err)
		}
	}
}

// What can be known to be wrong at the start is said at the start, with the
// key's name and where its value came from.
func TestWrongConfigurationIsRefusedAtTheStart(t *testing.T) {
	s := newSite(t)
	s.plain = true
	secret := s.write("secret", []byte("whsec_"+strings.Repeat("QUJD", 10)), 0o644)
	shared := s.write("shared", []byte("whsec_"+strings.Repeat("QUJD", 10)), 0o640)
	empty := s.write("empty.pem", nil, 0o644)
	for name, c := range map[string]struct{ flag, want string }{
		"no root's file":     {`policy.ek_roots=[{"file":"/nonexistent/ca.pem","tier":"software"}]`, "policy.ek_roots (from flag)"},
		"no root in file":    {`policy.ek_roots=[{"file":"` + empty + `","tier":"software"}]`, "policy.ek_roots (from flag)"},
		"no roots":           {"policy.ek_roots=[]", "policy.ek_roots (from flag): is empty"},
		"no key":             {"release.key_file=", "release.key_file (from flag): is not set"},
		"no key's file":      {"release.key_file=/nonexistent", "release.key_file (from flag)"},
		"no key in file":     {"release.key_file=" + empty, "release.key_file (from flag)"},
		"readable secret":    {"webhook.secret_file=" + secret, "webhook.secret_file (from flag): " + secret + " can be read by others"},
		"group's secret":     {"webhook.secret_file=" + shared, "webhook.secret_file (from flag): " + shared + " can be read by others"},
		"no secret's file":   {"webhook.secret_file=/nonexistent", "webhook.secret_file (from flag)"},
		"small disk":         {"instance.data_bytes=1000", "instance.data_bytes (from flag)"},
		"odd disk":           {"instance.data_bytes=1073741825", "instance.data_bytes (from flag)"},
		"slow heartbeat":     {"agents.heartbeat=1h", "agents.heartbeat (from flag)"},
		"short timeout":      {"timeouts.booting=1ms", "timeouts.booting (from flag)"},
		"region not offered": {"instance.region=moon", `instance.region (from flag): "moon" is not offered: local`},
		"size not offered":   {"instance.size=huge", `instance.size (from flag): "huge" is not offered in local: standard`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.once(c.flag); !errors.Is(err, config.ErrConfig) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	if err := s.once(); err != nil {
		t.Errorf("the right configuration: %v", err)
	}
}

// Each door takes so many connections of one source, and the limit of files
// leaves room for all of them.
func TestConnectionsAreCapped(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	const files = 512
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before) //nolint:errcheck // it was the limit before
	p, err := newSite(t).open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, p.Close()); err != nil {
			t.Error(err)
		}
	})
	at := p.Addresses()
	for address, most := range map[string]int{at.Admin: files / 16 / 2, at.Webhooks: files / 8 / 2, at.Agents: files / 2 / 2} {
		for range most {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		last, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer last.Close()
		if err := last.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := last.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: one more than %d: %v", address, most, err)
		}
	}
}

// Readiness says whether a webhook could be stored, not whether it once could.
func TestReadyNeedsRoom(t *testing.T) {
	s := newSite(t)
	s.state = filepath.Join(tmpfs(t, "8m"), "control")
	p, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, p.Close()); err != nil && !errors.Is(err, orchestrator.ErrFull) {
			t.Error(err)
		}
	})
	// An answer is good for a second.
	ready := func(want string) string {
		for deadline := time.Now().Add(10 * time.Second); ; {
			got := readyz(t, p)
			if strings.Contains(got, want) || time.Now().After(deadline) {
				return got
			}
		}
	}
	if got := ready("no release"); !strings.Contains(got, "no release has been added") {
		t.Fatalf("an empty control plane: %s", got)
	}
	full, err := os.Create(filepath.Join(filepath.Dir(s.state), "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = full.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if got := ready("storing a mark"); !strings.Contains(got, "storing a mark") {
		t.Errorf("on a full disk: %s", got)
	}
	if err := full.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if got := ready("no release"); !strings.Contains(got, "no release has been added") {
		t.Errorf("with room again: %s", got)
	}
}

// readyz is the body of the answer to whether all is well.
func readyz(t *testing.T, p *controlplane.ControlPlane) string {
	t.Helper()
	resp, err := http.Get("http://" + p.Addresses().Admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tmpfs is a small file system of the test's own.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a file system that can be filled needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
