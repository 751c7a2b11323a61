package main

import (
	"crypto"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

const auditVerifyLong = `verify fetches the chain of the control plane's results, or reads it from an
export, computes it anew, checks the signature of each result, and compares the
chain with its heads in the transparency log at --log. It reports

  changed    an entry that is not as it was hashed
  missing    an entry that was taken out, or that stands elsewhere
  foreign    a result, or a head in the log, that the control plane's key did not sign
  truncated  a chain that ends before a head of it in the log
  fork       a head in the log that is not on the chain
  rollback   a head in the log behind one of more entries

and what shed release audit finds wrong with the log itself. --key names the
control plane's key; without it the one is believed that comes with the chain,
and the result says so. With --chain and a directory for --log nothing needs a
network or the control plane.

Exits with 4 where something is wrong.`

// chainOptions are what an audit of results is asked for with.
type chainOptions struct {
	chain, export, key string
	log                auditOptions
}

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "audit what the control plane made of its machines"}
	adminFlags(cmd)
	cmd.AddCommand(newAuditVerifyCommand(), newAuditKeyCommand())
	return cmd
}

func newAuditKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "print the key that the control plane signs its results with, PEM, for verify --key",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			page, err := c.ResultsFrom(cmd.Context(), 0)
			if err != nil {
				return err
			}
			if _, err := auditlog.ParseKey(page.Key); err != nil {
				return err
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: page.Key})
			return cli.PrintResult(cmd, struct {
				Key string `json:"key"`
			}{string(text)}, "%s", text)
		}),
	}
}

func newAuditVerifyCommand() *cobra.Command {
	var o chainOptions
	cmd := &cobra.Command{
		Use:   "verify [--log URL --log-key FILE --release-key FILE] [--export FILE]",
		Short: "verify the chain of the control plane's results",
		Long:  auditVerifyLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.chain, "chain", "", "read the chain from this export")
	flags.StringVar(&o.export, "export", "", "also write the chain to this file")
	flags.StringVar(&o.key, "key", "", "the control plane's public key, PEM")
	flags.StringVar(&o.log.log, "log", "", "where the transparency log is served, or a directory with its tiles")
	flags.StringArrayVar(&o.log.releaseKeys, "release-key", nil, "public key that signs releases, the first where it was rotated; repeatable")
	o.log.register(flags)
	return cmd
}

// results are a chain, wherever it is.
type results struct {
	auditlog.Export
	records iter.Seq2[*auditlog.Record, error]
	close   func() error
}

// aboutTheLog are flags that mean nothing where no log is named.
var aboutTheLog = []string{"log", "log-key", "release-key", "witness", "witnesses", "cosignature-age"}

func (o *chainOptions) run(cmd *cobra.Command) error {
	for _, name := range aboutTheLog {
		if o.log.log == "" && cmd.Flags().Changed(name) {
			return cli.Hinted(cli.Usage(fmt.Errorf("--%s is given and no log is named", name)), "name where it is served with --log")
		}
	}
	chain, err := o.open(cmd)
	if err != nil {
		return err
	}
	defer chain.close() //nolint:errcheck // it was only read
	key, err := o.readKey(chain.Key)
	if err != nil {
		return err
	}
	var logged *logaudit.Report
	if o.log.log != "" {
		if logged, err = o.log.replay(cmd); err != nil {
			return err
		}
	}
	var records []*auditlog.Record
	report, err := auditlog.Verify(kept(chain.records, &records, o.export != ""), chain.Head, key, headsOf(logged))
	if err != nil {
		return explainAdmin(err)
	}
	if o.export != "" {
		if err := writeExport(o.export, chain.Export, records); err != nil {
			return err
		}
	}
	return o.conclude(cmd, report, logged)
}

func headsOf(r *logaudit.Report) []auditlog.Logged {
	if r == nil {
		return nil
	}
	return r.AuditHeads
}

