package egress

import (
	"github.com/cilium/ebpf/asm"

	"github.com/toolshed-cloud/shed/attest/payload"
)

// direction is where a packet goes.
type direction int

const (
	outbound direction = iota
	inbound
)

// Offsets in the kernel's struct __sk_buff and struct bpf_sock_addr
// (include/uapi/linux/bpf.h).
const (
	skbProtocol     = 16
	skbInterface    = 40
	addrIP4         = 4
	addrIP6         = 8
	addrPort        = 24
	addrType        = 32
	streamSocket    = 1
	loopbackDevice  = 1
	protocolTCP     = 6
	protocolUDP     = 17
	etherIPv4       = 0x0800
	etherIPv6       = 0x86dd
	header4         = 20
	header6         = 40
	flagSYN         = 0x02
	flagsSYNACK     = 0x12
	tcpFlags        = 13
	nameServicePort = 53
)

// Places on the stack, from its top. The tree's key is the length of a prefix
// and an address; that of grants and flows is the same address and ports.
const (
	stackTree    = -24
	stackAddress = stackTree + 4
	stackKey     = -48
	stackPorts   = stackKey + 16
	stackFlags   = -52
	stackOne     = -56
	stackHeader  = -104
)

// Registers through a program: the subject, the protocol, where the transport's
// header begins, and the other side's port.
const (
	subject   = asm.R6
	protocol  = asm.R7
	transport = asm.R8
	port      = asm.R9
)

// The verdicts: a packet or connection passes, or fails with EPERM.
const (
	deny  = "deny"
	allow = "allow"
)

func verdict(label string, value int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, value).WithSymbol(label), asm.Return()}
}

// places are where a packet has what it is judged by: the other side's address in
// each kind of header, and its port and this side's in the transport's.
type places struct{ four, six, remotePort, localPort int16 }

func (d direction) places() places {
	if d == inbound {
		return places{four: 12, six: 8, remotePort: 0, localPort: 2}
	}
	return places{four: 16, six: 24, remotePort: 2, localPort: 0}
}

// packets judges what a socket sends or gets.
func (f *Filter) packets(d direction) asm.Instructions {
	p := network(d.places())
	p = append(p,
		asm.JEq.Imm(protocol, protocolTCP, "known").WithSymbol("transport"),
		asm.JNE.Imm(protocol, protocolUDP, deny),
	)
	p = append(p, loadAt("known", transport, 0, stackHeader, 4)...)
	p = append(p,
		asm.LoadMem(asm.R0, asm.RFP, stackHeader+d.places().remotePort, asm.Half),
		asm.StoreMem(asm.RFP, stackPorts, asm.R0, asm.Half),
		asm.LoadMem(asm.R1, asm.RFP, stackHeader+d.places().localPort, asm.Half),
		asm.StoreMem(asm.RFP, stackPorts+2, asm.R1, asm.Half),
		asm.HostTo(asm.BE, asm.R0, asm.Half),
		asm.Mov.Reg(port, asm.R0),
	)
	p = append(p, f.place(d)...)
	if d == inbound {
		p = append(p, f.arriving()...)
	} else {
		p = append(p, f.leaving()...)
	}
	p = append(p, verdict(deny, 0)...)
	return append(p, verdict(allow, 1)...)
}

// network reads the header of either kind, and goes on at "transport" with the
// other side's address on the stack.
func network(at places) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(subject, asm.R1),
		asm.LoadMem(asm.R0, subject, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R0, int32(network16(etherIPv4)), "four"),
		asm.JEq.Imm(asm.R0, int32(network16(etherIPv6)), "six"),
		asm.Ja.Label(deny),
	}
	p = append(p, load("four", asm.Mov.Imm(asm.R2, 0), stackHeader, header4)...)
	p = append(p,
		// A header of this length has no options: a source route would lead
		// elsewhere than its address says. Nor is it a later fragment.
		asm.LoadMem(asm.R0, asm.RFP, stackHeader, asm.Byte),
		asm.JNE.Imm(asm.R0, 0x45, deny),
		asm.LoadMem(asm.R0, asm.RFP, stackHeader+6, asm.Half),
		asm.And.Imm(asm.R0, int32(network16(0x1fff))),
		asm.JNE.Imm(asm.R0, 0, deny),
		asm.LoadMem(protocol, asm.RFP, stackHeader+9, asm.Byte),
		asm.LoadMem(asm.R0, asm.RFP, stackHeader+at.four, asm.Word),
	)
	p = append(p, mapped(asm.R0)...)
	p = append(p, asm.Mov.Imm(transport, header4), asm.Ja.Label("transport"))
	p = append(p, load("six", asm.Mov.Imm(asm.R2, 0), stackHeader, header6)...)
	// Headers between this one and the transport's are refused as its protocol.
	p = append(p, asm.LoadMem(protocol, asm.RFP, stackHeader+6, asm.Byte))
	p = append(p, copyAddress(asm.RFP, stackHeader+at.six)...)
	return append(p, asm.Mov.Imm(transport, header6))
}

