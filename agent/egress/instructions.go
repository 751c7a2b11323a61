package egress

import (
	"encoding/binary"
	"math/bits"

	"github.com/cilium/ebpf/asm"
)

// key copies the address to where the ports stand behind it.
func key() asm.Instructions {
	var p asm.Instructions
	for i := int16(0); i < 16; i += 4 {
		p = append(p, asm.LoadMem(asm.R0, asm.RFP, stackAddress+i, asm.Word), asm.StoreMem(asm.RFP, stackKey+i, asm.R0, asm.Word))
	}
	return p
}

// mapped stores an IPv4 address as an IPv6 one.
func mapped(r asm.Register) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, stackAddress, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackAddress+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackAddress+8, int64(int32(network32(0xffff))), asm.Word),
		asm.StoreMem(asm.RFP, stackAddress+12, r, asm.Word),
	}
}

func copyAddress(from asm.Register, at int16) asm.Instructions {
	var p asm.Instructions
	for i := int16(0); i < 16; i += 4 {
		p = append(p, asm.LoadMem(asm.R0, from, at+i, asm.Word), asm.StoreMem(asm.RFP, stackAddress+i, asm.R0, asm.Word))
	}
	return p
}

// loadAt copies bytes from an offset behind where a register says.
func loadAt(label string, base asm.Register, offset, to, n int32) asm.Instructions {
	p := load(label, asm.Mov.Reg(asm.R2, base), to, n)
	if offset == 0 {
		return p
	}
	return append(asm.Instructions{p[0], asm.Add.Imm(asm.R2, offset)}, p[1:]...)
}

// load copies bytes of the packet to the stack, or denies.
func load(label string, from asm.Instruction, to, n int32) asm.Instructions {
	if label != "" {
		from = from.WithSymbol(label)
	}
	return asm.Instructions{
		from,
		asm.Mov.Reg(asm.R1, subject),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, to),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, deny),
	}
}

// network16 and network32 are a number as it lies in a packet and a program
// reads it.
func network16(n uint16) uint16 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return bits.ReverseBytes16(n)
	}
	return n
}

func network32(n uint32) uint32 {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return bits.ReverseBytes32(n)
	}
	return n
}
