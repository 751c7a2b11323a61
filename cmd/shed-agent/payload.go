package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/egress"
	"github.com/toolshed-cloud/shed/agent/group"
	"github.com/toolshed-cloud/shed/agent/payloadroot"
	"github.com/toolshed-cloud/shed/agent/resolver"
	"github.com/toolshed-cloud/shed/agent/supervise"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// The payload's fixed places on the machine.
const (
	payloadPath = "/etc/shed/payload.json"
	payloadRoot = "/payload"
	tmpPath     = "/tmp"
)

// server is the payload that the image declares, with what holds it.
type server struct {
	*payload.Spec
	// listening is closed once the machine takes connections. What readies and runs a
	// payload waits for that: it would take the processors from what comes before.
	listening chan struct{}
	// ready readies the fields below, once, and is the reason where they will never
	// be there.
	ready       func() error
	filter      *egress.Filter
	confinement supervise.Confinement
}

// readPayload reads what the payload is. Its root, limits and filter are readied
// before it starts, or it never does.
func readPayload() (*server, error) {
	b, err := os.ReadFile(payloadPath)
	if err != nil {
		return nil, fmt.Errorf("reading what the payload is: %w", err)
	}
	s := &server{listening: make(chan struct{})}
	if s.Spec, err = payload.Parse(b); err != nil {
		return nil, err
	}
	places := []string{dataPath, tmpPath}
	if s.Listen.Socket != "" {
		places = append(places, payload.SocketDir)
	}
	s.confinement = supervise.Confinement{
		UID: s.User, GID: s.User, Self: "/proc/self/exe", Root: payloadRoot, Places: places,
		// Who reaches nobody and answers on a socket needs no network.
		Alone: s.Network.Right == payload.Off && s.Listen.Socket != "", OpenFiles: s.Limits.OpenFiles,
	}
	s.ready = sync.OnceValue(func() error { return yielding(s.hold) })
	return s, nil
}

// wait returns once the payload can be started.
func (s *server) wait(ctx context.Context) error {
	readied := make(chan error, 1)
	go func() {
		<-s.listening
		readied <- s.ready()
	}()
	select {
	case err := <-readied:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// yielding runs f on a thread of its own that leaves the processors to every other
// one that has work: the machine answers meanwhile.
func yielding(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread ends with this goroutine, and no other runs on it.
		runtime.LockOSThread()
		const least = 19
		err := unix.Setpriority(unix.PRIO_PROCESS, 0, least)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// hold readies the payload's root, limits and filter.
func (s *server) hold() error {
	if err := mountRoot(); err != nil {
		return err
	}
	if err := group.Mount(); err != nil {
		return err
	}
	var err error
	if s.confinement.Group, err = group.Make(group.Root, s.Limits); err != nil {
		return err
	}
	if s.filter, err = egress.New(s.Network.Right); err != nil {
		return err
	}
	return s.filter.Attach(s.confinement.Group)
}

// mountRoot mounts the root of a payload that is not in the image.
func mountRoot() error {
	root, err := payloadroot.OfMachine()
	if err != nil || root == nil {
		return err
	}
	if err := boot.LoadModules(modulesPath + ".payload"); err != nil {
		return err
	}
	return payloadroot.Mount(root, payloadRoot, deviceWait)
}

// supervisor is for the payload as it was declared; environment is what else it
// is told.
func (s *server) supervisor(environment []string, log *zap.Logger) *supervise.Supervisor {
	return supervise.New(supervise.Payload{
		Command: s.Command, Socket: s.Listen.Socket, Port: s.Listen.Port, Data: dataPath, Health: s.Health,
		Environment: append(environment, s.Environment...), Log: log, Confinement: &s.confinement, Ready: s.wait,
	})
}

// nameService is where the payload asks for names; its root says so.
const nameService = "127.0.0.1:53"

// reach gives the payload the network that it has a right to, as long as ctx lasts.
func (s *server) reach(ctx context.Context, machine *agent.Machine, network *boot.Network, log *zap.Logger, ended chan<- error) error {
	if err := s.ready(); err != nil {
		return err
	}
	if s.Network.Right == payload.Off {
		return nil
	}
	host, err := machine.ControlPlane()
	if err != nil {
		return err
	}
	keeper := &egress.Keeper{
		Filter: s.filter, Hosts: []string{host}, Report: func(err error) { log.Warn("payload's network", zap.Error(err)) },
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
	}
	names := &resolver.Resolver{
		Network: s.Network, Filter: s.filter, Servers: network.NameServers, Hidden: []string{strings.ToLower(strings.TrimSuffix(host, "."))}, Exchange: resolver.Ask, Now: time.Now,
	}
	for _, h := range s.Network.Hosts {
		if a, ok := h.Address(); ok {
			if err := s.filter.Grant(a, h.Port, time.Time{}); err != nil {
				return err
			}
		}
	}
	datagrams, err := net.ListenPacket("udp4", nameService)
	if err != nil {
		return fmt.Errorf("listening for the payload's names: %w", err)
	}
	streams, err := net.Listen("tcp4", nameService)
	if err != nil {
		return fmt.Errorf("listening for the payload's names: %w", err)
	}
	go func() { ended <- fmt.Errorf("keeping the payload's network: %w", keeper.Run(ctx)) }()
	go func() { ended <- fmt.Errorf("answering the payload's names: %w", names.Serve(ctx, datagrams, streams)) }()
	return nil
}
