package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// agentsPortKey is the meta key of the port that machines know.
const agentsPortKey = "agents_port"

type listeners struct{ admin, webhooks, agents net.Listener }

func (l listeners) all() []net.Listener { return []net.Listener{l.admin, l.webhooks, l.agents} }

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
	return Addresses{Admin: at(l.admin), Webhooks: at(l.webhooks), Agents: at(l.agents)}
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

func bind(ctx context.Context, key, address string) (net.Listener, error) {
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
	return l, nil
}

func (p *ControlPlane) listen(ctx context.Context) (err error) {
	if p.listeners.admin, err = bind(ctx, "listen.admin", p.Config.AdminListen); err != nil {
		return err
	}
	if p.listeners.webhooks, err = bind(ctx, "listen.webhooks", p.Config.WebhooksListen); err != nil {
		return err
	}
	address, err := p.agentsAddress(ctx)
	if err != nil {
		return err
	}
	if p.listeners.agents, err = bind(ctx, "listen.agents", address); err != nil {
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
