package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// verifyOptions are what verify is to verify, and how.
type verifyOptions struct {
	client clientFlags
	save   string
	bundle string
	at     timeFlag
	raw    rawFlags
}

const verifyLong = `verify asks the machine at URL to prove what it runs and appraises the answer
against the signed release and what was accepted of the machine before. The
appraisal holds for this live connection alone. --save writes what it was made
from, also where the machine is refused.

--bundle judges such a file by the same policy, with no network: everything but
that the session was live, and how the attestation key was activated, which are
the saver's word. --at names the time to assume.

Evidence from elsewhere is checked with --snp-report and --certs (a file in PEM,
DER or as a certificate table, or a directory of such), --tdx-quote and
--collateral (as shed encodes it, or a directory with Intel's files),
--nitro-document, or --tpm-quote, --signature and --ak (as tpm2_quote and
tpm2_createak write them) with --event-log and --registers. Who vouches for the
quote's key --hcl-report shows on Azure, with --certs on AMD SEV-SNP or
--tdx-quote and --collateral on Intel TDX, and --ak-certs on Google's cloud, each
with --crl. What was verified is told from what a policy makes of it, which is
asked where --policy names one.

Exits with 4 where the machine, or the evidence, is refused.
`

func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify (URL | --bundle FILE | --snp-report FILE | --tdx-quote FILE | --nitro-document FILE | --tpm-quote FILE)",
		Short: "verify what a machine runs, before anything is sent to it",
		Long:  verifyLong + earHelp + clientHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE:  o.run,
	}
	o.client.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.save, "save", "", "write what was verified into this file, refused or not")
	flags.StringVar(&o.bundle, "bundle", "", "judge what --save wrote, with no network")
	flags.Var(&o.at, "at", "assume this time, RFC 3339; not for a live machine")
	o.raw.register(flags)
	registerEAR(flags)
	return cmd
}

func (o *verifyOptions) run(cmd *cobra.Command, args []string) error {
	kinds := o.raw.kinds()
	if o.bundle != "" {
		kinds = append(kinds, "--bundle")
	}
	live := len(args) == 1
	if live {
		kinds = append(kinds, theMachine)
	}
	if len(kinds) != 1 {
		return cli.Hinted(cli.Usage(errors.New("want one thing to verify: a machine's url, a bundle or one piece of evidence")), "shed verify --help lists them")
	}
	if err := checkFlags(cmd, kinds[0]); err != nil {
		return err
	}
	switch {
	case live && !o.at.IsZero():
		return cli.Usage(errors.New("a live machine is judged at this time: --at is for what was saved"))
	case !live && wantsEAR(cmd):
		return cli.Usage(errors.New("--ear is for a live machine: a result says that its session was"))
	case !live && o.save != "":
		return cli.Usage(errors.New("--save is for a live machine"))
	case o.bundle != "":
		return o.verifyBundle(cmd)
	case !live:
		return o.verifyRaw(cmd)
	}
	return o.client.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) error {
		c.save(o.save)
		return c.verify(ctx, cmd)
	})(cmd, args)
}

func (c *relyingParty) verify(ctx context.Context, cmd *cobra.Command) error {
	session, err := c.session(ctx, cmd)
	if err != nil {
		return err
	}
	defer session.Close()
	found := claimsOf(c.machine.String(), session.Result, session.Evidence, session.VerifiedAt).running(session.Release)
	if found.Owner, err = c.whose(ctx, session); err != nil {
		return err
	}
	return errors.Join(c.show(cmd, found, session.Evidence), c.remember(ctx, session))
}

// timeFlag is a time as RFC 3339 has it.
type timeFlag struct{ time.Time }

// Set reads it.
func (f *timeFlag) Set(text string) (err error) {
	if f.Time, err = time.Parse(time.RFC3339, text); err != nil || f.IsZero() {
		return fmt.Errorf("%q: want a time such as 2026-01-31T12:00:00Z", text)
	}
	return nil
}

// Type names it in the help.
func (*timeFlag) Type() string { return "time" }

func (f *timeFlag) String() string {
	if f.IsZero() {
		return ""
	}
	return f.Format(time.RFC3339)
}

// writeAppraisal is the table for people: a line per dimension with its reason,
// which a terminal gets folded.
func writeAppraisal(w io.Writer, a attest.AttestationResult) error {
	dimension, verdict := 0, 0
	for _, d := range attest.Dimensions {
		f := a.Finding(d)
		dimension, verdict = max(dimension, len(fmt.Sprint(f.Dimension))), max(verdict, len(fmt.Sprint(f.Verdict)))
	}
	for _, d := range attest.Dimensions {
		f := a.Finding(d)
		head := fmt.Sprintf("%-*s  %-*s  ", dimension, f.Dimension, verdict, f.Verdict)
		if _, err := fmt.Fprintf(w, "%s%s\n", head, cli.Fold(f.Reason, len(head), cli.Width(w))); err != nil {
			return fmt.Errorf("writing appraisal: %w", err)
		}
	}
	outcome := "accepted"
	if !a.Accepted() {
		outcome = "refused"
	}
	_, err := fmt.Fprintf(w, "tiers: memory %s, identity %s, storage %s; transparency: %s\n%s\n",
		a.Tiers.Memory, a.Tiers.Identity, a.Tiers.Storage, a.Transparency, outcome)
	return err
}
