package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
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
	var report struct{ Cases []struct{ Name, Outcome string } }
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
