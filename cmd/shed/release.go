package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/imagebuild/sign"
	"github.com/toolshed-cloud/shed/orchestrator/api"
)

const releasesPath = "/v1/releases"

func newReleaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release",
		Short: "list, show and add the releases that machines are made from",
		Args:  cobra.NoArgs,
	}
	adminFlags(cmd)
	cmd.AddCommand(newReleaseListCommand(), newReleaseShowCommand(), newReleaseAddCommand())
	return cmd
}

func newReleaseListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list releases, the one for new machines marked",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			var all api.Releases
			if err := c.call(cmd.Context(), http.MethodGet, releasesPath, nil, &all); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "\tRELEASE\tVERSION\tEPOCH\tDISK")
			for _, r := range all.Releases {
				mark := ""
				if r.Default {
					mark = "*"
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", mark, r.Digest, r.Version, r.Epoch, r.DiskPath)
			}
			return t.Flush()
		},
	}
}

func newReleaseShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIGEST",
		Short: "show a release",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			var r api.Release
			if err := c.call(cmd.Context(), http.MethodGet, releasesPath+"/"+url.PathEscape(args[0]), nil, &r); err != nil {
				return err
			}
			return printRelease(cmd, r)
		},
	}
}

func printRelease(cmd *cobra.Command, r api.Release) error {
	return printResult(cmd, r, "release %s\nversion %s, epoch %d, disk of %d bytes at %s\n",
		r.Digest, r.Version, r.Epoch, r.DiskBytes, r.DiskPath)
}

func newReleaseAddCommand() *cobra.Command {
	var disk string
	cmd := &cobra.Command{
		Use:   "add DIR",
		Short: "add a signed release from the directory it was built in",
		Long: `add hands the manifest and its bundle to the control plane, which verifies
the signature, and tells it where the disk lies: that must be on its host.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			n, err := readRelease(args[0], disk)
			if err != nil {
				return err
			}
			var r api.Release
			if err := c.call(cmd.Context(), http.MethodPost, releasesPath, n, &r); err != nil {
				return err
			}
			return printRelease(cmd, r)
		},
	}
	cmd.Flags().StringVar(&disk, "disk", "", "the disk on the control plane's host (default DIR/disk.raw)")
	return cmd
}

func readRelease(dir, disk string) (n api.NewRelease, err error) {
	if n.Manifest, err = os.ReadFile(filepath.Join(dir, "manifest.json")); err != nil {
		return n, notFound(fmt.Errorf("reading the release: %w", err))
	}
	if n.Bundle, err = os.ReadFile(filepath.Join(dir, sign.BundleName)); err != nil {
		return n, hinted(notFound(fmt.Errorf("reading the release's signature: %w", err)), "`shed image sign` makes it")
	}
	if disk == "" {
		disk = filepath.Join(dir, "disk.raw")
	}
	if n.DiskPath, err = filepath.Abs(disk); err != nil {
		return n, fmt.Errorf("locating the disk: %w", err)
	}
	return n, nil
}
