package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
)

const rebuildLong = `rebuild makes a release again from the archive that image build --archive filled,
and says whether it is bit for bit the same. RELEASE is a directory with
manifest.json and the files beside it, or a manifest alone, of which only
digests can then be compared.

Each input is checked against its digest in the manifest first: one that is
missing or changed is named, and nothing is built. A difference is named by
file, part of it, the first byte that differs, and the input that this part is
made from; where it names none, the part is made by this program, which has to
be the version that made the release. The registers of a release's own firmware
are measured again where QEMU here is the one that they were measured with, and
are the manifest's word otherwise; the result says which. No signature is looked
at.

--source names a directory with the source: its digest is compared with the
release's lock, and the programs that it makes, by the lock's Go, with those in
the release.

Exits with 3 where an input is missing, and with 4 where one has changed or the
release is not the same.`

// newReleaseCommand has what of shed release needs the image builder.
func newReleaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "release", Short: "rebuild releases", Args: cobra.NoArgs}
	cmd.AddCommand(newReleaseRebuildCommand())
	return cmd
}

func newReleaseRebuildCommand() *cobra.Command {
	var o imagebuild.RebuildOptions
	cmd := &cobra.Command{
		Use:   "rebuild RELEASE --inputs DIR",
		Short: "rebuild a release from its archived inputs and say whether it is the same",
		Long:  rebuildLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Release = args[0]
			return rebuildRelease(cmd, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Inputs, "inputs", "", "archive of inputs, as image build --archive fills it")
	flags.StringVar(&o.Source, "source", "", "directory of shed's source: also build the release's programs from it and compare them")
	flags.StringVarP(&o.Output, "output", "o", "", "directory to keep the rebuilt release in (default none is kept)")
	flags.StringVar(&o.Cache, "cache", ".cache/image", "directory that keeps what a firmware was seen to measure")
	cobra.CheckErr(cmd.MarkFlagRequired("inputs"))
	return cmd
}

func rebuildRelease(cmd *cobra.Command, o imagebuild.RebuildOptions) error {
	if o.Output == "" {
		dir, err := os.MkdirTemp("", "shed-rebuild-")
		if err != nil {
			return fmt.Errorf("making a directory for the rebuilt release: %w", err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // it is the system's to clean up then
		o.Output = dir
	}
	steps := newStepBar(cmd, time.Now)
	o.Progress = steps.begin
	r, err := imagebuild.Rebuild(cmd.Context(), o)
	steps.end()
	if err != nil {
		return explainRebuild(err)
	}
	if err := printRebuilt(cmd, r); err != nil {
		return err
	}
	if !r.Same {
		return cli.Refused(fmt.Errorf("release %s is not what its inputs make: %d differences", r.Release, len(r.Differences)))
	}
	return nil
}

func explainRebuild(err error) error {
	var wrong *imagebuild.InputsError
	switch {
	case errors.As(err, &wrong) && len(wrong.Changed) > 0:
		return cli.Refused(err)
	case errors.As(err, &wrong):
		return cli.Hinted(cli.NotFound(err), "shed image build --archive DIR keeps them")
	case errors.Is(err, fs.ErrNotExist):
		return cli.NotFound(err)
	}
	return explainBuild(err)
}

func printRebuilt(cmd *cobra.Command, r *imagebuild.Rebuilt) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	var b strings.Builder
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "%s: %s", d.File, d.Where)
		if d.Offset >= 0 {
			fmt.Fprintf(&b, ", first at byte %d of the file", d.Offset)
		}
		if d.Input != "" {
			fmt.Fprintf(&b, ", made from %s", d.Input)
		}
		b.WriteString("\n")
	}
	if r.NotMeasured != "" {
		fmt.Fprintf(&b, "registers 0 and 1 of its firmware are the manifest's word: %s\n", r.NotMeasured)
	}
	if r.FromSource {
		b.WriteString("its programs were built from source and compared\n")
	}
	verdict := "the same, bit for bit"
	if !r.Same {
		verdict = "not the same"
	}
	fmt.Fprintf(&b, "release %s\nrebuilt %s\n%s; compared beside their digests: %s\n", r.Release, r.Rebuilt, verdict, strings.Join(append(r.Compared, "manifest.json"), ", "))
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}
