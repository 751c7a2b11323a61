package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/connlimit"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// agentsPortKey is the meta key of the port that machines know.
const agentsPortKey = "agents_port"

// listeners are all but transparency's always there.
type listeners struct{ admin, webhooks, agents, transparency net.Listener }

func (l listeners) all() []net.Listener {
	return []net.Listener{l.admin, l.webhooks, l.agents, l.transparency}
}

func (l listeners) close() error {
	var errs []error
	for _, one := range l.all() {
		if one != nil {
			if err := one.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (l listeners) addresses() Addresses {
	at := func(one net.Listener) string {
		if one == nil {
			return ""
		}
		return one.Addr().String()
	}
	return Addresses{Admin: at(l.admin), Webhooks: at(l.webhooks), Agents: at(l.agents), Transparency: at(l.transparency)}
}

// AddressError says which address could not be had.
type AddressError struct {
	Key     string
	Address string
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("listening on %s (%s): %v", e.Address, e.Key, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }

// maxOpenFiles is what is shared out at the most: more connections than that
// one process does not serve.
const maxOpenFiles = 1 << 17

// openFiles is how many files the process may have open at once. The listeners
// share out most of it, so that no flood keeps the store, the plugin or another
// listener from what they need.
func openFiles() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	const least = 64
	if limit.Cur < least {
		return 0, fmt.Errorf("the limit of open files is %d, want at least %d", limit.Cur, least)
	}
	return int(min(limit.Cur, maxOpenFiles)), nil
}

// bind listens for at most so many connections, half of them from one source:
// machines on one host come from one address.
func bind(ctx context.Context, key, address string, connections int) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		// The error number alone: what was being done is said here.
		var number syscall.Errno
		if errors.As(err, &number) {
			err = number
		}
		return nil, &AddressError{Key: key, Address: address, Err: err}
	}
	return connlimit.Listen(l, connections, connections/2), nil
}

func (p *ControlPlane) listen(ctx context.Context) (err error) {
	files, err := openFiles()
	if err != nil {
		return err
	}
	if p.listeners.admin, err = bind(ctx, "listen.admin", p.Config.AdminListen, files/16); err != nil {
		return err
	}
	if p.listeners.webhooks, err = bind(ctx, "listen.webhooks", p.Config.WebhooksListen, files/8); err != nil {
		return err
	}
	if p.Config.LogOrigin != "" {
		if p.listeners.transparency, err = bind(ctx, "listen.transparency", p.Config.LogListen, files/16); err != nil {
			return err
		}
	}
	address, err := p.agentsAddress(ctx)
	if err != nil {
		return err
	}
	if p.listeners.agents, err = bind(ctx, "listen.agents", address, files/2); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(p.listeners.agents.Addr().String())
	if err != nil {
		return fmt.Errorf("reading the agents' address: %w", err)
	}
	return p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(agentsPortKey, port) })
}

// agentsAddress is where machines report. A port that was chosen once stays:
// it is in the measured configuration of the machines that are there.
func (p *ControlPlane) agentsAddress(ctx context.Context) (string, error) {
	host, port, err := net.SplitHostPort(p.Config.AgentsListen)
	if err != nil || port != "0" {
		return p.Config.AgentsListen, nil //nolint:nilerr // the configuration was checked when it was read
	}
	err = p.store.View(ctx, func(v store.Reader) (err error) {
		port, err = v.Meta(agentsPortKey)
		return err
	})
	if errors.Is(err, orchestrator.ErrNotFound) {
		return p.Config.AgentsListen, nil
	}
	return net.JoinHostPort(host, port), err
}

// readTrustAnchors reads the accepted roots each time: a provider may make its own
// only when it is first configured.
func readTrustAnchors(named []config.TrustAnchor) ([]verifier.TrustAnchor, error) {
	roots := make([]verifier.TrustAnchor, 0, len(named))
	for _, root := range named {
		text, err := os.ReadFile(root.File)
		if err != nil {
			return nil, fmt.Errorf("reading the endorsement root: %w", err)
		}
		parsed, err := verifier.ParseTrustAnchors(text, root.Tier)
		if err != nil {
			return nil, fmt.Errorf("reading the endorsement root %s: %w", root.File, err)
		}
		roots = append(roots, parsed...)
	}
	return roots, nil
}
