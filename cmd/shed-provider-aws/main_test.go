package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// This test binary is also the plugin.
const cookieEnv = "SHED_PROVIDER_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(cookieEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// cloud is the stand-in, with no limits: how many requests the suite makes is
// no fault of the provider's.
func cloud(t *testing.T) *standin.Cloud {
	t.Helper()
	python := os.Getenv("SHED_MOTO")
	if python == "" {
		t.Skip("starts moto, which make test installs: set SHED_MOTO")
	}
	c, err := standin.Start(t.Context(), standin.Options{
		Python: python, MachineTag: aws.MachineTag, DriftTag: aws.InstallationTag, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func settings(t *testing.T, c *standin.Cloud, key string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"region": "us-east-1", "access_key_id": key, "secret_access_key": "secret", "endpoint": c.URL, "api_limits": 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// image is a disk of three blocks, the middle one of zeros.
func image(t *testing.T) providers.Image {
	t.Helper()
	b := make([]byte, 1<<20+10)
	b[0], b[len(b)-1] = 1, 1
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := attest.Sum(b)
	return providers.Image{Release: attest.ReleaseDigest(sum), Path: path, SHA256: sum, Bytes: int64(len(b))}
}

func TestConformance(t *testing.T) {
	c := cloud(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		start := func(ctx context.Context) (*plugin.Supervisor, error) {
			return plugin.Open(ctx, plugin.Options{
				Name: aws.Name, Path: self, RuntimeDir: t.TempDir(), Backoff: 10 * time.Millisecond, Log: zaptest.NewLogger(t),
			})
		}
		p, err := start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		s := settings(t, c, "AKIAONE")
		if err := p.Configure(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		i := image(t)
		return providertest.Subject{
			Provider: p, Settings: s, Rotated: settings(t, c, "AKIATWO"), Image: i,
			Spec:     providers.Spec{Release: i.Release, DataBytes: 1 << 20, Config: []byte("a configuration for tests")},
			Patience: 30 * time.Second, Kill: p.Kill, Faults: c,
			Fresh: func(ctx context.Context) (providers.Provider, error) { return start(ctx) },
		}
	})
	t.Run("the-policy-is-what-is-used", func(t *testing.T) {
		useTheRest(t, c)
		if got, want := c.Actions(), policy(t); !slices.Equal(got, want) {
			t.Errorf("used %q\nthe policy of docs/aws.md has %q", got, want)
		}
	})
}

// policy reads the actions out of the documented policy.
func policy(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```json\n")
	text, _, _ := strings.Cut(rest, "```")
	var p struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal([]byte(text), &p); err != nil || len(p.Statement) != 1 {
		t.Fatalf("the policy of docs/aws.md: %v", err)
	}
	return slices.Sorted(slices.Values(p.Statement[0].Action))
}

// useTheRest does what the suite has no case for: a disk that grows by whole
// GiB, a data volume that somebody had go with its instance, and a network
// interface that is left.
func useTheRest(t *testing.T, c *standin.Cloud) {
	t.Helper()
	p := aws.New(aws.Options{Version: "test"})
	if err := p.Configure(t.Context(), settings(t, c, "AKIAONE")); err != nil {
		t.Fatal(err)
	}
	i := image(t)
	if err := p.EnsureImage(t.Context(), i, nil); err != nil {
		t.Fatal(err)
	}
	req := providers.CreateRequest{
		Installation: "therest", Machine: "grows", Generation: 1,
		Spec: providers.Spec{Release: i.Release, DataBytes: 1 << 30, Config: []byte("c")},
	}
	if _, err := p.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := c.Spoil(t.Context(), "grows"); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Get(t.Context(), "grows"); err != nil || !strings.Contains(m.Drift, "data volume") {
		t.Errorf("drift %q: %v", m.Drift, err)
	}
	m, err := p.Apply(t.Context(), providers.Change{Machine: "grows", Generation: 2, DataBytes: 3 << 30})
	if err != nil || m.Drift != "" {
		t.Errorf("after Apply, drift %q: %v", m.Drift, err)
	}
	if m, err = p.Get(t.Context(), "grows"); err != nil || m.Drift != "" {
		t.Errorf("drift %q: %v", m.Drift, err)
	}
	for _, r := range m.Resources {
		if r.Kind == providers.ResourceDataDisk && r.Bytes != 3<<30 {
			t.Errorf("the data disk has %d bytes", r.Bytes)
		}
	}
	if err := p.Delete(t.Context(), "grows", false); err != nil {
		t.Error(err)
	}
	if page, err := p.List(t.Context(), "therest", "nics:"); err != nil || len(page.Resources) != 0 {
		t.Errorf("left: %+v, %v", page.Resources, err)
	}
}
