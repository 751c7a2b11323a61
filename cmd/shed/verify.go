package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newVerifyCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "verify URL",
		Short: "verify what a machine runs, before anything is sent to it",
		Long: `verify asks the machine at URL to prove what it runs and appraises the answer
against the signed release and what was accepted of the machine before. The
appraisal holds for this live connection alone.
` + clientHelp + `

Exits with 4 where the machine is refused.`,
		Args: cobra.ExactArgs(1),
		RunE: flags.run((*relyingParty).verify),
	}
	flags.register(cmd)
	return cmd
}

func (c *relyingParty) verify(ctx context.Context, cmd *cobra.Command) error {
	session, err := c.session(ctx, cmd)
	if err != nil {
		return err
	}
	defer session.Close()
	return errors.Join(c.showVerified(ctx, cmd, session), c.remember(session))
}

func showResult(cmd *cobra.Command, a attest.AttestationResult) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(a)
	}
	return writeAppraisal(cmd.OutOrStdout(), a)
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
