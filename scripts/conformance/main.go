// Command conformance runs the provider conformance suite over every provider
// that there is, as `shed provider test` runs it for anybody. Invariants: each
// provider works in a directory of its own that is gone afterwards; what was
// started is ended, also where something fails; and the last line is one JSON
// object.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "where the programs are")
	only := flag.String("only", "", "providers to test, separated by commas; empty for all")
	junit := flag.String("junit", "", "directory for a JUnit report of each provider")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, *bin, *only, *junit, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "conformance: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// tally is what one provider's suite did.
type tally struct {
	Name    string `json:"name"`
	Cases   int    `json:"cases"`
	Passed  int    `json:"passed"`
	Skipped int    `json:"skipped"`
	Failed  int    `json:"failed"`
	Leaks   int    `json:"leaks"`
}

func run(ctx context.Context, bin, only, junit string, out io.Writer) (ok bool, err error) {
	if bin, err = filepath.Abs(bin); err != nil {
		return false, err
	}
	result := struct {
		Providers []tally `json:"providers"`
	}{Providers: []tally{}}
	ok = true
	for _, s := range subjects {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		t, err := test(ctx, bin, junit, s)
		if err != nil {
			return false, fmt.Errorf("%s: %w", s.name, err)
		}
		if t.Passed < s.fewest {
			fmt.Fprintf(out, "%s passes %d cases, want at least %d\n", s.name, t.Passed, s.fewest)
		}
		ok = ok && t.Failed == 0 && t.Leaks == 0 && t.Passed >= s.fewest
		result.Providers = append(result.Providers, t)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROVIDER\tCASES\tPASSED\tSKIPPED\tFAILED\tLEFT BEHIND")
	for _, t := range result.Providers {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\n", t.Name, t.Cases, t.Passed, t.Skipped, t.Failed, t.Leaks)
	}
	return ok, errors.Join(table.Flush(), json.NewEncoder(out).Encode(result))
}

// test runs the suite over one provider, and says what failed as it fails.
func test(ctx context.Context, bin, junit string, s subject) (t tally, err error) {
	// Sockets have short paths.
	dir, err := os.MkdirTemp("", "shc-")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at, err := s.prepare(ctx, bin, dir)
	if err != nil {
		return t, fmt.Errorf("preparing: %w", err)
	}
	if at.stop != nil {
		defer func() { err = errors.Join(err, at.stop()) }()
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte(at.config), 0o600); err != nil {
		return t, err
	}
	args := append([]string{"provider", "test", filepath.Join(bin, "shed-provider-"+s.name), "--config", config}, at.args...)
	if junit != "" {
		if err := os.MkdirAll(junit, 0o755); err != nil {
			return t, err
		}
		if err := suite(ctx, bin, append(args, "--format", "junit", "--output", filepath.Join(junit, s.name+".xml")), nil); err != nil {
			return t, err
		}
	}
	var report struct {
		Cases []struct {
			Name, Outcome string
			Said          []string
		}
		Leaks int
	}
	if err := suite(ctx, bin, append(args, "--format", "json"), &report); err != nil {
		return t, err
	}
	t = tally{Name: s.name, Cases: len(report.Cases), Leaks: report.Leaks}
	for _, c := range report.Cases {
		switch c.Outcome {
		case "passed":
			t.Passed++
		case "skipped":
			t.Skipped++
		default:
			t.Failed++
			fmt.Fprintf(os.Stderr, "%s: %s failed:\n  %s\n", s.name, c.Name, strings.Join(c.Said, "\n  "))
		}
	}
	return t, nil
}

// exitRefused is what the suite ends with where something failed.
const exitRefused = 4

// suite runs `shed provider test`. That cases failed is the report's to say.
func suite(ctx context.Context, bin string, args []string, report any) error {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "shed"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != exitRefused) {
		return fmt.Errorf("running the suite: %w", err)
	}
	if report == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), report); err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	return nil
}
