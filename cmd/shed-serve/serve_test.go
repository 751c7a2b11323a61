package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/cmd/internal/shoptest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
)

// serving is serve as the shop starts it.
func serving(powerOffOnExit bool) shoptest.Run {
	return func(ctx context.Context, o controlplane.Options, opened func(*controlplane.ControlPlane)) error {
		return serveThen(ctx, o, powerOffOnExit, opened)
	}
}

// newMachine is a shop with one machine that is on.
func newMachine(t *testing.T, run shoptest.Run) (*shoptest.Shop, providers.MachineID) {
	t.Helper()
	s := shoptest.New(t, false, run)
	dir := filepath.Join(s.State, "control")
	known, err := adminclient.ReadAddresses(dir)
	if err != nil {
		t.Fatal(err)
	}
	token, err := adminclient.ReadToken(filepath.Join(dir, adminclient.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	c := &adminclient.Client{Base: "http://" + known.Admin, Token: token}
	release := adminclient.NewRelease{DiskPath: filepath.Join(s.Release, "disk.raw")}
	for name, into := range map[string]*[]byte{"manifest.json": &release.Manifest, "manifest.json.sigstore.json": &release.Bundle} {
		if *into, err = os.ReadFile(filepath.Join(s.Release, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.AddRelease(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	i, err := c.Create(t.Context(), adminclient.NewInstance{UserID: "amara"})
	if err != nil {
		t.Fatal(err)
	}
	events, err := c.Events(t.Context(), adminclient.EventQuery{Instance: i.ID, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	for i.State != "ready" {
		if _, err := events.Next(); err != nil {
			t.Fatal(err)
		}
		if i, err = c.Instance(t.Context(), i.ID); err != nil {
			t.Fatal(err)
		}
	}
	return s, providers.MachineID(i.Machine)
}

func wantOff(t *testing.T, s *shoptest.Shop, machine providers.MachineID) {
	t.Helper()
	if m, err := s.Cloud.Get(t.Context(), machine); err != nil || m.Power != providers.PowerOff {
		t.Errorf("power %q: %v", m.Power, err)
	}
}

// With --power-off-on-exit the stop leaves every machine off.
func TestPowerOffOnExit(t *testing.T) {
	s, machine := newMachine(t, serving(true))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantOff(t, s, machine)
}

// --power-off needs no control plane, and listens nowhere.
func TestPowerOffAlone(t *testing.T) {
	s, machine := newMachine(t, serving(false))
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := powerOffAll(t.Context(), s.Options(config.Config{ProviderName: "memory", Settings: []byte("{}")})); err != nil {
		t.Fatal(err)
	}
	wantOff(t, s, machine)
}

func TestSecondServeIsRefusedWithAHint(t *testing.T) {
	s := shoptest.New(t, false, serving(false))
	err := explainServe(serve(t.Context(), s.Options(config.Config{}), false))
	var out bytes.Buffer
	if code := cli.Report(&out, err, false); code != cli.ExitFailed {
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
	err = explainServe(serve(t.Context(), planeOptions(t.TempDir(), t.TempDir(), c, t.Output()), false))
	var out bytes.Buffer
	cli.Report(&out, err, false)
	want := "listening on " + c.AdminListen + " (listen.admin): address already in use\nhint: another program listens there"
	if !strings.Contains(out.String(), want) {
		t.Errorf("%s", &out)
	}
}

func TestDamagedDatabaseIsExplained(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.DatabaseFile), bytes.Repeat([]byte("no database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cli.Report(&out, explainServe(serve(t.Context(), planeOptions(dir, dir, config.Config{}, t.Output()), false)), false)
	if text := out.String(); !strings.Contains(text, "the database is damaged") || !strings.Contains(text, "\nhint: put the whole state directory back from a backup\n") {
		t.Errorf("%s", text)
	}
}

func TestFullDiskIsExplained(t *testing.T) {
	var out bytes.Buffer
	cli.Report(&out, explainServe(fmt.Errorf("opening the store: %w", orchestrator.ErrFull)), false)
	if !strings.Contains(out.String(), "the disk is full\nhint: make room") {
		t.Errorf("%s", &out)
	}
}

func TestWhatAProviderWantsChangedIsExplained(t *testing.T) {
	var out bytes.Buffer
	refused := providers.Errorf(providers.CodeDenied, "RunInstances was refused")
	refused.Hint = "allow ec2:RunInstances"
	cli.Report(&out, explainServe(fmt.Errorf("configuring the provider aws: %w", refused)), false)
	if !strings.HasSuffix(out.String(), "RunInstances was refused\nhint: allow ec2:RunInstances\n") {
		t.Errorf("%s", &out)
	}
}
