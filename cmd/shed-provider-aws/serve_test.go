package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/cmd/internal/shoptest"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// admin is a client of the control plane as it runs now.
func admin(t *testing.T, s *shoptest.Shop) *adminclient.Client {
	t.Helper()
	dir := filepath.Join(s.State, "control")
	known, err := adminclient.ReadAddresses(dir)
	if err != nil {
		t.Fatal(err)
	}
	token, err := adminclient.ReadToken(filepath.Join(dir, adminclient.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return &adminclient.Client{Base: "http://" + known.Admin, Token: token}
}

// patience is how long the control plane may take to get somewhere.
const patience = 40 * time.Second

// until asks until it holds.
func until(t *testing.T, what string, holds func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, instead := holds()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it does not come to be that %s: %s", what, instead)
		}
	}
}

func pluginOn(t *testing.T, c *standin.Cloud) *plugin.Supervisor {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := plugin.Open(t.Context(), plugin.Options{
		Name: aws.Name, Path: self, RuntimeDir: t.TempDir(), Backoff: 10 * time.Millisecond, Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Configure(t.Context(), settings(t, c, "AKIAONE")); err != nil {
		t.Fatal(err)
	}
	return p
}

// A machine's life by the whole control plane: no instance boots here, so the
// guest is one beside it, with a TPM of its own.
func TestTheControlPlaneRunsOnIt(t *testing.T) {
	c := cloud(t)
	p := pluginOn(t, c)
	s := shoptest.NewOn(t, shoptest.Serve, p, "instance.region=us-east-1", "instance.size=m6a.large")
	client := admin(t, s)
	release := adminclient.NewRelease{DiskPath: filepath.Join(s.Release, "disk.raw")}
	for name, into := range map[string]*[]byte{"manifest.json": &release.Manifest, "manifest.json.sigstore.json": &release.Bundle} {
		var err error
		if *into, err = os.ReadFile(filepath.Join(s.Release, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.AddRelease(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	i, err := client.Create(t.Context(), adminclient.NewInstance{UserID: "amara"})
	if err != nil {
		t.Fatal(err)
	}
	state := func(want string) func() (bool, string) {
		return func() (bool, string) {
			now, err := client.Instance(t.Context(), i.ID)
			if err != nil {
				return false, err.Error()
			}
			i = now
			return i.State == want, i.State + ": " + i.Reason
		}
	}
	until(t, "the instance is ready", state("ready"))
	machine := providers.MachineID(i.Machine)
	made, err := p.Get(t.Context(), machine)
	if err != nil || made.Power != providers.PowerOn || made.Endpoint == "" {
		t.Fatalf("%+v, %v", made, err)
	}

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s.Start(shoptest.Serve)
	client = admin(t, s)
	until(t, "the instance is ready after a restart", state("ready"))
	if providers.MachineID(i.Machine) != machine {
		t.Errorf("machine %s, was %s", i.Machine, machine)
	}

	if err := c.Inject(t.Context(), providertest.Fault{Kind: providertest.FaultDrift, Machine: machine}); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Get(t.Context(), machine); err != nil || m.Drift == "" {
		t.Errorf("the drift is not told: %+v, %v", m, err)
	}
	until(t, "the drift is mended", func() (bool, string) {
		m, err := p.Get(t.Context(), machine)
		return err == nil && m.Drift == "", m.Drift
	})
	if _, err := client.Resize(t.Context(), i.ID, 64<<30); err != nil {
		t.Fatal(err)
	}
	until(t, "the disk has grown", func() (bool, string) {
		m, err := p.Get(t.Context(), machine)
		for _, r := range m.Resources {
			if r.Kind == providers.ResourceDataDisk && r.Bytes == 64<<30 && m.Generation > made.Generation {
				return err == nil, ""
			}
		}
		return false, "it has not"
	})

	if _, err := client.Delete(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	until(t, "the instance is gone", state("deleted"))
	for page := ""; ; {
		left, err := p.List(t.Context(), made.Installation, page)
		if err != nil || len(left.Resources) > 0 {
			t.Fatalf("left behind: %+v, %v", left.Resources, err)
		}
		if page = left.Next; page == "" {
			break
		}
	}
}
