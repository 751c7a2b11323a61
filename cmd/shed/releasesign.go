package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

const keyFlag = "key"

// keyHelp says what --key is, and what to do where it is something else.
const keyHelp = `
KEY is a PEM file with the private key, ECDSA P-256 or Ed25519, without a
password. For a key at a service or with a password, shed image entry signs, and
shed log add puts what it signed into the log.`

// readSigner reads a private release key and what signs with it.
func readSigner(name string) (public crypto.PublicKey, sign func([]byte) ([]byte, error), err error) {
	text, err := readCapped(name, maxKeysFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the release key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, nil, cli.Usage(fmt.Errorf("%s holds no PEM PRIVATE KEY", name))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, cli.Usage(fmt.Errorf("reading %s: %w", name, err))
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if key.Curve != elliptic.P256() {
			break
		}
		return key.Public(), func(message []byte) ([]byte, error) {
			hash := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, key, hash[:])
		}, nil
	case ed25519.PrivateKey:
		return key.Public(), func(message []byte) ([]byte, error) { return ed25519.Sign(key, message), nil }, nil
	}
	return nil, nil, cli.Usage(fmt.Errorf("%s holds a %T, want ECDSA P-256 or Ed25519", name, key))
}

// signEntry signs a statement with the key in a file.
func signEntry(name string, body func(public []byte) (logentry.Body, error)) ([]byte, error) {
	public, sign, err := readSigner(name)
	if err != nil {
		return nil, err
	}
	der, err := logentry.MarshalKey(public)
	if err != nil {
		return nil, err
	}
	b, err := body(der)
	if err != nil {
		return nil, err
	}
	e, err := logentry.Sign(b, der, sign)
	if err != nil {
		return nil, err
	}
	return e.Encode()
}

// sendEntry hands an entry to the log and says where it stands.
func sendEntry(cmd *cobra.Command, c *adminclient.Client, entry []byte) error {
	added, err := c.AddLogEntry(cmd.Context(), entry)
	if err != nil {
		return err
	}
	return cli.PrintResult(cmd, added, "the log has the %s at index %d\n", added.Kind, added.Index)
}

func newReleaseWithdrawCommand() *cobra.Command {
	var key, reason string
	cmd := &cobra.Command{
		Use:   "withdraw DIGEST --reason REASON --key KEY",
		Short: "withdraw a release: clients that learn of it refuse it for good",
		Long: `withdraw puts a withdrawal of the release DIGEST, signed by the release key, into
the transparency log. Machines show it to their clients with the next proof that
they get. REASON is vulnerable, compromised, faulty or superseded.
` + keyHelp,
		Args: cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			digest, err := attest.ParseReleaseDigest(args[0])
			if err != nil {
				return cli.Usage(fmt.Errorf("release %q: %w", args[0], err))
			}
			why, err := logentry.ParseReason(reason)
			if err != nil {
				return cli.Usage(err)
			}
			entry, err := signEntry(key, func([]byte) (logentry.Body, error) {
				return logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: digest, Reason: why}}, nil
			})
			if err != nil {
				return err
			}
			return sendEntry(cmd, c, entry)
		}),
	}
	cmd.Flags().StringVar(&key, keyFlag, "", "the release key, PEM")
	cmd.Flags().StringVar(&reason, "reason", "", "vulnerable, compromised, faulty or superseded")
	cobra.CheckErr(cmd.MarkFlagRequired(keyFlag))
	cobra.CheckErr(cmd.MarkFlagRequired("reason"))
	return cmd
}

func newReleaseRotateCommand() *cobra.Command {
	var key, next string
	cmd := &cobra.Command{
		Use:   "rotate --key KEY --new NEW.pub",
		Short: "let another key sign releases from now on",
		Long: `rotate puts into the transparency log that NEW.pub takes the place of KEY, which
signs that. Clients that trust KEY accept what NEW signs once a machine shows
them the rotation, and nothing that KEY signs afterwards.
` + keyHelp,
		Args: cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			to, err := readReleaseKey(next)
			if err != nil {
				return err
			}
			der, err := logentry.MarshalKey(to)
			if err != nil {
				return err
			}
			entry, err := signEntry(key, func(public []byte) (logentry.Body, error) {
				return logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: public, New: der}}, nil
			})
			if err != nil {
				return err
			}
			return sendEntry(cmd, c, entry)
		}),
	}
	cmd.Flags().StringVar(&key, keyFlag, "", "the release key that is in use, PEM")
	cmd.Flags().StringVar(&next, "new", "", "the public key that takes its place, PEM")
	cobra.CheckErr(cmd.MarkFlagRequired(keyFlag))
	cobra.CheckErr(cmd.MarkFlagRequired("new"))
	return cmd
}
