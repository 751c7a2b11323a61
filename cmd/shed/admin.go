package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// answerTimeout is how long an answer is waited for where no flag says so.
const answerTimeout = 30 * time.Second

// adminFlags say how to reach a control plane; what is not said comes from the
// environment and then from the state directory.
func adminFlags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("admin", "", "address of the admin API (default SHED_ADMIN, then the state directory's)")
	flags.String("token-file", "", "file with the bearer token (default SHED_TOKEN_FILE, then the state directory's)")
	flags.Duration("timeout", answerTimeout, "give up when an answer takes longer")
}

// asOperator runs a command with the client of the admin API.
func asOperator(do func(*cobra.Command, *adminclient.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(cmd)
		if err != nil {
			return err
		}
		return explainAdmin(do(cmd, c, args))
	}
}

func newAdminClient(cmd *cobra.Command) (*adminclient.Client, error) {
	base, err := adminAddress(cmd)
	if err != nil {
		return nil, err
	}
	name := cli.FlagOrEnv(cmd, "token-file", "SHED_TOKEN_FILE")
	if name == "" {
		name = filepath.Join(cli.ControlDir(cmd), adminclient.TokenFile)
	}
	token, err := adminclient.ReadToken(name)
	if err != nil {
		return nil, cli.Hinted(cli.Refused(err), "`shed serve` writes it; name another with --token-file")
	}
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return nil, err
	}
	if cmd.LocalNonPersistentFlags().Lookup("timeout") != nil {
		// The command waits for a state, and its flag says how long it stays.
		timeout = min(timeout, answerTimeout)
	}
	return &adminclient.Client{Base: base, Token: token, Timeout: timeout}, nil
}

func adminAddress(cmd *cobra.Command) (string, error) {
	base := cli.FlagOrEnv(cmd, "admin", "SHED_ADMIN")
	if base == "" {
		known, err := readAddresses(cmd)
		if err != nil {
			return "", err
		}
		base = known.Admin
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return strings.TrimSuffix(base, "/"), nil
}

func readAddresses(cmd *cobra.Command) (adminclient.Addresses, error) {
	known, err := adminclient.ReadAddresses(cli.ControlDir(cmd))
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.Hinted(cli.Unreachable(fmt.Errorf("no control plane has run on %s", cli.StateDir(cmd))),
			"start `shed serve`, or name one with --admin or --state")
	}
	return known, err
}

// explainAdmin gives what went wrong with a control plane its exit code.
func explainAdmin(err error) error {
	var refusal *adminclient.Error
	var ambiguous *adminclient.AmbiguousError
	var unanswered *url.Error
	switch {
	case errors.As(err, &refusal):
		return refusedByControl(err, refusal.Status)
	case errors.As(err, &ambiguous):
		return cli.Hinted(cli.Usage(err), "give more of it")
	case errors.Is(err, adminclient.ErrNotFound):
		return cli.NotFound(err)
	case errors.Is(err, adminclient.ErrAddress):
		return cli.Usage(err)
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &unanswered) && cli.ExitCode(err) == cli.ExitTimedOut:
		return cli.Hinted(err, "it takes connections and does not answer; --timeout waits longer")
	case errors.As(err, &unanswered):
		// Also a connection that was cut is the other side's absence.
		return cli.Hinted(cli.Unreachable(err), "is `shed serve` running?")
	}
	return err
}

func refusedByControl(err error, status int) error {
	switch status {
	case http.StatusNotFound:
		return cli.NotFound(err)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return cli.Refused(err)
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return cli.Usage(err)
	}
	return err
}
