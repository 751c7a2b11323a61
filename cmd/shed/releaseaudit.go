package main

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const auditLong = `audit fetches the whole transparency log at URL, replays it, and compares it with
what it saw of it last time. It reports

  fork              a head that does not fit another: the log shows two histories
  rollback          a log that has become smaller, or an epoch that went back
  foreign-entry     an entry that no accepted key signed, or that does not parse
  never-logged      a release in use that the log does not have, or says another
                    version, epoch or architecture of
  withdrawn-in-use  a release in use that was withdrawn
  unwitnessed       a head that too few witnesses have cosigned, or too long ago
                    or ahead; where no witness is named that is not asked for,
                    and said

The releases in use are those whose manifest.json is in a directory of
--releases, or in DIR itself, and with --running those that the control plane's
instances run. --checkpoint compares with a head that somebody else was shown.
What was seen is kept in the state directory, under audit.

Exits with 4 where something is wrong.`

// auditOptions are what an audit is asked for with.
type auditOptions struct {
	log         string
	releaseKeys []string
	releases    []string
	checkpoints []string
	running     bool
	logFlags
}

func newReleaseAuditCommand() *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use:   "audit --log URL --log-key FILE --release-key FILE",
		Short: "replay the transparency log and report what is wrong with it",
		Long:  auditLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.log, "log", "", "where the log is served")
	flags.StringArrayVar(&o.releaseKeys, "release-key", nil, "public key that signs releases, the first where it was rotated; repeatable")
	flags.StringArrayVar(&o.releases, "releases", nil, "directory with releases in use; repeatable")
	flags.StringArrayVar(&o.checkpoints, "checkpoint", nil, "file with a checkpoint of the log that was seen elsewhere; repeatable")
	flags.BoolVar(&o.running, "running", false, "also check the releases that the control plane's instances run")
	o.register(flags)
	cobra.CheckErr(cmd.MarkFlagRequired("log"))
	return cmd
}

func (o *auditOptions) run(cmd *cobra.Command) error {
	report, err := o.replay(cmd)
	if err != nil {
		return err
	}
	err = printReport(cmd, report, len(o.witnesses) > 0)
	if len(report.Findings) > 0 {
		err = errors.Join(err, cli.Refused(fmt.Errorf("the log %s is not as it should be: %d findings", report.Head.Origin, len(report.Findings))))
	}
	return err
}

// replay audits the log, and remembers its head where it fits what was seen.
func (o *auditOptions) replay(cmd *cobra.Command) (*logaudit.Report, error) {
	policy, err := o.auditPolicy(cmd)
	if err != nil {
		return nil, err
	}
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return nil, err
	}
	memory := auditMemory(cmd, policy.Log)
	unlock, err := memory.open(&policy)
	if err != nil {
		return nil, err
	}
	defer unlock() //nolint:errcheck // the lock goes with the descriptor
	report, err := logaudit.Replay(cmd.Context(), fetchFrom(o.log, timeout), policy)
	if err != nil {
		return nil, explainAudit(err)
	}
	if report.Fits {
		err = memory.keep(report.Head)
	}
	return report, err
}

// explainAudit says unreachable where the log is not there.
func explainAudit(err error) error {
	var unanswered *url.Error
	if errors.As(err, &unanswered) && !unanswered.Timeout() {
		return cli.Hinted(cli.Unreachable(err), "is the log served there?")
	}
	return err
}

func (o *auditOptions) auditPolicy(cmd *cobra.Command) (p logaudit.Policy, err error) {
	client := filepath.Join(cli.StateDir(cmd), "client")
	o.key = first(o.key, os.Getenv("SHED_LOG_KEY"), existing(filepath.Join(client, logKeyFile)))
	if o.key == "" {
		return p, cli.Hinted(cli.Usage(errors.New("no log's key is named")), "name it with --log-key")
	}
	if p.Log, err = readLogKey(o.key); err != nil {
		return p, err
	}
	if file := first(os.Getenv("SHED_WITNESS"), existing(filepath.Join(client, witnessesFile))); len(o.witnesses) == 0 && file != "" {
		o.witnesses = []string{file}
	}
	p.Now, p.MaxAge = time.Now(), o.age
	if p.ReleaseKeys, err = o.readReleaseKeys(client); err != nil {
		return p, err
	}
	if err := o.witnessPolicy(&p); err != nil {
		return p, err
	}
	for _, name := range o.checkpoints {
		signed, err := readKeysFile(name)
		if err != nil {
			return p, err
		}
		p.Copies = append(p.Copies, logaudit.Copy{Name: name, Signed: signed})
	}
	err = o.inUse(cmd, &p)
	return p, err
}

func (o *auditOptions) witnessPolicy(p *logaudit.Policy) error {
	all, err := o.readWitnesses()
	if err != nil {
		return err
	}
	for _, w := range all {
		p.Witnesses = append(p.Witnesses, w.Key)
	}
	if p.Quorum = o.quorum; p.Quorum == 0 {
		p.Quorum = len(all)
	}
	return nil
}

func (o *auditOptions) readReleaseKeys(client string) (keys []crypto.PublicKey, err error) {
	names := o.releaseKeys
	if len(names) == 0 {
		names = []string{first(os.Getenv("SHED_RELEASE_KEY"), filepath.Join(client, "release.pub"))}
	}
	for _, name := range names {
		key, err := readReleaseKey(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// auditResult is a report for programs.
type auditResult struct {
	logaudit.Head
	Releases  int `json:"releases"`
	Withdrawn int `json:"withdrawn"`
	Rotations int `json:"rotations"`
	// Witnessed says whether cosignatures were asked for.
	Witnessed bool               `json:"witnesses_checked"`
	Findings  []logaudit.Finding `json:"findings"`
}

func printReport(cmd *cobra.Command, r *logaudit.Report, witnessed bool) error {
	out := auditResult{Head: r.Head, Releases: len(r.Releases), Rotations: r.Rotations, Witnessed: witnessed, Findings: append([]logaudit.Finding{}, r.Findings...)}
	for _, one := range r.Releases {
		if one.Withdrawn {
			out.Withdrawn++
		}
	}
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	}
	var b strings.Builder
	for _, one := range r.Releases {
		mark := ""
		if one.Withdrawn {
			mark = ", withdrawn"
		}
		fmt.Fprintf(&b, "%6d  release %.16s  version %s, epoch %d, %s%s\n", one.Index, one.Manifest, one.Version, one.Epoch, one.Architecture, mark)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s\n", f.Problem, f.Reason)
	}
	if !witnessed {
		b.WriteString("witnesses: not asked for, none was named with --witness\n")
	}
	fmt.Fprintf(&b, "%s size %d: %d releases, %d withdrawn, %d rotations, %d findings\n",
		r.Head.Origin, r.Head.Size, out.Releases, out.Withdrawn, out.Rotations, len(r.Findings))
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}
