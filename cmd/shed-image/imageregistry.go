package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild/oci"
)

const imagePushLong = `push sends a signed release to a registry, as an OCI 1.1 artifact of the type
` + oci.ArtifactType + `: manifest, disk (compressed with
zstd), uki.efi, firmware, SBOM, provenance and lock, one layer a file. Its
signature is an artifact that refers to it (a Sigstore bundle, as cosign has
them). What the registry has already is not sent again, so a push that broke off
is run again.

REF is a repository with a tag, such as registry.example/team/shed:1.2.3. Sign in
with docker login or oras login: their configuration is read.

Other clients see the same: oras discover REF, oras pull REF.`

const imagePullLong = `pull fetches a release into DIR, as shed image build and sign left it. The
signature comes first and has to verify by KEY, the public release key; then each
file has to be what the signed manifest states, or nothing of it is kept. The
registry is trusted in nothing: a redirect to this machine, to link-local or to
metadata addresses is refused, and more bytes than were signed are not read. What
another release left in DIR is removed once the signature has verified.

What came of a pull that broke off is kept in DIR/.pull, and the same command
goes on from there. Then: shed release add DIR.

Exits with 3 where there is no such release, and with 4 where it is not signed by
KEY or not what was signed.`

func newImagePushCommand() *cobra.Command {
	var o oci.Options
	cmd := &cobra.Command{
		Use:   "push REF DIR",
		Short: "send a signed release to a registry, with its signature",
		Long:  imagePushLong,
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			bars := newTransferBars(cmd)
			o.Reference, o.Progress = args[0], bars.tell
			digest, err := oci.Push(cmd.Context(), o, args[1])
			bars.end()
			if err != nil {
				return explainRegistry(err, "build and sign the release first: shed image build --output DIR, shed image sign --key KEY DIR")
			}
			return cli.PrintResult(cmd, struct {
				Reference string `json:"reference"`
				Artifact  string `json:"artifact"`
			}{o.Reference, digest}, "pushed %s\n%s\n", o.Reference, digest)
		},
	}
	addRegistryFlags(cmd, &o)
	return cmd
}

func newImagePullCommand() *cobra.Command {
	var o oci.Options
	var key, output string
	cmd := &cobra.Command{
		Use:   "pull REF --key KEY.pub --output DIR",
		Short: "fetch a release from a registry and verify it",
		Long:  imagePullLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(key)
			if errors.Is(err, fs.ErrNotExist) {
				return cli.NotFound(fmt.Errorf("reading the public key: %w", err))
			}
			if err != nil {
				return fmt.Errorf("reading the public key: %w", err)
			}
			public, err := release.ParsePublicKey(text)
			if err != nil {
				return cli.Usage(fmt.Errorf("reading %s: %w", key, err))
			}
			bars := newTransferBars(cmd)
			o.Reference, o.Progress = args[0], bars.tell
			p, err := oci.Pull(cmd.Context(), o, public, output)
			bars.end()
			if err != nil {
				return explainRegistry(err, "shed image push puts one there")
			}
			return cli.PrintResult(cmd, struct {
				Output   string               `json:"output"`
				Release  attest.ReleaseDigest `json:"release"`
				Version  string               `json:"version"`
				Epoch    uint64               `json:"epoch"`
				Artifact string               `json:"artifact"`
			}{output, p.Release, p.Manifest.Version, p.Manifest.Epoch, p.Artifact},
				"release %s\nversion %s, epoch %d, verified by %s, in %s\n", p.Release, p.Manifest.Version, p.Manifest.Epoch, key, output)
		},
	}
	addRegistryFlags(cmd, &o)
	cmd.Flags().StringVar(&key, "key", "", "public release key, PEM")
	cmd.Flags().StringVarP(&output, "output", "o", "", "directory to write to")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	cobra.CheckErr(cmd.MarkFlagRequired("output"))
	return cmd
}

func addRegistryFlags(cmd *cobra.Command, o *oci.Options) {
	cmd.Flags().BoolVar(&o.PlainHTTP, "plain-http", false, "the registry has no TLS")
}

// explainRegistry gives an error its exit code and what can be done about it;
// absent is for what is not there.
func explainRegistry(err error, absent string) error {
	switch {
	case errors.Is(err, oci.ErrReference):
		return cli.Hinted(cli.Usage(err), "a repository with a tag: registry.example/shed:1.2.3")
	case errors.Is(err, oci.ErrUnsigned), errors.Is(err, oci.ErrTampered), errors.Is(err, oci.ErrArtifact), errors.Is(err, attest.ErrRelease):
		return cli.Refused(err)
	case errors.Is(err, oci.ErrDestination):
		return cli.Hinted(cli.Refused(err), "registries redirect to where their files are: this one to an address of this machine's or of a cloud's metadata")
	case errors.Is(err, http.ErrSchemeMismatch):
		return cli.Hinted(err, "a registry without TLS, as on this machine, is named with --plain-http")
	case errors.Is(err, syscall.ENOSPC):
		return cli.Hinted(cli.Failed(err), "make room and run it again: it goes on where it broke off")
	case errors.Is(err, oci.ErrIncomplete):
		return cli.Hinted(cli.Unreachable(err), "run it again: it goes on where it broke off")
	case errors.Is(err, errdef.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return cli.Hinted(cli.NotFound(err), "%s", absent)
	}
	return err
}
