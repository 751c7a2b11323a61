package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// The files of a signed release, as `shed image` leaves them in its directory.
const (
	manifestFile = "manifest.json"
	bundleFile   = "manifest.json.sigstore.json"
	entryFile    = "release.entry"
	diskFile     = "disk.raw"
)

func newReleaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release",
		Short: "list, show, add and offer the releases that machines are made from",
	}
	adminFlags(cmd)
	cmd.AddCommand(newReleaseListCommand(), newReleaseShowCommand(), newReleaseAddCommand(), newReleaseOfferCommand(),
		newReleaseWithdrawCommand(), newReleaseRotateCommand(), newReleaseAuditCommand(),
		newPart("rebuild", "shed-image", "rebuild a release from its archived inputs and say whether it is the same"))
	return cmd
}

func newReleaseListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list releases, the one for new machines and those withdrawn marked",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			all, err := c.Releases(cmd.Context())
			if err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(adminclient.Releases{Releases: all})
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "\tRELEASE\tVERSION\tEPOCH\tDISK")
			for _, r := range all {
				mark := ""
				switch {
				case r.Default:
					mark = "*"
				case r.Withdrawn:
					mark = "withdrawn"
				}
				fmt.Fprintf(t, "%s\t%.16s\t%s\t%d\t%s\n", mark, r.Digest, r.Version, r.Epoch, r.DiskPath)
			}
			return t.Flush()
		}),
	}
}

func newReleaseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIGEST",
		Short: "show a release, by its digest or a beginning of it that no other has",
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			r, err := c.FindRelease(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printRelease(cmd, r)
		}),
	}
}

func printRelease(cmd *cobra.Command, r adminclient.Release) error {
	more := ""
	if r.Withdrawn {
		more = "withdrawn: nothing new is made from it\n"
	}
	if r.SecureBootChange != "" {
		more += fmt.Sprintf("changes Secure Boot's %s, once it is offered to the machines that run it\n", r.SecureBootChange)
	}
	return cli.PrintResult(cmd, r, "release %s\nversion %s, epoch %d, disk of %d bytes at %s\n%s",
		r.Digest, r.Version, r.Epoch, r.DiskBytes, r.DiskPath, more)
}

func newReleaseAddCommand() *cobra.Command {
	var disk string
	cmd := &cobra.Command{
		Use:   "add DIR",
		Short: "add a signed release from the directory it was built in",
		Long: `add hands the manifest and its bundle to the control plane, which verifies
the signature, and tells it where the disk lies: that must be on its host. Where
the control plane runs a transparency log, release.entry goes there, and the
release is added once enough witnesses have cosigned it.`,
		Args: cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			n, err := readRelease(args[0], disk)
			if err != nil {
				return err
			}
			r, err := c.AddRelease(cmd.Context(), n)
			if err != nil {
				return err
			}
			return printRelease(cmd, r)
		}),
	}
	cmd.Flags().StringVar(&disk, "disk", "", "the disk on the control plane's host, with its firmware beside it (default DIR/disk.raw)")
	return cmd
}

func readRelease(dir, disk string) (n adminclient.NewRelease, err error) {
	if n.Manifest, err = readCapped(filepath.Join(dir, manifestFile), release.MaxManifestBytes); err != nil {
		return n, fmt.Errorf("reading the release: %w", err)
	}
	if n.Bundle, err = readCapped(filepath.Join(dir, bundleFile), release.MaxBundleBytes); err != nil {
		return n, cli.Hinted(fmt.Errorf("reading the release's signature: %w", err), "`shed image sign` makes it")
	}
	// Where there is no log none is needed.
	if n.Entry, err = readCapped(filepath.Join(dir, entryFile), logentry.MaxBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, fmt.Errorf("reading the release's log entry: %w", err)
	}
	if disk == "" {
		disk = filepath.Join(dir, diskFile)
	}
	if n.DiskPath, err = filepath.Abs(disk); err != nil {
		return n, fmt.Errorf("locating the disk: %w", err)
	}
	return n, nil
}
