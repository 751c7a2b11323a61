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
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/attest/policy"
)

// handOver gives the owner's client what an owner has from the product's
// publisher: the release's public key, the accepted endorsement root, and the
// keys of the log and its witnesses.
func (p place) handOver() error {
	for from, name := range map[string]string{
		p.releasePublicKey(): "release.pub", p.ekRoot(): "ek-root.pem", p.logKey(): "log.vkey", p.witnesses(): "witnesses",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(p.client(), name), b, 0o600); err != nil {
			return fmt.Errorf("handing over %s: %w", name, err)
		}
	}
	return p.handOverPolicy()
}

// handOverPolicy writes down what a local run's machines are worth, where the
// owner has not said so already.
func (p place) handOverPolicy() error {
	text, err := policy.Default("local")
	if err != nil {
		return err
	}
	name := filepath.Join(p.client(), "policy.yaml")
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return fmt.Errorf("handing over the policy: %w", err)
	}
	return nil
}

// owner runs one command of the owner's client, which can't read anything of
// the control plane's.
func (p place) owner(ctx context.Context, args ...string) (stdout string, err error) {
	cmd := p.confined(append([]string{"--state", p.root}, args...)...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := start(ctx, cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), bytes.TrimSpace(complaint.Bytes()))
	}
	return out.String(), nil
}

// start starts a command that ends when ctx does.
func start(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) }) //nolint:errcheck // it may have ended
	return nil
}

// proxy is a running shed connect.
type proxy struct {
	URL string
	cmd *exec.Cmd
}

func (p place) connect(ctx context.Context, machine string, port int) (*proxy, error) {
	cmd := p.confined("--state", p.root, "--json", "connect", "--listen", fmt.Sprintf("127.0.0.1:%d", port), machine)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if err := start(ctx, cmd); err != nil {
		return nil, err
	}
	x := &proxy{cmd: cmd}
	if err := json.NewDecoder(out).Decode(&struct {
		URL *string `json:"url"`
	}{&x.URL}); err != nil {
		return nil, errors.Join(errors.New("shed connect did not start"), x.stop())
	}
	return x, nil
}

func (x *proxy) stop() error {
	x.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	return ignoreExit(x.cmd.Wait())
}

// ignoreExit drops an exit status: the process was told to end.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// ask sends one request to the toolshed by the proxy.
func (x *proxy) ask(ctx context.Context, method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, x.URL+path, strings.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("asking the toolshed: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking the toolshed: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("asking the toolshed: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s %s answered %s: %s", method, path, resp.Status, b)
	}
	return string(b), nil
}
