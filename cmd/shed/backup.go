package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/btcsuite/btcd/btcutil/bech32"
	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newBackupCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "backup URL FILE",
		Short: "save everything that your machine's toolshed keeps, encrypted",
		Long: `backup verifies your machine at URL and saves everything that its toolshed keeps
into FILE, encrypted in the machine to your recovery key. What arrives is
decrypted on the way to see that it is whole; FILE stays encrypted, and is there
only once it is. A file that is there already is not overwritten.
` + clientHelp + `

Exits with 4 where the machine is refused, or is not one you claimed.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open(cmd, args[0])
			if err != nil {
				return err
			}
			return c.explain(c.backup(cmd, args[1], &flags))
		},
	}
	flags.register(cmd)
	return cmd
}

func newRestoreCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "restore URL FILE",
		Short: "put a backup into a machine of yours whose toolshed keeps nothing yet",
		Long: `restore verifies your machine at URL, decrypts FILE, which shed backup saved,
with your recovery key, and has the machine's toolshed keep what is in it. The
toolshed starts again with that. One that keeps something already refuses.
` + clientHelp + `

Exits with 4 where the machine is refused, is not one you claimed, or its
toolshed keeps something already.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open(cmd, args[0])
			if err != nil {
				return err
			}
			return c.explain(c.restore(cmd, args[1], &flags))
		},
	}
	flags.register(cmd)
	return cmd
}

// identityOf is an X25519 key as age has it: the owner's recovery key opens
// backups too, which age keeps apart from what it opens elsewhere by its own
// derivation (age-encryption.org/v1, "The X25519 recipient type").
func identityOf(key *ecdh.PrivateKey) (*age.X25519Identity, error) {
	words, err := bech32.ConvertBits(key.Bytes(), 8, 5, true)
	if err != nil {
		return nil, fmt.Errorf("reading the recovery key: %w", err)
	}
	text, err := bech32.Encode("age-secret-key-", words)
	if err != nil {
		return nil, fmt.Errorf("reading the recovery key: %w", err)
	}
	identity, err := age.ParseX25519Identity(strings.ToUpper(text))
	if err != nil {
		return nil, fmt.Errorf("reading the recovery key: %w", err)
	}
	return identity, nil
}

func (c *relyingParty) identity() (*age.X25519Identity, error) {
	keys, err := c.state.Keys(rand.Reader)
	if err != nil {
		return nil, err
	}
	return identityOf(keys.Recovery)
}

func (c *relyingParty) backup(cmd *cobra.Command, name string, flags *clientFlags) error {
	if _, err := os.Lstat(name); err == nil {
		return cli.Usage(fmt.Errorf("%s is there already", name))
	}
	shed, closeIt, err := c.toolshed(cmd.Context(), flags.timeout)
	if err != nil {
		return err
	}
	defer closeIt()
	identity, err := c.identity()
	if err != nil {
		return err
	}
	resp, err := shed.do(cmd.Context(), http.MethodGet, "/api/backup?recipient="+identity.Recipient().String(), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	size, err := saveWhole(resp.Body, name, identity)
	if err != nil {
		return err
	}
	return cli.PrintResult(cmd, map[string]any{"file": name, "size_bytes": size}, "%s holds %d bytes, encrypted to your recovery key\n", name, size)
}

// saveWhole saves what arrives, under its name once it decrypts to its end.
func saveWhole(r io.Reader, name string, identity age.Identity) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return 0, fmt.Errorf("saving the backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	plain, err := age.Decrypt(io.TeeReader(r, f), identity)
	if err == nil {
		_, err = io.Copy(io.Discard, plain)
	}
	if err = errors.Join(err, f.Sync()); err != nil {
		return 0, errors.Join(fmt.Errorf("the backup did not arrive whole: %w", err), f.Close())
	}
	info, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("saving the backup: %w", err)
	}
	// A link fails where a file has come there since.
	if err := os.Link(f.Name(), name); err != nil {
		return 0, fmt.Errorf("saving the backup: %w", err)
	}
	return info.Size(), os.Remove(f.Name())
}

func (c *relyingParty) restore(cmd *cobra.Command, name string, flags *clientFlags) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.NotFound(fmt.Errorf("reading the backup: %w", err))
	}
	if err != nil {
		return fmt.Errorf("reading the backup: %w", err)
	}
	defer f.Close()
	identity, err := c.identity()
	if err != nil {
		return err
	}
	plain, err := age.Decrypt(f, identity)
	if err != nil {
		return cli.Hinted(fmt.Errorf("decrypting %s: %w", name, err), "it is encrypted to the recovery key of the client that saved it")
	}
	shed, closeIt, err := c.toolshed(cmd.Context(), flags.timeout)
	if err != nil {
		return err
	}
	defer closeIt()
	resp, err := shed.do(cmd.Context(), http.MethodPost, "/api/restore", plain, http.Header{"Content-Type": {"application/x-tar"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return cli.PrintResult(cmd, map[string]any{"restored": name}, "restored; the toolshed starts again with it\n")
}
