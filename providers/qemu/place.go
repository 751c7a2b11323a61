package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
)

// place answers where a new machine is reached: a port on loopback, or an
// address of the settings' network. The caller holds p.mu.
func (p *Provider) place(c *config) (port int, address netip.Addr, err error) {
	if c.Network == nil {
		port, err = p.freePort(c)
		return port, address, err
	}
	address, ok := c.Network.Free(func(a netip.Addr) bool {
		_, taken := p.addresses[a]
		return taken
	})
	if !ok {
		return 0, address, providers.Errorf(providers.CodeQuota, "no address of %s is free", c.Network.Range).In(providers.ScopeAccount)
	}
	return 0, address, nil
}

// takePlace makes a machine's port and address its own. The caller holds p.mu.
func (p *Provider) takePlace(r record) {
	if r.Port != 0 {
		p.ports[r.Port] = struct{}{}
	}
	if r.Address.IsValid() {
		p.addresses[r.Address] = struct{}{}
	}
}

// errNoNetwork says that the settings do not name a machine's network any more.
var errNoNetwork = errors.New("the machine's address is in no network that the settings name")

// cardName is the machine's network card as the host sees it: the kernel takes
// 15 characters, and so much of an id is still its own.
func (r record) cardName() string { return "shed" + string(r.Machine[:11]) }

// openCard makes the network card of a machine that has an address; nil for one
// that has none.
func (c *config) openCard(r record) (*os.File, error) {
	switch {
	case !r.Address.IsValid():
		return nil, nil //nolint:nilnil // no card is a state, not a failure
	case c.Network == nil || !c.Network.Has(r.Address) || r.Address == c.Network.Gateway:
		return nil, fmt.Errorf("%w: %s", errNoNetwork, r.Address)
	}
	return c.Network.Open(r.cardName(), r.Address)
}

// netdev is how QEMU is told what is behind the machine's card.
func (r record) netdev() string {
	if r.Address.IsValid() {
		return fmt.Sprintf("tap,id=%s,fd=%d", board.Network, fourthExtra)
	}
	return fmt.Sprintf("user,id=%s,hostfwd=tcp:%s-:%d", board.Network, endpoint(r.Port), inbound)
}

// serveLeases answers a running machine that asks for its address. The caller
// holds m.mu.
func (p *Provider) serveLeases(c *config, m *machine) {
	r := m.record
	m.endLeases()
	if !r.Address.IsValid() || c.Network == nil {
		return
	}
	conn, err := c.Network.Listen(r.cardName())
	if err != nil {
		p.opts.Log.Error("a machine cannot be told its address", zap.String("machine", string(r.Machine)), zap.Error(err))
		return
	}
	m.leases = conn
	p.work.Go(func() {
		defer context.AfterFunc(p.life, func() { _ = conn.Close() })()
		if err := c.Network.Serve(conn, r.Address); !errors.Is(err, net.ErrClosed) {
			p.opts.Log.Warn("a machine is not told its address any more", zap.String("machine", string(r.Machine)), zap.Error(err))
		}
	})
}

// endLeases stops answering. The caller holds m.mu.
func (m *machine) endLeases() {
	if m.leases != nil {
		// It is a socket: nothing is lost with it.
		_ = m.leases.Close()
		m.leases = nil
	}
}

// portFree refuses to start a machine whose port something else has.
func (r record) portFree() error {
	if r.Port != 0 && !portIsFree(r.Port) {
		return fmt.Errorf("%w: %s", errPortTaken, endpoint(r.Port))
	}
	return nil
}

// portIsFree reports whether QEMU could listen there now.
func portIsFree(port int) bool {
	listener, err := net.Listen("tcp", endpoint(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// freePort answers a port that no machine has and nothing listens on. The
// caller holds p.mu.
func (p *Provider) freePort(c *config) (int, error) {
	span := c.PortLast - c.PortFirst + 1
	start := p.opts.Rand(span)
	for i := range span {
		port := c.PortFirst + (start+i)%span
		if _, used := p.ports[port]; !used && portIsFree(port) {
			return port, nil
		}
	}
	return 0, &providers.Error{Code: providers.CodeQuota,
		Message: fmt.Sprintf("no port from %d to %d is free", c.PortFirst, c.PortLast)}
}

// movePort gives a machine that never ran another port; one that did keeps
// its own, which its owner knows.
func (p *Provider) movePort(c *config, m *machine) (moved bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.Ran {
		return false, nil
	}
	port, err := p.freePort(c)
	if err != nil {
		return false, err
	}
	delete(p.ports, m.record.Port)
	p.ports[port] = struct{}{}
	m.record.Port = port
	if err := m.record.write(c.machineDir(m.record.Machine)); err != nil {
		return false, fmt.Errorf("writing the machine record: %w", err)
	}
	return true, nil
}
