package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/manifest/manifesttest"
)

// fakeCloud builds the memory provider and runs its cloud; it answers where
// the provider is, its configuration and its fault injector.
func fakeCloud(t *testing.T) (program, config, faults string) {
	t.Helper()
	// A socket has a short path.
	dir, err := os.MkdirTemp("", "shs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program = filepath.Join(dir, "shed-provider-memory")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/toolshed-cloud/shed/cmd/shed-provider-memory").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	socket := filepath.Join(dir, "cloud")
	cmd := exec.Command(program, "cloud", "--socket", socket)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the cloud ended with %v", err)
		}
	})
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() {
		t.Fatal("the cloud did not start")
	}
	config = filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "settings: {cloud: %q}\n", socket), 0o600); err != nil {
		t.Fatal(err)
	}
	return program, config, lines.Text()
}

func runServe(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = cli.Run(ctx, newRootCommand(), args, &out, &err)
	return code, out.String(), err.String()
}

// Anybody's plugin is tested as a program, in every form of report.
func TestProviderTest(t *testing.T) {
	program, config, faults := fakeCloud(t)
	const cases = "info-says-who-it-is,a-killed-plugin-finds-its-machines-again,a-lost-answer-is-an-unknown-outcome"
	common := []string{"provider", "test", program, "--config", config, "--only", cases, "--patience", "10s"}
	code, out, errs := runServe(t.Context(), append(common, "--faults", faults)...)
	if code != 0 || !strings.Contains(out, "memory test: 3 passed, 0 failed, 0 skipped, 0 left behind") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	var report struct {
		Cases []struct{ Name, Outcome string }
	}
	code, out, errs = runServe(t.Context(), append(common, "--json")...)
	if err := json.Unmarshal([]byte(out), &report); code != 0 || err != nil || len(report.Cases) != 3 || report.Cases[2].Outcome != "skipped" {
		t.Errorf("%d %v\n%s%s", code, err, out, errs)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	code, out, errs = runServe(t.Context(), append(common, "--format", "junit", "--output", file)...)
	if b, err := os.ReadFile(file); code != 0 || err != nil || out != "" || !strings.Contains(string(b), `<testsuite name="conformance.memory" tests="4" failures="0" skipped="1">`) {
		t.Errorf("%d %v\n%s%s%s", code, err, b, out, errs)
	}
}

// What is wrong with how it was asked for is said before anything is made.
func TestProviderTestNamesWhatIsWrong(t *testing.T) {
	program, config, _ := fakeCloud(t)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("settings: {}\ncolour: red\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, []byte("settings: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"an unknown key":   {[]string{program, "--config", bad}, 2, "colour"},
		"no such file":     {[]string{program, "--config", bad + "x"}, 2, "no such file"},
		"a bad format":     {[]string{program, "--config", config, "--format", "html"}, 2, "text, json or junit"},
		"no such case":     {[]string{program, "--config", config, "--only", "x"}, 2, "there is no such case: x"},
		"a nameless one":   {[]string{"/bin/true", "--config", config}, 2, "shed-provider-"},
		"a missing plugin": {[]string{filepath.Join(t.TempDir(), "shed-provider-none"), "--config", config}, 1, "shed-provider-none"},
		"bad settings":     {[]string{program, "--config", empty}, 1, "cloud is missing"},
	} {
		if code, _, errs := runServe(t.Context(), append([]string{"provider", "test"}, c.args...)...); code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%s: %d\n%s", name, code, errs)
		}
	}
}

// A plugin that was signed is installed, started, and refused once it is
// another one.
func TestProviderInstall(t *testing.T) {
	program, _, _ := fakeCloud(t)
	key := manifesttest.SignAs(t, program, "memory", providers.ContractVersion)
	state := t.TempDir()
	install := func(key string) (int, string) {
		code, out, errs := runServe(t.Context(), "provider", "install", program, "--key", key, "--state", state)
		return code, out + errs
	}
	if code, said := install(key); code != 0 || !strings.Contains(said, "installed provider memory 1.0.0") {
		t.Fatalf("%d: %s", code, said)
	}
	open := func(keys ...string) error {
		p := plugins{config: loaded(t, "provider.name=memory", "plugins.keys="+list(t, keys)), dir: pluginsDir(state), logger: zap.NewNop()}
		opened, err := p.open(t.Context(), "memory")
		if err != nil {
			return err
		}
		return opened.Close()
	}
	if err := open(key); err != nil {
		t.Errorf("a signed plugin: %v", err)
	}
	if err := open(); !errors.Is(err, errUnsigned) {
		t.Errorf("without a key: %v", err)
	}
	installed := filepath.Join(pluginsDir(state), "shed-provider-memory")
	f, err := os.OpenFile(installed, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(key); !errors.Is(err, errUnsigned) || !strings.Contains(fmt.Sprint(err), "sha256") || cli.ExitCode(err) != cli.ExitRefused {
		t.Errorf("a changed plugin: %v", err)
	}
	if code, said := install(manifesttest.SignAs(t, program, "other", providers.ContractVersion)); code != 4 {
		t.Errorf("a plugin under another's name: %d: %s", code, said)
	}
	if code, said := install(key); code != 4 || !strings.Contains(said, "signed") {
		t.Errorf("another maker's: %d: %s", code, said)
	}
}

func loaded(t *testing.T, flags ...string) config.Config {
	t.Helper()
	c, _, err := config.Load(config.Sources{Env: func(string) (string, bool) { return "", false }, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func list(t *testing.T, names []string) string {
	t.Helper()
	b, err := json.Marshal(append([]string{}, names...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
