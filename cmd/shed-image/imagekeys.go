package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

const imageKeysLong = `keys makes the keys with which firmware tells your images from others, in DIR:
PK, who owns the machine, KEK, who may change the lists, and db, whose signature
an image needs. Each has NAME.key, for nobody else to read, NAME.crt and NAME.esl.
Those that are there stay as they are, and none is ever overwritten: for another
db under the same owner, move db.key, db.crt and db.esl away and run it again.

  shed image build --secure-boot-keys DIR --output RELEASE
  shed image sign --secure-boot-keys DIR --key KEY RELEASE

build needs the .esl files alone, and sign db.key and those. Keep PK.key and
KEK.key apart, offline: nothing here asks for PK.key, and for KEK.key only the
signing of a release that changes db or dbx on machines that run.

--revoke IMAGE adds the hash of an EFI program to dbx.esl: releases that are
built from then on have machines refuse it, whoever signed it. --trust CERT adds
a certificate to db.esl, and --distrust CERT takes one out; of several db.crt is
the one that images are signed by, and db.key its key.

Another db or dbx is another register 7. New machines of a release have the lists
that it was built with. For machines that run, keep a copy of the directory from
before, change one of the two lists, and build with both and a higher epoch:

  shed image build --secure-boot-keys DIR --secure-boot-keys-before OLD --output RELEASE

They are updated to the release as to any other, and change the list once it is
offered to them again and their owners approve that too. There is no way back.`

func newImageKeysCommand() *cobra.Command {
	var change keysChange
	cmd := &cobra.Command{
		Use:   "keys DIR",
		Short: "make the keys of Secure Boot: PK, KEK and db",
		Long:  imageKeysLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := change.check(); err != nil {
				return explainKeys(err)
			}
			made, err := secureboot.Generate(rand.Reader, args[0])
			if err == nil {
				err = change.make(args[0])
			}
			if err != nil {
				return explainKeys(err)
			}
			return printKeys(cmd, args[0], made, change)
		},
	}
	cmd.Flags().StringSliceVar(&change.revoke, "revoke", nil, "EFI programs whose hashes are added to dbx.esl")
	cmd.Flags().StringSliceVar(&change.trust, "trust", nil, "certificates, PEM, that are added to db.esl")
	cmd.Flags().StringSliceVar(&change.distrust, "distrust", nil, "certificates, PEM, that are taken out of db.esl")
	return cmd
}

// keysChange is what a directory of keys is to have besides, by the names of files.
type keysChange struct{ revoke, trust, distrust []string }

// check wants all files to be what they are named for, before the first changes
// anything.
func (c keysChange) check() error {
	for _, name := range c.revoke {
		image, err := readProgram(name)
		if err == nil {
			err = uki.Authenticode(image, sha256.New())
		}
		if err != nil {
			return fmt.Errorf("reading the image to revoke: %w", err)
		}
	}
	for _, name := range slices.Concat(c.trust, c.distrust) {
		if err := secureboot.CheckCertificate(name); err != nil {
			return err
		}
	}
	for _, name := range c.trust {
		if slices.Contains(c.distrust, name) {
			return cli.Usage(fmt.Errorf("%s is both to be trusted and distrusted", name))
		}
	}
	return nil
}

func (c keysChange) make(dir string) error {
	for _, step := range []struct {
		names []string
		do    func(dir, name string) error
	}{{c.revoke, revokeImage}, {c.trust, secureboot.Trust}, {c.distrust, secureboot.Distrust}} {
		for _, name := range step.names {
			if err := step.do(dir, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxProgram is above every image that a disk of ours holds.
const maxProgram = 288 << 20

func readProgram(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && info.Size() > maxProgram {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", uki.ErrFormat, name, info.Size(), maxProgram)
	}
	return os.ReadFile(name)
}

func revokeImage(dir, name string) error {
	image, err := readProgram(name)
	if err != nil {
		return fmt.Errorf("reading the image to revoke: %w", err)
	}
	return secureboot.Revoke(dir, image)
}

func explainKeys(err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return cli.Hinted(err, "a key is never overwritten, and this one's .key is missing: put it back, or move its .crt and .esl away")
	case errors.Is(err, fs.ErrNotExist):
		return cli.NotFound(err)
	case errors.Is(err, uki.ErrFormat):
		return cli.Usage(err)
	}
	return err
}

func printKeys(cmd *cobra.Command, dir string, made []string, c keysChange) error {
	if made == nil {
		made = []string{}
	}
	if c.revoke == nil {
		c.revoke = []string{}
	}
	text := "all keys were there already"
	if len(made) > 0 {
		text = "made " + strings.Join(made, ", ")
	}
	for _, done := range []struct {
		what  string
		names []string
	}{{"revoked", c.revoke}, {"trusted", c.trust}, {"distrusted", c.distrust}} {
		if len(done.names) > 0 {
			text += ", and " + done.what + " " + strings.Join(done.names, ", ")
		}
	}
	return cli.PrintResult(cmd, struct {
		Keys       string   `json:"keys"`
		Made       []string `json:"made"`
		Revoked    []string `json:"revoked"`
		Trusted    []string `json:"trusted,omitempty"`
		Distrusted []string `json:"distrusted,omitempty"`
	}{dir, made, c.revoke, c.trust, c.distrust}, "%s: %s\n", filepath.Clean(dir), text)
}
