package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/connlimit"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/witness"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const witnessLong = `witness cosigns the checkpoints of transparency logs for as long as it runs, each
only if the log has grown from what was cosigned of it before: then no log can
show one history to one client and another to the next. Anybody can run one; it
counts for the clients that name its key.

It draws its key at the first start and prints its verifier key, the text that
logs and clients are given. The directory holds the key and, for each log, the
last checkpoint that was cosigned: never restore it from a copy, since an older
one would let a log fork unseen. It speaks plain HTTP (C2SP tlog-witness): the
protocol signs what matters, and a proxy can add TLS.

--log names a file with the verifier key of a log, as shed log show prints it;
give every key of a log that is rotating.`

// The limits of a witness's connections.
const (
	witnessConns   = 256
	witnessTimeout = 15 * time.Second
	witnessHeaders = 16 << 10
)

// witnessOptions are what a witness is run with.
type witnessOptions struct {
	listen, dir, name string
	logs              []string
}

func newWitnessCommand() *cobra.Command {
	var o witnessOptions
	cmd := &cobra.Command{
		Use:   "witness --listen HOST:PORT --dir DIR --log KEYFILE",
		Short: "cosign transparency logs that only grow",
		Long:  witnessLong,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:7484", "where logs ask; port 0 for any")
	flags.StringVar(&o.dir, "dir", "", "the witness's own directory (default STATE/witness)")
	flags.StringVar(&o.name, "name", "", "name in the verifier key, such as a host and a path; chosen at the first start (default drawn)")
	flags.StringArrayVar(&o.logs, "log", nil, "file with the verifier key of a log; repeatable")
	cmd.AddCommand(newWitnessKeyCommand(), newWitnessRotateCommand())
	return cmd
}

func (o *witnessOptions) run(cmd *cobra.Command) error {
	if o.dir == "" {
		o.dir = filepath.Join(cli.StateDir(cmd), "witness")
	}
	signer, err := witness.LoadKey(o.dir, o.name, rand.Reader, time.Now)
	if err != nil {
		return err
	}
	keys, err := o.keys()
	if err != nil {
		return err
	}
	w, err := witness.Open(o.dir, signer, keys)
	if errors.Is(err, statefile.ErrLocked) {
		return cli.Hinted(cli.Refused(err), "a directory has one witness: two would cosign two histories")
	}
	if err != nil {
		return err
	}
	return errors.Join(serveWitness(cmd, w, o.listen), w.Close())
}

func (o *witnessOptions) keys() (keys []checkpoint.Key, err error) {
	if len(o.logs) == 0 {
		return nil, cli.Hinted(cli.Usage(errors.New("no log is named")), "name the verifier key of one with --log")
	}
	for _, name := range o.logs {
		key, err := readLogKey(name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// serveWitness answers until the command's context ends.
func serveWitness(cmd *cobra.Command, w *witness.Witness, address string) error {
	var c net.ListenConfig
	l, err := c.Listen(cmd.Context(), "tcp", address)
	if err != nil {
		return fmt.Errorf("listening for logs: %w", err)
	}
	server := &http.Server{
		Handler:     w.Handler(func(err error) { fmt.Fprintf(cmd.ErrOrStderr(), "shed witness: %v\n", err) }),
		ReadTimeout: witnessTimeout, WriteTimeout: witnessTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: witnessHeaders,
		ErrorLog: log.New(io.Discard, "", 0),
	}
	if err := cli.PrintResult(cmd, struct {
		Key    string `json:"key"`
		Listen string `json:"listen"`
	}{w.Key().String(), l.Addr().String()}, "%s\nlistening on %s\n", w.Key(), l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	stopped := make(chan error, 1)
	go func() {
		<-cmd.Context().Done()
		soon, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 2*time.Second)
		defer cancel()
		stopped <- server.Shutdown(soon)
	}()
	if err := server.Serve(connlimit.Listen(l, witnessConns, witnessConns/2)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answering logs: %w", err)
	}
	return <-stopped
}

func newWitnessKeyCommand() *cobra.Command {
	var dir, name string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "print the witness's verifier key, drawing it where there is none",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				dir = filepath.Join(cli.StateDir(cmd), "witness")
			}
			signer, err := witness.LoadKey(dir, name, rand.Reader, time.Now)
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, struct {
				Key string `json:"key"`
			}{signer.String()}, "%s\n", signer)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the witness's directory (default STATE/witness)")
	cmd.Flags().StringVar(&name, "name", "", "name in the verifier key where it is drawn")
	return cmd
}

func newWitnessRotateCommand() *cobra.Command {
	var dir, entry string
	cmd := &cobra.Command{
		Use:   "rotate --dir DIR --entry FILE",
		Short: "draw the witness's next key, and an entry for the log that says so",
		Long: `rotate draws the next key of a witness that is not running and writes an entry,
signed by the key before it, for the log's operator to add (shed log add FILE)
and to name in transparency.witnesses. The key before stays beside the new one,
as witness.key.old. Where it fails, the witness has the key that it had, and the
next rotate writes the same entry.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				dir = filepath.Join(cli.StateDir(cmd), "witness")
			}
			next, err := witness.Rotate(dir, rand.Reader, func(signed []byte) error { return statefile.Write(entry, 0o644, signed) })
			if errors.Is(err, statefile.ErrLocked) {
				return cli.Hinted(cli.Refused(err), "stop the witness first")
			}
			if errors.Is(err, os.ErrNotExist) {
				return cli.NotFound(err)
			}
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, struct {
				Key   string `json:"key"`
				Entry string `json:"entry"`
			}{next.String(), entry}, "%s\nentry written to %s\n", next, entry)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the witness's directory (default STATE/witness)")
	cmd.Flags().StringVar(&entry, "entry", "", "where to write the entry")
	cobra.CheckErr(cmd.MarkFlagRequired("entry"))
	return cmd
}
