// Package resolver is the name service of a payload: the only one that a payload
// with a list of hosts can ask, and the one that tells its filter which addresses
// those hosts have.
//
// Invariants: a payload's question goes on as one of the resolver's own, so that
// of a name that is not listed nothing leaves the machine, and of a listed one no
// more than the name; an answer holds addresses that the filter grants, and none
// that it refuses, whoever owns the name; a payload without a right to the network
// has no resolver.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/toolshed-cloud/shed/attest/payload"
)

// Filter is what holds the payload to addresses.
type Filter interface {
	// Refused says whether no right leads to an address.
	Refused(a netip.Addr) (bool, error)
	// Grant opens an address and port until a time, Expire closes those that
	// are over.
	Grant(a netip.Addr, port uint16, until time.Time) error
	Expire(now time.Time) error
}

// Exchange asks one name server one question.
type Exchange func(ctx context.Context, question *dns.Msg, server netip.AddrPort) (*dns.Msg, error)

// Resolver answers one payload.
type Resolver struct {
	Network payload.Network
	Filter  Filter
	// Servers are the name servers of the machine's network, best first.
	Servers func() []netip.AddrPort
	// Hidden are names that are not looked up for the payload: the control
	// plane's.
	Hidden   []string
	Exchange Exchange
	Now      func() time.Time

	// busy bounds the questions under way.
	busy chan struct{}
}

// What a payload can hold of it, and how long it waits.
const (
	maxBusy        = 64
	serverPatience = 2 * time.Second
	maxChain       = 8
	maxAddresses   = 32
	payloadBytes   = 1232
	expireInterval = 30 * time.Second
	// leastGrant is how long an address can be connected to at least: a program
	// looks up and connects, and takes its time in between.
	leastGrant = 5 * time.Minute
	mostGrant  = 24 * time.Hour
)

var errServers = errors.New("no name server answers")

// Serve answers on both until ctx ends.
func (r *Resolver) Serve(ctx context.Context, datagrams net.PacketConn, streams net.Listener) error {
	r.busy = make(chan struct{}, maxBusy)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { r.serveDNS(ctx, w, q) })
	servers := []*dns.Server{
		{PacketConn: datagrams, Handler: handler},
		{Listener: streams, Handler: handler, MaxTCPQueries: 16, IdleTimeout: func() time.Duration { return serverPatience }},
	}
	ended := make(chan error, len(servers)+1)
	for _, s := range servers {
		go func() { ended <- s.ActivateAndServe() }()
	}
	go func() { ended <- r.expire(ctx) }()
	err := <-ended
	return errors.Join(err, datagrams.Close(), streams.Close())
}

// expire takes grants back once they are over.
func (r *Resolver) expire(ctx context.Context) error {
	ticker := time.NewTicker(expireInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := r.Filter.Expire(r.Now()); err != nil {
				return err
			}
		}
	}
}

func (r *Resolver) serveDNS(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	var answer *dns.Msg
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
		answer = r.Answer(ctx, q)
	default:
		answer = reply(q, dns.RcodeServerFailure)
	}
	room := dns.MinMsgSize
	if w.RemoteAddr().Network() == "tcp" {
		room = dns.MaxMsgSize
	} else if o := q.IsEdns0(); o != nil {
		room = max(room, min(int(o.UDPSize()), payloadBytes))
	}
	answer.Truncate(room)
	w.WriteMsg(answer) //nolint:errcheck // who asked is gone
}

func reply(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, code)
	m.RecursionAvailable = true
	return m
}

// Answer answers a payload's question.
func (r *Resolver) Answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if q.Response || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return reply(q, dns.RcodeNotImplemented)
	}
	asked := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(asked.Name, "."))
	if slices.Contains(r.Hidden, name) {
		return reply(q, dns.RcodeRefused)
	}
	switch r.Network.Right {
	case payload.Listed:
		return r.listed(ctx, q, name)
	case payload.Open:
		return r.open(ctx, q, asked)
	}
	return reply(q, dns.RcodeRefused)
}

