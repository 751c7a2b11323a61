// Package egress holds a payload to its network right, in the kernel: two programs
// on the payload's control group judge each packet that one of its sockets sends
// or gets, and a third each connection before it begins (docs/decisions/0076).
//
// Invariants: a filter that is not loaded is an error, never a payload without
// one; an address that was refused stays refused until the machine is off, and no
// right and no answer of a name server grants it; what arrives unasked reaches no
// socket of the payload's but from its own machine's loopback; the only protocols
// are TCP and UDP, without options that lead elsewhere.
package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/toolshed-cloud/shed/attest/payload"
)

// The sizes of the kernel's tables. Flows are those of UDP, of which the oldest
// are forgotten.
const (
	maxRefused = 4096
	maxGranted = 4096
	maxFlows   = 1024
)

// A refused prefix is of one of these kinds.
const (
	kindNever    = 1
	kindLoopback = 2
)

// loopback are the payload's own addresses.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// ErrFull says that the kernel's table of granted addresses is full.
var ErrFull = errors.New("too many addresses are granted at once")

// Filter is what a payload may reach, of one control group.
type Filter struct {
	right                      payload.Right
	refused, granted, flows    *ebpf.Map
	egress, ingress, four, six *ebpf.Program
	links                      []link.Link

	// mu guards until, which says when a grant ends.
	mu    sync.Mutex
	until map[endpoint]time.Time
}

// endpoint is a granted address and port; the kernel's key of it is encode's.
type endpoint struct {
	address netip.Addr
	port    uint16
}

func (e endpoint) encode() []byte {
	b := e.address.As16()
	return binary.BigEndian.AppendUint16(b[:], e.port)
}

// New loads a filter for a right. It lets nothing pass but loopback until a Keeper
// has told it what to refuse besides payload.Never, and holds nobody until Attach.
// Errors are the kernel's.
func New(right payload.Right) (*Filter, error) {
	f := &Filter{right: right, until: map[endpoint]time.Time{}}
	if err := f.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("loading the payload's filter: %w", err), f.Close())
	}
	if err := f.Refuse(append(payload.Never(), all)...); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Filter) load() (err error) {
	for _, m := range []struct {
		into **ebpf.Map
		spec ebpf.MapSpec
	}{
		// The tree's keys are a prefix's length and an address, both kinds of
		// which are IPv6 ones: those of IPv4 are mapped (RFC 4291).
		{&f.refused, ebpf.MapSpec{Name: "refused", Type: ebpf.LPMTrie, KeySize: 20, ValueSize: 4, MaxEntries: maxRefused, Flags: noPreallocation}},
		{&f.granted, ebpf.MapSpec{Name: "granted", Type: ebpf.Hash, KeySize: 18, ValueSize: 4, MaxEntries: maxGranted}},
		{&f.flows, ebpf.MapSpec{Name: "flows", Type: ebpf.LRUHash, KeySize: 20, ValueSize: 4, MaxEntries: maxFlows}},
	} {
		if *m.into, err = ebpf.NewMap(&m.spec); err != nil {
			return err
		}
	}
	for _, p := range []struct {
		into **ebpf.Program
		spec ebpf.ProgramSpec
	}{
		{&f.egress, ebpf.ProgramSpec{Name: "egress", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, Instructions: f.packets(outbound)}},
		{&f.ingress, ebpf.ProgramSpec{Name: "ingress", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, Instructions: f.packets(inbound)}},
		{&f.four, ebpf.ProgramSpec{Name: "connect4", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, Instructions: f.connections(true)}},
		{&f.six, ebpf.ProgramSpec{Name: "connect6", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, Instructions: f.connections(false)}},
	} {
		p.spec.License = "GPL"
		if *p.into, err = ebpf.NewProgram(&p.spec); err != nil {
			return err
		}
	}
	return nil
}

// noPreallocation is BPF_F_NO_PREALLOC, which the kernel wants of such a tree.
const noPreallocation = 1

// Attach holds every process of a control group, given by its directory, from
// now on. Errors are the kernel's; what was attached by then is let go by Close.
func (f *Filter) Attach(group string) error {
	for _, a := range []struct {
		program *ebpf.Program
		to      ebpf.AttachType
	}{
		{f.egress, ebpf.AttachCGroupInetEgress}, {f.ingress, ebpf.AttachCGroupInetIngress},
		{f.four, ebpf.AttachCGroupInet4Connect}, {f.six, ebpf.AttachCGroupInet6Connect},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: a.to, Program: a.program})
		if err != nil {
			return fmt.Errorf("attaching the payload's filter: %w", err)
		}
		f.links = append(f.links, l)
	}
	return nil
}

// Refuse keeps the payload from prefixes for good, and from the IPv6 ones that
// lead to them. Errors are the kernel's.
func (f *Filter) Refuse(prefixes ...netip.Prefix) error {
	for _, p := range payload.Refuse(append([]netip.Prefix(nil), prefixes...)) {
		if err := f.refused.Put(treeKey(p), uint32(kindNever)); err != nil {
			return fmt.Errorf("refusing %s to the payload: %w", p, err)
		}
	}
	for _, p := range loopback {
		if err := f.refused.Put(treeKey(p), uint32(kindLoopback)); err != nil {
			return fmt.Errorf("leaving the payload its loopback: %w", err)
		}
	}
	return nil
}

// Refused says whether an address is refused: the filter's own table is asked.
// Errors are the kernel's.
func (f *Filter) Refused(a netip.Addr) (bool, error) {
	var kind uint32
	err := f.refused.Lookup(treeKey(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())), &kind)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("looking up %s: %w", a, err)
	}
	return true, nil
}

// Grant lets the payload connect to an address and port until a time; the zero
// time is for good. A refused address stays refused. The error is ErrFull or the
// kernel's.
func (f *Filter) Grant(a netip.Addr, port uint16, until time.Time) error {
	e := endpoint{a.Unmap(), port}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, there := f.until[e]
	if !there {
		if len(f.until) >= maxGranted {
			return ErrFull
		}
		if err := f.granted.Put(e.encode(), uint32(1)); err != nil {
			return fmt.Errorf("granting %s: %w", a, err)
		}
	}
	if !there || !old.IsZero() && (until.IsZero() || until.After(old)) {
		f.until[e] = until
	}
	return nil
}

// Expire takes back what was granted until now or before. What is connected by
// then stays so. Errors are the kernel's.
func (f *Filter) Expire(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e, until := range f.until {
		if until.IsZero() || until.After(now) {
			continue
		}
		if err := f.granted.Delete(e.encode()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("taking back %s: %w", e.address, err)
		}
		delete(f.until, e)
	}
	return nil
}

// Close lets go of the control group.
func (f *Filter) Close() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	for _, p := range []*ebpf.Program{f.egress, f.ingress, f.four, f.six} {
		errs = append(errs, p.Close())
	}
	for _, m := range []*ebpf.Map{f.refused, f.granted, f.flows} {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// treeKey is a prefix as the tree has it.
func treeKey(p netip.Prefix) []byte {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(bits))
	address := p.Masked().Addr().As16()
	return append(b, address[:]...)
}
