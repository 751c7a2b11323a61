package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// newImageCommand groups what makes and signs releases.
func newImageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "build and sign the image that machines boot",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newImageBuildCommand(), newImageLockCommand(), newImageConvertCommand(), newImagePushCommand(), newImagePullCommand(), newImageSignCommand(), newImageKeygenCommand(), newImageKeysCommand(), newImageEntryCommand())
	return cmd
}

func newImageBuildCommand() *cobra.Command {
	var o imagebuild.Options
	var shapes []string
	var lockFile, sourceDir string
	var server payloadFlags
	cmd := &cobra.Command{
		Use:   "build --output DIR",
		Short: "make disk.raw, uki.efi and manifest.json; the same lock gives the same bytes",
		Long:  imageBuildLong,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			steps := newStepBar(cmd, time.Now)
			o.Progress = steps.begin
			for _, text := range shapes {
				shape, err := board.ParseShape(text)
				if err != nil {
					return cli.Usage(err)
				}
				o.Shapes = append(o.Shapes, shape)
			}
			if err := server.set(cmd.Flags(), &o); err != nil {
				return cli.Usage(err)
			}
			var err error
			if o.Lock, err = readLock(lockFile); err != nil {
				return explainLock(err)
			}
			if err := checkPrograms(o); err != nil {
				return err
			}
			o.Source = sourceOf(sourceDir)
			m, err := imagebuild.Build(cmd.Context(), o)
			steps.end()
			if err != nil {
				return explainLock(err)
			}
			encoded, err := m.Encode()
			if err != nil {
				return err
			}
			return printImage(cmd, o.Output, m, encoded)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.Output, "output", "o", "", "directory to write to")
	flags.StringVar(&o.Version, "version", "0.0.0-dev", "semantic version of the release")
	flags.Uint64Var(&o.Epoch, "epoch", 1, "security counter: clients refuse lower ones than they have seen")
	flags.StringVar(&o.Architecture, "arch", board.AMD64, "architecture of the machines, amd64 or arm64; --agent and --toolshed are programs for it")
	flags.StringVar(&o.Agent, "agent", "bin/shed-agent", "program that becomes /init")
	flags.StringVar(&o.Toolshed, "toolshed", "bin/toolshed", "program that is the toolshed")
	flags.StringVar(&lockFile, "lock", cmp.Or(os.Getenv(lockVariable), builtInLock), "lock file as shed image lock writes it, or as a release carries it; empty takes what Debian and this host have now; "+lockVariable+" is another default")
	flags.StringVar(&sourceDir, "source", "", "directory of the source that --agent and --toolshed were built from (default the working directory, where that is it)")
	flags.StringVar(&o.Cache, "cache", ".cache/image", "directory that keeps packages")
	flags.StringVar(&o.Archive, "archive", "", "directory that gets every input under its SHA-256, for release rebuild; packages that are there are taken from it")
	flags.StringVar(&o.KernelPackage, "kernel-package", "", "kernel package file, where it is not to be fetched")
	flags.StringSliceVar(&shapes, "shapes", []string{"2x1024MiB"}, "machines that the release brings its own firmware for; empty leaves it to a cloud")
	flags.StringVar(&o.FirmwarePackage, "firmware-package", "", "firmware package file, where it is not to be fetched")
	flags.StringVar(&o.Stub, "stub", "", "systemd-stub to start from, where it is not to be fetched")
	flags.IntVar(&o.StubVersion, "stub-version", 0, "version of a --stub that does not say it, as those for arm64")
	flags.StringVar(&o.SecureBootKeys, "secure-boot-keys", "", "directory as shed image keys makes it: machines of the release have Secure Boot on by these keys")
	flags.StringVar(&o.SecureBootKeysBefore, "secure-boot-keys-before", "", "such a directory as running machines have it, with another db or dbx: they change that in place once they run the release")
	server.register(flags)
	cobra.CheckErr(cmd.MarkFlagRequired("output"))
	cli.MayBeEmpty(cmd, "lock", "shapes")
	return cmd
}

// checkPrograms wants the programs that the machines run where the flags, or their
// defaults, say that they are.
func checkPrograms(o imagebuild.Options) error {
	for _, program := range []struct{ flag, file string }{{"--agent", o.Agent}, {"--toolshed", o.Toolshed}} {
		if program.flag == "--toolshed" && o.Payload != nil {
			continue
		}
		if _, err := os.Stat(program.file); errors.Is(err, fs.ErrNotExist) {
			return cli.Hinted(cli.NotFound(fmt.Errorf("%s: %w", program.flag, err)), "make build, in shed's source, makes bin/shed-agent and bin/toolshed")
		}
	}
	return nil
}

// lockVariable names another lock than the built-in one.
const lockVariable = "SHED_IMAGE_LOCK"

// explainBuild adds what a person can do about it.
func explainBuild(err error) error {
	var missing *imagebuild.MissingError
	if explained := explainPayload(err); explained != nil {
		return explained
	}
	switch {
	case errors.As(err, &missing):
		return cli.Hinted(err, "apt-get install %s", missing.Package)
	case errors.Is(err, imagebuild.ErrOptions):
		return cli.Usage(err)
	case errors.Is(err, debian.ErrSuperseded):
		return cli.Hinted(cli.NotFound(err), "--archive names the archive of a release that has it; shed image lock FILE takes what Debian has now")
	case errors.Is(err, debian.ErrLists):
		return cli.Hinted(err, "apt-get update, or name a package file with --kernel-package or --firmware-package")
	case errors.Is(err, debian.ErrDownload):
		return cli.Hinted(err, "check the network, or name a package file with --kernel-package or --firmware-package")
	case errors.Is(err, exec.ErrNotFound):
		return cli.Hinted(err, "the image is built on Debian, with apt and dpkg")
	}
	return err
}