// listed looks up a listed name, and grants what it resolves to.
func (r *Resolver) listed(ctx context.Context, q *dns.Msg, name string) *dns.Msg {
	var ports []uint16
	for _, h := range r.Network.Hosts {
		if h.Name == name {
			ports = append(ports, h.Port)
		}
	}
	kind := q.Question[0].Qtype
	switch {
	case len(ports) == 0:
		return reply(q, dns.RcodeNameError)
	case kind != dns.TypeA && kind != dns.TypeAAAA:
		// There is the name, and nothing else to say of it.
		return reply(q, dns.RcodeSuccess)
	}
	got, err := r.ask(ctx, dns.Question{Name: dns.Fqdn(name), Qtype: kind, Qclass: dns.ClassINET})
	if err != nil {
		return reply(q, dns.RcodeServerFailure)
	}
	found, ttl := addresses(got, dns.Fqdn(name), kind)
	allowed, err := r.allowed(found)
	if err != nil {
		return reply(q, dns.RcodeServerFailure)
	}
	if len(found) > 0 && len(allowed) == 0 {
		return reply(q, dns.RcodeRefused)
	}
	until := r.Now().Add(min(max(time.Duration(ttl)*time.Second, leastGrant), mostGrant))
	answer := reply(q, got.Rcode)
	for _, a := range allowed {
		for _, port := range ports {
			if err := r.Filter.Grant(a, port, until); err != nil {
				return reply(q, dns.RcodeServerFailure)
			}
		}
		answer.Answer = append(answer.Answer, record(q.Question[0].Name, a, ttl))
	}
	return answer
}

// open looks up any name, and leaves out addresses that nobody reaches.
func (r *Resolver) open(ctx context.Context, q *dns.Msg, asked dns.Question) *dns.Msg {
	switch asked.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeANY:
		return reply(q, dns.RcodeRefused)
	}
	got, err := r.ask(ctx, asked)
	if err != nil {
		return reply(q, dns.RcodeServerFailure)
	}
	answer, left := reply(q, got.Rcode), 0
	for _, record := range got.Answer {
		a, ok := address(record)
		if !ok {
			answer.Answer = append(answer.Answer, record)
			continue
		}
		allowed, err := r.allowed([]netip.Addr{a})
		if err != nil {
			return reply(q, dns.RcodeServerFailure)
		}
		if len(allowed) == 0 {
			left++
			continue
		}
		answer.Answer = append(answer.Answer, record)
	}
	if left > 0 && !slices.ContainsFunc(answer.Answer, func(r dns.RR) bool { _, ok := address(r); return ok }) {
		return reply(q, dns.RcodeRefused)
	}
	answer.Ns = got.Ns
	return answer
}

// ask puts a question to the name servers in turn.
func (r *Resolver) ask(ctx context.Context, asked dns.Question) (*dns.Msg, error) {
	errs := []error{errServers}
	for _, server := range r.Servers() {
		question := &dns.Msg{Question: []dns.Question{asked}}
		question.Id, question.RecursionDesired = dns.Id(), true
		question.SetEdns0(payloadBytes, false)
		got, err := r.exchange(ctx, question, server)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", server, err))
		case got.Id != question.Id || !got.Response || len(got.Question) != 1 || !strings.EqualFold(got.Question[0].Name, asked.Name) || got.Question[0].Qtype != asked.Qtype:
			errs = append(errs, fmt.Errorf("%s answers another question", server))
		case got.Rcode != dns.RcodeSuccess && got.Rcode != dns.RcodeNameError:
			errs = append(errs, fmt.Errorf("%s: %s", server, dns.RcodeToString[got.Rcode]))
		default:
			return got, nil
		}
	}
	return nil, errors.Join(errs...)
}

func (r *Resolver) exchange(ctx context.Context, question *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, serverPatience)
	defer cancel()
	return r.Exchange(ctx, question, server)
}

func (r *Resolver) allowed(found []netip.Addr) ([]netip.Addr, error) {
	var allowed []netip.Addr
	for _, a := range found {
		refused, err := r.Filter.Refused(a)
		if err != nil {
			return nil, err
		}
		if !refused {
			allowed = append(allowed, a)
		}
	}
	return allowed, nil
}
