// Package eventlog reads the firmware's log of what it measured, in order to
// say which event made a register what it is.
//
// Invariants: a log explains and never decides: no event's type or data is
// authenticated, only its digest, and that only where the log replays to the
// quoted register. Size and counts are capped before anything is parsed, and
// what is quoted from a log is printable and short.
package eventlog

import (
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Caps on a log.
const (
	// MaxBytes is above what clouds' machines have, 20 to 45 KiB.
	MaxBytes = 128 << 10
	// MaxEvents is above the 200 or so that a machine with Secure Boot logs.
	MaxEvents = 2048
	// maxBanks is above the four that firmware knows.
	maxBanks = 8
)

// Event is one measurement in the SHA-256 bank.
type Event struct {
	// Register is the number that the log names.
	Register uint32
	// Type is what the log calls it (TCG PC Client Platform Firmware Profile
	// 1.06, section 10.4.1). It is not authenticated.
	Type uint32
	// Digest is what was extended.
	Digest attest.Digest
	// Data is what the log says was measured. Its digest is the event's for
	// some types alone.
	Data []byte
}

const (
	// sha256ID is TPM_ALG_SHA256.
	sha256ID = 0x000b
	// specSignature begins the data of the header.
	specSignature = "Spec ID Event03\x00"
)

// Parse reads a log in the crypto-agile format (TCG PC Client Platform
// Firmware Profile 1.06, sections 10.2.1 and 10.2.2) with a SHA-256 bank. Errors
// are attest.ErrMalformed.
func Parse(log []byte) ([]Event, error) {
	if len(log) > MaxBytes {
		return nil, malformed("it has %d bytes, at most %d", len(log), MaxBytes)
	}
	r := &reader{rest: log}
	sizes, err := r.header()
	if err != nil {
		return nil, err
	}
	var events []Event
	for len(r.rest) > 0 {
		if len(events) == MaxEvents {
			return nil, malformed("it has more than %d events", MaxEvents)
		}
		e, err := r.event(sizes)
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(events), err)
		}
		events = append(events, e)
	}
	return events, nil
}

// Replay is the registers that the events make of a TPM's reset.
func Replay(events []Event) attest.Registers {
	var registers attest.Registers
	registers[0] = startup(events)
	for _, e := range events {
		if e.extends() {
			registers[e.Register] = attest.Extend(registers[e.Register], e.Digest)
		}
	}
	return registers
}

// startup is what register 0 begins with: the locality from which the firmware
// started the TPM, in its last byte (TCG PC Client Platform Firmware Profile
// 1.06, section 10.4.5.3).
func startup(events []Event) attest.Digest {
	var register attest.Digest
	const signature = "StartupLocality\x00"
	for _, e := range events {
		if e.Type == noAction && e.Register == 0 && len(e.Data) == len(signature)+1 && string(e.Data[:len(signature)]) == signature {
			register[len(register)-1] = e.Data[len(signature)]
		}
	}
	return register
}

// noAction is EV_NO_ACTION, the one type that is logged and not extended.
const noAction = 3

// extends believes the type in one thing: where it lies, the replay differs
// from the quote and the log explains nothing.
func (e Event) extends() bool {
	return e.Type != noAction && e.Register < uint32(len(attest.Registers{}))
}

// reader reads little-endian structures.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n uint32) []byte {
	if r.err != nil || uint64(n) > uint64(len(r.rest)) {
		r.err = malformed("it ends in the midst of an event")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// header reads the first event, which is in the format of old and whose data
// names the banks: TCG_EfiSpecIDEvent. It answers the digests' sizes.
func (r *reader) header() (map[uint16]uint16, error) {
	register, kind := r.u32(), r.u32()
	r.take(20) // a SHA-1 that is zero
	spec := &reader{rest: r.take(r.u32())}
	if r.err != nil {
		return nil, r.err
	}
	if signature := spec.take(16); register != 0 || kind != noAction || string(signature) != specSignature {
		return nil, malformed("it does not begin with the header of the crypto-agile format")
	}
	spec.take(8) // class, version, errata, size of a pointer
	count := spec.u32()
	if spec.err != nil || count == 0 || count > maxBanks {
		return nil, malformed("its header names %d banks, want 1 to %d", count, maxBanks)
	}
	sizes := make(map[uint16]uint16, count)
	for range count {
		algorithm, size := spec.u16(), spec.u16()
		if _, twice := sizes[algorithm]; twice || spec.err != nil || size == 0 || size > 64 {
			return nil, malformed("its header names a bank twice, or of %d bytes", size)
		}
		sizes[algorithm] = size
	}
	if sizes[sha256ID] != uint16(len(attest.Digest{})) {
		return nil, malformed("it has no SHA-256 bank")
	}
	return sizes, nil
}

// event reads a TCG_PCR_EVENT2.
func (r *reader) event(sizes map[uint16]uint16) (Event, error) {
	e := Event{Register: r.u32(), Type: r.u32()}
	count := r.u32()
	if r.err == nil && (count == 0 || count > maxBanks) {
		return e, malformed("it has %d digests, want 1 to %d", count, maxBanks)
	}
	found := false
	for range count {
		algorithm := r.u16()
		size, known := sizes[algorithm]
		if r.err == nil && !known {
			return e, malformed("it has a digest of algorithm %#x, which the header does not name", algorithm)
		}
		digest := r.take(uint32(size))
		if r.err == nil && algorithm == sha256ID {
			e.Digest, found = attest.Digest(digest), true
		}
	}
	e.Data = r.take(r.u32())
	if r.err == nil && !found {
		return e, malformed("it has no SHA-256 digest")
	}
	return e, r.err
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: event log: %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}
