package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

// entryOptions are what an entry for the log is to say.
type entryOptions struct {
	key, withdraw, reason, rotate, output string
}

func newImageEntryCommand() *cobra.Command {
	var o entryOptions
	cmd := &cobra.Command{
		Use:   "entry --key KEY (--withdraw DIGEST --reason REASON | --rotate NEW.pub) --output FILE",
		Short: "sign a withdrawal or a rotation for the transparency log",
		Long: `entry signs, with any key that sign takes, what shed release withdraw and shed
release rotate sign with a key in a plain file: that a release is withdrawn, or
that NEW.pub takes the place of KEY. shed log add FILE puts it into the log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.key, "key", "", "release key: a PEM file or a key URI")
	flags.StringVar(&o.withdraw, "withdraw", "", "digest of the release to withdraw")
	flags.StringVar(&o.reason, "reason", "", "why: vulnerable, compromised, faulty or superseded")
	flags.StringVar(&o.rotate, "rotate", "", "public key that takes the key's place, PEM")
	flags.StringVar(&o.output, "output", "", "where to write the entry")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	cobra.CheckErr(cmd.MarkFlagRequired("output"))
	cmd.MarkFlagsMutuallyExclusive("withdraw", "rotate")
	cmd.MarkFlagsOneRequired("withdraw", "rotate")
	cmd.MarkFlagsRequiredTogether("withdraw", "reason")
	return cmd
}

func (o *entryOptions) run(cmd *cobra.Command) error {
	body, err := o.body()
	if err != nil {
		return err
	}
	key, err := sign.Load(cmd.Context(), o.key, keyPassword)
	if err != nil {
		return explainKey(err, o.key)
	}
	if body.Rotation != nil {
		body.Rotation.Old = key.DER()
	}
	entry, err := key.Entry(cmd.Context(), body)
	if err != nil {
		return err
	}
	if err := statefile.Write(o.output, 0o644, entry); err != nil {
		return err
	}
	return cli.PrintResult(cmd, struct {
		Kind  string `json:"kind"`
		Entry string `json:"entry"`
	}{body.Kind.String(), o.output}, "%s written to %s\n", body.Kind, o.output)
}

// body is the statement, but for the key that signs it.
func (o *entryOptions) body() (b logentry.Body, err error) {
	if o.rotate != "" {
		next, err := readPublic(o.rotate)
		return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, New: next}}, err
	}
	digest, err := attest.ParseReleaseDigest(o.withdraw)
	if err != nil {
		return b, cli.Usage(fmt.Errorf("release %q: %w", o.withdraw, err))
	}
	why, err := logentry.ParseReason(o.reason)
	if err != nil {
		return b, cli.Usage(err)
	}
	return logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: digest, Reason: why}}, nil
}

func readPublic(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.NotFound(fmt.Errorf("reading the public key: %w", err))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	key, err := release.ParsePublicKey(text)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("reading %s: %w", name, err))
	}
	return logentry.MarshalKey(key)
}