// place refuses by address, and lets loopback pass.
func (f *Filter) place(d direction) asm.Instructions {
	p := asm.Instructions{
		asm.StoreImm(asm.RFP, stackTree, 128, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackTree),
		asm.LoadMapPtr(asm.R1, f.refused.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "elsewhere"),
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Word),
		asm.JNE.Imm(asm.R0, kindLoopback, deny),
	}
	if d == inbound {
		return append(p,
			asm.LoadMem(asm.R0, subject, skbInterface, asm.Word),
			asm.JEq.Imm(asm.R0, loopbackDevice, allow),
			asm.Ja.Label(deny),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("elsewhere"),
		)
	}
	// The agent's own port is below those that a payload can listen on; the
	// machine's name service is for a payload that may look up names.
	p = append(p, asm.JGE.Imm(port, 1024, allow))
	if f.right != payload.Off {
		p = append(p, asm.JEq.Imm(port, nameServicePort, allow))
	}
	return append(p, asm.Ja.Label(deny), asm.Mov.Imm(asm.R0, 0).WithSymbol("elsewhere"))
}

// leaving judges a packet to an address that is not refused. Of TCP it is the
// one that begins a connection: no others come without it.
func (f *Filter) leaving() asm.Instructions {
	p := asm.Instructions{asm.JEq.Imm(protocol, protocolUDP, "judge")}
	p = append(p, loadAt("", transport, tcpFlags, stackFlags, 1)...)
	p = append(p,
		asm.LoadMem(asm.R0, asm.RFP, stackFlags, asm.Byte),
		asm.And.Imm(asm.R0, flagSYN),
		asm.JEq.Imm(asm.R0, 0, allow),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("judge"),
	)
	return append(p, f.granting(append(asm.Instructions{asm.JNE.Imm(protocol, protocolUDP, allow)}, f.remember()...))...)
}

// remember lets in what answers a datagram.
func (f *Filter) remember() asm.Instructions {
	return append(key(),
		asm.StoreImm(asm.RFP, stackOne, 1, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackKey),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stackOne),
		asm.Mov.Imm(asm.R4, 0),
		asm.LoadMapPtr(asm.R1, f.flows.FD()),
		asm.FnMapUpdateElem.Call(),
		asm.Ja.Label(allow),
	)
}

// arriving judges a packet from an address that is not refused.
func (f *Filter) arriving() asm.Instructions {
	p := asm.Instructions{asm.JEq.Imm(protocol, protocolUDP, "flow")}
	p = append(p, loadAt("", transport, tcpFlags, stackFlags, 1)...)
	p = append(p,
		asm.LoadMem(asm.R0, asm.RFP, stackFlags, asm.Byte),
		asm.And.Imm(asm.R0, flagsSYNACK),
		asm.JNE.Imm(asm.R0, flagSYN, allow),
		asm.Ja.Label(deny),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("flow"),
	)
	p = append(p, key()...)
	return append(p,
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackKey),
		asm.LoadMapPtr(asm.R1, f.flows.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, allow),
		asm.Ja.Label(deny),
	)
}

// granting goes on with what follows where the right has the address and port.
// Code that is never reached is refused by the kernel.
func (f *Filter) granting(then asm.Instructions) asm.Instructions {
	switch f.right {
	case payload.Open:
		return then
	case payload.Listed:
		return append(append(key(),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackKey),
			asm.LoadMapPtr(asm.R1, f.granted.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, deny),
		), then...)
	}
	return asm.Instructions{asm.Ja.Label(deny)}
}

// connections judges a stream before it begins, so that what is refused fails at
// once. The packets are judged all the same.
func (f *Filter) connections(four bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(subject, asm.R1),
		asm.LoadMem(asm.R0, subject, addrType, asm.Word),
		asm.JNE.Imm(asm.R0, streamSocket, allow),
	}
	if four {
		p = append(p, asm.LoadMem(asm.R0, subject, addrIP4, asm.Word))
		p = append(p, mapped(asm.R0)...)
	} else {
		p = append(p, copyAddress(subject, addrIP6)...)
	}
	p = append(p,
		asm.LoadMem(asm.R0, subject, addrPort, asm.Word),
		asm.StoreMem(asm.RFP, stackPorts, asm.R0, asm.Half),
		asm.HostTo(asm.BE, asm.R0, asm.Half),
		asm.Mov.Reg(port, asm.R0),
	)
	p = append(p, f.place(outbound)...)
	p = append(p, f.granting(asm.Instructions{asm.Ja.Label(allow)})...)
	p = append(p, verdict(deny, 0)...)
	return append(p, verdict(allow, 1)...)
}
