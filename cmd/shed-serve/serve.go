package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
)

// powerOffWithin bounds a power-off: a stop takes under 15 s in all.
const powerOffWithin = 12 * time.Second

const serveLong = `serve runs the control plane until it is told to stop by SIGINT or SIGTERM.

Machines outlive it: they are found again at the next start. With
--power-off-on-exit it powers them off before it ends, and the next start
brings them back. With --power-off it only powers them off, and ends; it then
listens nowhere, and needs no control plane to be running.

--provider NAME makes machines with that provider. Its settings are those of
providers.NAME, or else provider.settings. A configuration that says otherwise,
by provider.name or by places that all name another, is refused.

Variables: SHED_STATE, and one for each key of the configuration, which
` + "`shed config explain`" + ` lists.`

func newServeCommand() *cobra.Command {
	var powerOff, powerOffOnExit bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the control plane",
		Long:  serveLong,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if powerOff && powerOffOnExit {
				return cli.Usage(errors.New("--power-off and --power-off-on-exit exclude each other"))
			}
			c, _, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			o := planeOptions(cli.StateDir(cmd), cli.ControlDir(cmd), c, cmd.ErrOrStderr())
			if powerOff {
				return explainServe(powerOffAll(cmd.Context(), o))
			}
			return explainServe(serve(cmd.Context(), o, powerOffOnExit))
		},
	}
	configFlags(cmd)
	cmd.Flags().BoolVar(&powerOffOnExit, "power-off-on-exit", false, "power every machine off before ending; data stays")
	cmd.Flags().BoolVar(&powerOff, "power-off", false, "only power every machine off, and end")
	return cmd
}

func planeOptions(state, dir string, c config.Config, log io.Writer) controlplane.Options {
	logger := newLogger(log, c.LogLevel)
	return controlplane.Options{
		Dir: dir, Config: c, Clock: time.Now, Random: rand.Reader, Logger: logger,
		Provider: plugins{config: c, dir: pluginsDir(state), logger: logger}.open,
	}
}

func newLogger(w io.Writer, level zapcore.Level) *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.TimeEncoder(func(t time.Time, e zapcore.PrimitiveArrayEncoder) {
		e.AppendString(t.UTC().Format(time.RFC3339Nano))
	})
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), zapcore.Lock(zapcore.AddSync(w)), level))
}

func serve(ctx context.Context, o controlplane.Options, powerOffOnExit bool) error {
	return serveThen(ctx, o, powerOffOnExit, func(*controlplane.ControlPlane) {})
}

// serveThen calls opened once everything is bound.
func serveThen(ctx context.Context, o controlplane.Options, powerOffOnExit bool, opened func(*controlplane.ControlPlane)) (err error) {
	p, err := controlplane.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	opened(p)
	err = p.Run(ctx)
	if !powerOffOnExit {
		return err
	}
	off, cancel := context.WithTimeout(context.WithoutCancel(ctx), powerOffWithin)
	defer cancel()
	return errors.Join(err, p.PowerOff(off))
}

func powerOffAll(ctx context.Context, o controlplane.Options) (err error) {
	p, err := controlplane.OpenToPowerOff(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, powerOffWithin)
	defer cancel()
	return p.PowerOff(ctx)
}

// explainServe says what to do about the ways in which a start goes wrong.
func explainServe(err error) error {
	var locked *sqlite.LockedError
	var address *controlplane.AddressError
	var lost *controlplane.LostError
	var commits *sqlite.LostCommitsError
	var exposed *controlplane.ExposedError
	switch {
	case errors.As(err, &lost):
		return cli.Hinted(notStarted(lost), "put %s back from a backup; or move %s away to begin anew, and delete the machines that are there by hand",
			lost.File, lost.Dir)
	case errors.As(err, &exposed):
		return cli.Hinted(notStarted(err), "chmod 600 %s; and draw it anew if somebody may have read it", exposed.Path)
	case errors.As(err, &commits):
		return cli.Hinted(notStarted(commits), "put all of %s back from one backup; or remove %s to go on with what is left",
			commits.Dir, filepath.Join(commits.Dir, sqlite.CommitsFile))
	case errors.Is(err, sqlite.ErrDamaged):
		return cli.Hinted(err, "put the whole state directory back from a backup")
	case errors.As(err, &locked):
		return cli.Hinted(notStarted(locked), "stop that one first (kill %d), or use another --state", locked.PID)
	case errors.As(err, &address) && errors.Is(err, syscall.EADDRINUSE):
		return cli.Hinted(notStarted(address), "another program listens there: set %s in the configuration, or --set %s=127.0.0.1:0",
			address.Key, address.Key)
	case errors.Is(err, orchestrator.ErrFull), errors.Is(err, syscall.ENOSPC):
		return cli.Hinted(err, "make room on the disk that holds the state directory, then start again")
	case providers.HintOf(err) != "":
		return cli.Hinted(err, "%s", providers.HintOf(err))
	case errors.Is(err, config.ErrConfig):
		return cli.Hinted(cli.Usage(err), "`shed config explain` lists every key")
	}
	return err
}

// notStarted is the error of a start that failed for the reason given. What
// else failed while that start was taken back is left out.
func notStarted(err error) error { return fmt.Errorf("starting the control plane: %w", err) }

func configFlags(cmd *cobra.Command) {
	cmd.Flags().String("config", "", "configuration file (default SHED_CONFIG)")
	cmd.Flags().String("provider", "", "use this provider, with the configuration's settings for it (default provider.name)")
	cmd.Flags().StringArray("set", nil, "key=value of the configuration; goes over environment and file")
}

func loadConfig(cmd *cobra.Command) (config.Config, []config.Value, error) {
	flags, err := cmd.Flags().GetStringArray("set")
	if err != nil {
		return config.Config{}, nil, err
	}
	provider, err := cmd.Flags().GetString("provider")
	if err != nil {
		return config.Config{}, nil, err
	}
	c, values, err := config.Load(config.Sources{
		File: cli.FlagOrEnv(cmd, "config", "SHED_CONFIG"), Env: os.LookupEnv, Flags: flags, Provider: provider,
	})
	if err != nil {
		return c, nil, cli.Hinted(cli.Usage(err), "`shed config explain` lists every key")
	}
	return c, values, nil
}
