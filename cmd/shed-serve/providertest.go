package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

const providerTestLong = `test runs the conformance suite against a provider plugin: what the control plane
relies on, seen as the control plane sees it. The plugin is started, killed and
started again, and makes machines of random ids, which it deletes again; what is
left is reported as leaks.

PLUGIN is a program whose name ends with that of the provider, as
shed-provider-qemu's. --config names a YAML file:

  settings: {…}     # what the plugin is configured with
  rotated: {…}      # the same with other credentials, if there are any
  region: …         # where, and as what, machines are made; may be missing
  size: …
  data_bytes: 33554432

A case that is left out names the capability that the plugin does not offer.
With --faults the suite makes the cloud at the other end misbehave too, which
only a fake one lets it.`

type providerTestOptions struct {
	config, image, faults, format, output string
	only                                  []string
	patience                              time.Duration
	verbose                               bool
}

func newProviderTestCommand() *cobra.Command {
	var o providerTestOptions
	cmd := &cobra.Command{
		Use:   "test PLUGIN --config FILE",
		Short: "run the conformance suite against a provider plugin",
		Long:  providerTestLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cli.WantsJSON(cmd) {
				o.format = "json"
			}
			return o.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "YAML file with the plugin's settings")
	f.StringVar(&o.image, "image", "", "disk that machines are made from; need not boot (default 1 MiB of zeros)")
	f.StringVar(&o.faults, "faults", "", "URL of a fake cloud's fault injector")
	f.StringVar(&o.format, "format", "text", "text, json or junit")
	f.StringVar(&o.output, "output", "", "write the report to this file instead of standard output")
	f.StringSliceVar(&o.only, "only", nil, "run these cases alone")
	f.DurationVar(&o.patience, "patience", time.Minute, "how long a machine may take to reach a power state")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show the plugin's log")
	cobra.CheckErr(cmd.MarkFlagRequired("config"))
	return cmd
}

// testConfig is the file that --config names.
type testConfig struct {
	Settings  map[string]any `yaml:"settings"`
	Rotated   map[string]any `yaml:"rotated"`
	Region    string         `yaml:"region"`
	Size      string         `yaml:"size"`
	DataBytes int64          `yaml:"data_bytes"`
}

func readTestConfig(name string) (c testConfig, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return c, cli.Usage(err)
	}
	c = testConfig{Settings: map[string]any{}, DataBytes: 32 << 20}
	if err := yaml.UnmarshalWithOptions(b, &c, yaml.Strict()); err != nil {
		return c, cli.Usage(fmt.Errorf("reading %s: %s", name, yaml.FormatError(err, false, false)))
	}
	return c, nil
}

var errNotConforming = errors.New("the plugin does not conform")

func (o *providerTestOptions) run(cmd *cobra.Command, program string) error {
	write, ok := map[string]func(providertest.Report, io.Writer) error{
		"text": providertest.Report.WriteText, "json": providertest.Report.WriteJSON, "junit": providertest.Report.WriteJUnit,
	}[o.format]
	if !ok {
		return cli.Usage(fmt.Errorf("--format is %q, want text, json or junit", o.format))
	}
	c, err := readTestConfig(o.config)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "shed-provider-test-")
	if err != nil {
		return fmt.Errorf("making a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the system's own temporary directory
	logger := zap.NewNop()
	if o.verbose {
		logger = newLogger(cmd.ErrOrStderr(), zap.InfoLevel)
	}
	started, err := startTested(cmd.Context(), program, logger)
	if err != nil {
		return err
	}
	defer started.Close() //nolint:errcheck // its machines are gone by then
	subject, err := o.subject(cmd.Context(), started, c, dir)
	if err != nil {
		return err
	}
	subject.Fresh = func(ctx context.Context) (providers.Provider, error) { return startTested(ctx, program, logger) }
	report, err := providertest.Check(cmd.Context(), subject, providertest.Options{Only: o.only, Started: progress(cmd.ErrOrStderr())})
	if err != nil {
		return cli.Usage(err)
	}
	if err := o.write(cmd.OutOrStdout(), func(w io.Writer) error { return write(report, w) }); err != nil {
		return err
	}
	if !report.OK() {
		return cli.Refused(fmt.Errorf("%w: %d of %d cases failed, %d resources are left", errNotConforming,
			report.Count(providertest.Failed), len(report.Cases), report.Leaks))
	}
	return nil
}

// progress shows a person which case runs, on a line that the next one takes.
func progress(w io.Writer) func(name string, index, of int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return func(name string, index, of int) {
		fmt.Fprintf(w, "\r\x1b[K%d of %d  %s\r", index+1, of, name)
	}
}

func (o *providerTestOptions) write(stdout io.Writer, write func(io.Writer) error) error {
	if o.output == "" {
		return write(stdout)
	}
	f, err := os.Create(o.output)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return errors.Join(write(f), f.Close())
}

// startTested starts the plugin without configuring it.
func startTested(ctx context.Context, program string, logger *zap.Logger) (*plugin.Supervisor, error) {
	_, name, ok := strings.Cut(filepath.Base(program), "shed-provider-")
	if !ok || name == "" {
		return nil, cli.Usage(fmt.Errorf("the name of %s does not end with shed-provider- and the provider's name", program))
	}
	s, err := plugin.Open(ctx, plugin.Options{Name: name, Path: program, Log: logger.Named("plugin"), Backoff: 10 * time.Millisecond})
	if err != nil {
		return nil, cli.Hinted(err, "is it a plugin for this version of the contract? It is started without arguments, by its host alone")
	}
	return s, nil
}

func (o *providerTestOptions) subject(ctx context.Context, p *plugin.Supervisor, c testConfig, dir string) (providertest.Subject, error) {
	s := providertest.Subject{Provider: p, Kill: p.Kill, Patience: o.patience}
	var err error
	if s.Settings, err = json.Marshal(c.Settings); err != nil {
		return s, cli.Usage(fmt.Errorf("settings: %w", err))
	}
	if c.Rotated != nil {
		if s.Rotated, err = json.Marshal(c.Rotated); err != nil {
			return s, cli.Usage(fmt.Errorf("rotated: %w", err))
		}
	}
	if err := p.Configure(ctx, s.Settings); err != nil {
		return s, cli.Hinted(err, "look at settings in %s", o.config)
	}
	if s.Image, err = testImage(o.image, dir); err != nil {
		return s, err
	}
	s.Spec = providers.Spec{Release: s.Image.Release, Region: c.Region, Size: c.Size, DataBytes: c.DataBytes, Config: []byte("a configuration for tests")}
	if o.faults != "" {
		s.Faults = &providertest.RemoteInjector{URL: o.faults, Client: &http.Client{Timeout: 10 * time.Second}}
	}
	return s, nil
}

// testImage is the disk that was named, or one that boots nothing. Its release
// is its own digest, so that another disk is another release.
func testImage(name, dir string) (providers.Image, error) {
	if name == "" {
		name = filepath.Join(dir, "disk.raw")
		if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
			return providers.Image{}, fmt.Errorf("writing a disk: %w", err)
		}
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return providers.Image{}, fmt.Errorf("locating %s: %w", name, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return providers.Image{}, cli.Usage(err)
	}
	sum := attest.Sum(b)
	return providers.Image{Release: attest.ReleaseDigest(sum), Path: path, SHA256: sum, Bytes: int64(len(b))}, nil
}
