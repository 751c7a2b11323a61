package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
)

// maxAnswerBytes caps what a control plane may answer at once.
const maxAnswerBytes = 64 << 20

// controlDir is the control plane's part of the state.
func controlDir(cmd *cobra.Command) string { return filepath.Join(stateDir(cmd), "control") }

// adminClient speaks to a control plane's admin API.
type adminClient struct {
	base  string
	token string
	http  http.Client
}

// adminFlags say how to reach it; what is not said comes from the environment
// and then from the state directory.
func adminFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().String("admin", "", "address of the admin API (default SHED_ADMIN, then the state directory's)")
	cmd.PersistentFlags().String("token-file", "", "file with the bearer token (default SHED_TOKEN_FILE, then the state directory's)")
}

func newAdminClient(cmd *cobra.Command) (*adminClient, error) {
	base, err := adminAddress(cmd)
	if err != nil {
		return nil, err
	}
	name := flagOrEnv(cmd, "token-file", "SHED_TOKEN_FILE")
	if name == "" {
		name = filepath.Join(controlDir(cmd), controlplane.TokenFile)
	}
	token, err := os.ReadFile(name)
	if err != nil {
		return nil, hinted(refused(fmt.Errorf("reading the admin token: %w", err)),
			"`shed serve` writes it; name another with --token-file")
	}
	return &adminClient{base: base, token: strings.TrimSpace(string(token))}, nil
}

func flagOrEnv(cmd *cobra.Command, flag, env string) string {
	if v, err := cmd.Flags().GetString(flag); err == nil && v != "" {
		return v
	}
	return os.Getenv(env)
}

func adminAddress(cmd *cobra.Command) (string, error) {
	base := flagOrEnv(cmd, "admin", "SHED_ADMIN")
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

func readAddresses(cmd *cobra.Command) (controlplane.Addresses, error) {
	var known controlplane.Addresses
	text, err := os.ReadFile(filepath.Join(controlDir(cmd), controlplane.AddressesFile))
	if errors.Is(err, fs.ErrNotExist) {
		err := fmt.Errorf("no control plane has run on %s", stateDir(cmd))
		return known, hinted(&failure{code: exitUnreachable, err: err}, "start `shed serve`, or name one with --admin or --state")
	}
	if err != nil {
		return known, fmt.Errorf("looking for the control plane: %w", err)
	}
	if err := json.Unmarshal(text, &known); err != nil {
		return known, fmt.Errorf("looking for the control plane: %w", err)
	}
	return known, nil
}

// call sends in, where there is any, and decodes the answer into out.
func (c *adminClient) call(ctx context.Context, method, path string, in, out any) error {
	answer, err := c.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswerBytes)).Decode(out); err != nil {
		return fmt.Errorf("reading the control plane's answer: %w", err)
	}
	return nil
}

// open sends a request and returns the body of a successful answer.
func (c *adminClient) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding a request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, usage(fmt.Errorf("addressing the control plane: %w", err))
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreached(fmt.Errorf("calling the control plane: %w", err))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp.Body, nil
}

// unreached is an error of a request that got no answer. One that was given up
// or took too long is that; any other, such as a connection that was cut, is
// the other side's absence.
func unreached(err error) error {
	if errors.Is(err, context.Canceled) || exitCode(err) == exitTimedOut {
		return err
	}
	return hinted(&failure{code: exitUnreachable, err: err}, "is `shed serve` running?")
}

// problemOf turns a problem document into an error with an exit code.
func problemOf(resp *http.Response) error {
	var p struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}
	err := fmt.Errorf("the control plane answered %s", resp.Status)
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p) == nil && p.Detail != "" {
		err = fmt.Errorf("%s (%s)", p.Detail, p.Code)
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return notFound(err)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return refused(err)
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return usage(err)
	default:
		return err
	}
}