// kept also gathers the records where they are wanted again.
func kept(records iter.Seq2[*auditlog.Record, error], into *[]*auditlog.Record, wanted bool) iter.Seq2[*auditlog.Record, error] {
	if !wanted {
		return records
	}
	return func(yield func(*auditlog.Record, error) bool) {
		for record, err := range records {
			if err == nil {
				*into = append(*into, record)
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

func writeExport(path string, x auditlog.Export, records []*auditlog.Record) error {
	return statefile.Fill(path, 0o600, func(f *os.File) error {
		return auditlog.Write(f, x, func(yield func(*auditlog.Record, error) bool) {
			for _, record := range records {
				if !yield(record, nil) {
					return
				}
			}
		})
	})
}

// open reads the chain from a file, or asks the control plane.
func (o *chainOptions) open(cmd *cobra.Command) (*results, error) {
	if o.chain == "" {
		return fetchResults(cmd)
	}
	f, err := os.Open(o.chain)
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.NotFound(err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the chain: %w", err)
	}
	x, records, err := auditlog.Read(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", o.chain, err), f.Close())
	}
	return &results{x, records, f.Close}, nil
}

func fetchResults(cmd *cobra.Command) (*results, error) {
	c, err := newAdminClient(cmd)
	if err != nil {
		return nil, err
	}
	first, err := c.ResultsFrom(cmd.Context(), 0)
	if err != nil {
		return nil, explainAdmin(err)
	}
	r := &results{close: func() error { return nil }}
	r.Key, r.Count = first.Key, first.Count
	if err := r.Hash.UnmarshalText([]byte(first.Hash)); err != nil {
		return nil, fmt.Errorf("reading the chain's end: %w", err)
	}
	r.records = func(yield func(*auditlog.Record, error) bool) {
		for result, err := range c.Results(cmd.Context(), first.Count) {
			record := recordOf(result)
			if err == nil {
				err = record.Hash.UnmarshalText([]byte(result.Hash))
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
	return r, nil
}

func recordOf(r adminclient.Result) *auditlog.Record {
	return &auditlog.Record{Entry: auditlog.Entry{Index: r.Index, At: r.AtUS, Instance: r.Instance, Machine: r.Machine, EAR: r.EAR}}
}

// readKey is the key that was named, or else the one that came along.
func (o *chainOptions) readKey(shown []byte) (crypto.PublicKey, error) {
	if o.key == "" {
		return auditlog.ParseKey(shown)
	}
	text, err := readCapped(o.key, maxKeysFile)
	if err != nil {
		return nil, fmt.Errorf("reading the control plane's key: %w", err)
	}
	key, err := release.ParsePublicKey(text)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("reading %s: %w", o.key, err))
	}
	return key, nil
}

// chainResult is a report for programs.
type chainResult struct {
	*auditlog.Report
	// KeyPinned says that the auditor named the key.
	KeyPinned bool `json:"key_pinned"`
	// Log is null where no log was asked.
	Log *logResult `json:"log"`
}

type logResult struct {
	logaudit.Head
	Findings []logaudit.Finding `json:"findings"`
}

func (o *chainOptions) conclude(cmd *cobra.Command, report *auditlog.Report, logged *logaudit.Report) error {
	out := chainResult{Report: report, KeyPinned: o.key != ""}
	wrong := len(report.Findings)
	if logged != nil {
		out.Log = &logResult{logged.Head, append([]logaudit.Finding{}, logged.Findings...)}
		wrong += len(logged.Findings)
	}
	if err := out.print(cmd); err != nil {
		return err
	}
	if wrong > 0 {
		return cli.Refused(fmt.Errorf("the results are not as they should be: %d findings", wrong))
	}
	return nil
}

func (r chainResult) print(cmd *cobra.Command) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Problem, f.Reason)
	}
	fmt.Fprintf(&b, "%d results, %d of them accept their machine; head %s\n", r.Head.Count, r.Accepted, r.Head.Hash)
	if r.Log == nil {
		b.WriteString("transparency: none, no log was named\n")
	} else {
		for _, f := range r.Log.Findings {
			fmt.Fprintf(&b, "log: %s: %s\n", f.Problem, f.Reason)
		}
		fmt.Fprintf(&b, "transparency: %d heads in %s, the last that fits covers %d of %d results\n", r.Heads, r.Log.Origin, r.Covered, r.Head.Count)
	}
	if !r.KeyPinned {
		b.WriteString("key: the control plane's own word, name it with --key\n")
	}
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

// showEAR prints the newest result of an instance as the control plane signed it.
func showEAR(cmd *cobra.Command, c *adminclient.Client, id string) error {
	r, err := c.Result(cmd.Context(), id)
	if err != nil {
		return err
	}
	return cli.PrintResult(cmd, r, "%s\n", r.EAR)
}
