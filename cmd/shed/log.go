package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "the control plane's transparency log: its state, its keys, its entries",
	}
	adminFlags(cmd)
	cmd.AddCommand(newLogShowCommand(), newLogAddCommand(), newLogRotateCommand(), newLogKeyCommand())
	return cmd
}

func printLog(cmd *cobra.Command, l adminclient.Log) error {
	return cli.PrintResult(cmd, l, "%s\nsize %d, %d of %d witnesses needed\n", l.Key, l.Size, l.Quorum, l.Witnesses)
}

func newLogShowCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "show the verifier key that clients need, and how far the log is",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			l, err := c.Log(cmd.Context())
			if err != nil {
				return err
			}
			if output != "" {
				if err := statefile.Write(output, 0o644, []byte(l.Key+"\n")); err != nil {
					return err
				}
			}
			return printLog(cmd, l)
		}),
	}
	cmd.Flags().StringVar(&output, "output", "", "also write the verifier key to this file, for clients and witnesses")
	return cmd
}

func newLogAddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE",
		Short: "add an entry that was signed elsewhere: a withdrawal or a rotation",
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			entry, err := readCapped(args[0], logentry.MaxBytes)
			if err != nil {
				return fmt.Errorf("reading the entry: %w", err)
			}
			if _, err := logentry.Parse(entry); err != nil {
				return cli.Usage(fmt.Errorf("reading %s: %w", args[0], err))
			}
			return sendEntry(cmd, c, entry)
		}),
	}
}

func newLogRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "draw the log's next key and say so in the log",
		Long: `rotate draws the next key of the log, has the one in use sign that it takes its
place, and prints the new verifier key. Both sign checkpoints from then on. Once
every witness has the new key (shed witness --log, both of them), take the last
line out of log.key in the control plane's directory and start it again.`,
		Args: cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			l, err := c.RotateLogKey(cmd.Context())
			if err != nil {
				return err
			}
			return printLog(cmd, l)
		}),
	}
}

// logKeyPath is where a control plane keeps the keys of its log.
func logKeyPath(cmd *cobra.Command) string {
	return filepath.Join(cli.ControlDir(cmd), "log", "log.key")
}

// backupHead says what a backup is to whoever finds it.
const backupHead = `# The private keys of the transparency log %s, the newest first.
# Whoever has them can sign checkpoints of it: keep this where nobody reads it.
# To restore: shed log key --restore THIS-FILE, while the control plane is off.
`

func newLogKeyCommand() *cobra.Command {
	var output, restore string
	cmd := &cobra.Command{
		Use:   "key (--output FILE | --restore FILE)",
		Short: "back up the log's private keys, or restore them",
		Long: `key copies the log's private keys from the control plane's directory on this host
into FILE, for its owner alone to read, or back from FILE where they are gone. A
log whose key is lost cannot go on: every client would have to be told another.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (output == "") == (restore == "") {
				return cli.Usage(errors.New("want one of --output and --restore"))
			}
			from, to := logKeyPath(cmd), output
			if restore != "" {
				from, to = restore, logKeyPath(cmd)
			}
			return copyLogKeys(cmd, from, to)
		},
	}
	cmd.Flags().StringVar(&output, "output", "", "write the keys to this new file")
	cmd.Flags().StringVar(&restore, "restore", "", "put the keys from this file back")
	return cmd
}

// copyLogKeys copies keys that parse to where there is no file.
func copyLogKeys(cmd *cobra.Command, from, to string) error {
	text, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Hinted(cli.NotFound(fmt.Errorf("reading the log's keys: %w", err)), "name the state directory of a control plane with a log with --state")
	}
	if err != nil {
		return fmt.Errorf("reading the log's keys: %w", err)
	}
	keys, err := checkpoint.ParseSigners(checkpoint.KindLog, string(text))
	if err != nil {
		return fmt.Errorf("reading %s: %w", from, err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return cli.Hinted(cli.Refused(fmt.Errorf("%s is there already", to)), "keys are never overwritten")
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("writing the log's keys: %w", err)
	}
	content := fmt.Sprintf(backupHead, keys[0].Name())
	for _, key := range keys {
		content += key.Encode()
	}
	if err := statefile.Write(to, 0o600, []byte(content)); err != nil {
		return err
	}
	return cli.PrintResult(cmd, struct {
		File string `json:"file"`
		Key  string `json:"key"`
	}{to, keys[0].String()}, "%s\nwritten to %s\n", keys[0].Key, to)
}
