package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/sign"

	// The services whose key URIs work without a plugin (docs/decisions/0012).
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

// passwordVariable holds the password of an encrypted release key.
const passwordVariable = "SHED_KEY_PASSWORD"

const imageSignLong = `A release that was built with Secure Boot's keys is signed twice. First, with
--secure-boot-keys, its image by db.key: uki.efi and disk.raw get the signature,
which stands beside them as uki.efi.p7 and as an input in the manifest, so that
shed release rebuild attaches it again. The same image and key give the same
bytes. A release that was built with --secure-boot-keys-before needs KEK.key there
too: it signs the change of db or dbx, secure-boot.auth, for machines that run.

Then, always, manifest.json in DIR is signed, and manifest.json.sigstore.json,
trusted_root.json and release.entry are written beside it. The last is what the transparency
log of a control plane is to say of the release (shed release add takes it
there). Anybody can check the signature without a network:

  cosign verify-blob --key KEY.pub --bundle manifest.json.sigstore.json \
    --new-bundle-format --trusted-root trusted_root.json \
    --insecure-ignore-tlog manifest.json

KEY is a PEM file with an ECDSA P-256 or Ed25519 key, or the URI of such a key
at a service: awskms://, gcpkms://, azurekms://, hashivault://, or any that a
sigstore-kms-NAME plugin serves. SHED_KEY_PASSWORD is the password of an
encrypted key file.`

// newImageSignCommand signs a release that was built.
func newImageSignCommand() *cobra.Command {
	var ref, public, secureBoot, archive string
	var generate bool
	cmd := &cobra.Command{
		Use:   "sign --key KEY DIR",
		Short: "sign a built release as a bundle that cosign accepts offline",
		Long:  imageSignLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cli.RefuseEmpty(cmd.Flags(), "key", "public-key", "secure-boot-keys", "archive"); err != nil {
				return err
			}
			if generate {
				if err := sign.Generate(rand.Reader, ref); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
			}
			key, err := sign.Load(cmd.Context(), ref, keyPassword)
			if err != nil {
				return explainKey(err, ref)
			}
			if secureBoot != "" {
				if err := signForSecureBoot(args[0], secureBoot, archive); err != nil {
					return err
				}
			}
			digest, err := sign.Release(cmd.Context(), args[0], key)
			if err != nil {
				return explainSign(err)
			}
			if public != "" {
				if err := os.WriteFile(public, key.Public(), 0o644); err != nil {
					return fmt.Errorf("writing public key: %w", err)
				}
			}
			return printSigned(cmd, digest)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&ref, "key", "", "release key: a PEM file or a key URI")
	flags.StringVar(&public, "public-key", "", "also write the public key to this file")
	flags.StringVar(&secureBoot, "secure-boot-keys", "", "directory with db.key, as shed image keys makes it, and KEK.key where db or dbx is changed: also signs the image for Secure Boot")
	flags.StringVar(&archive, "archive", "", "directory that also gets the image's signature, as image build's --archive does its inputs")
	flags.BoolVar(&generate, "generate-key", false, "make the key file, and .pub beside it, where there is none")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	return cmd
}

func newImageKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen KEY",
		Short: "make a release key: KEY, for nobody else to read, and KEY.pub",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := sign.Generate(rand.Reader, args[0])
			if errors.Is(err, fs.ErrExist) {
				return cli.Hinted(err, "a key is never overwritten: name another file")
			}
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, struct {
				Key       string `json:"key"`
				PublicKey string `json:"public_key"`
			}{args[0], args[0] + ".pub"}, "release key %s, public key %s.pub\n", args[0], args[0])
		},
	}
}

func keyPassword() (string, error) {
	password, ok := os.LookupEnv(passwordVariable)
	if !ok {
		return "", fmt.Errorf("the key is encrypted and %s is not set", passwordVariable)
	}
	return password, nil
}

func explainKey(err error, ref string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Hinted(cli.NotFound(err), "make one with: shed image keygen %s", ref)
	case errors.Is(err, sign.ErrKey):
		return cli.Hinted(err, "a release key is ECDSA P-256 or Ed25519, PEM, as shed image keygen makes it")
	}
	return err
}

func signForSecureBoot(dir, keys, archive string) error {
	signer, err := secureboot.ReadSigner(keys)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Hinted(cli.NotFound(err), "make them with: shed image keys %s", keys)
	}
	if err != nil {
		return err
	}
	exchange, err := secureboot.ReadExchange(keys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return explainSign(imagebuild.SignImage(dir, archive, signer, exchange))
}

func explainSign(err error) error {
	if errors.Is(err, imagebuild.ErrSigning) {
		return cli.Hinted(err, "build and sign with the same keys: shed image build --secure-boot-keys KEYS, shed image sign --secure-boot-keys KEYS")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Hinted(cli.NotFound(err), "build the release first: shed image build --output DIR")
	}
	return err
}

func printSigned(cmd *cobra.Command, digest attest.ReleaseDigest) error {
	return cli.PrintResult(cmd, struct {
		Release attest.ReleaseDigest `json:"release"`
		Bundle  string               `json:"bundle"`
	}{digest, sign.BundleName}, "signed release %s\n", digest)
}
