package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
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
	t.Logf("permissions used: %v", c.Actions())
}
