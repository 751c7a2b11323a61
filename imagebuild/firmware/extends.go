package firmware

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrMeasure says that it is not known what the firmware measures.
var ErrMeasure = errors.New("firmware could not be measured")

// The registers that the firmware alone decides on, before any release runs.
var watched = [...]int{0, 1, 7}

// The commands of a TPM (TPM 2.0 Part 2, section 6.5.2) that change a register.
const (
	commandExtend         = 0x182
	commandEvent          = 0x13c
	commandReset          = 0x13d
	commandEventCompleted = 0x185
)

// banks are the ones that are replayed, by the TPM's number of the algorithm.
var banks = map[uint16]crypto.Hash{0x000b: crypto.SHA256, 0x000c: crypto.SHA384}

// digestSizes are those of every algorithm that a command may carry.
var digestSizes = map[uint16]int{0x0004: 20, 0x000b: 32, 0x000c: 48, 0x000d: 64, 0x0012: 32}

// recorder replays the extends of watched.
type recorder struct {
	values map[crypto.Hash]map[int][]byte
	// closed holds the registers that the firmware has closed with a separator.
	closed map[int]bool
}

func newRecorder() *recorder {
	r := &recorder{values: map[crypto.Hash]map[int][]byte{}, closed: map[int]bool{}}
	for _, bank := range banks {
		r.values[bank] = map[int][]byte{}
		for _, register := range watched {
			r.values[bank][register] = make([]byte, bank.Size())
		}
	}
	return r
}

// done reports whether every watched register is closed.
func (r *recorder) done() bool { return len(r.closed) == len(watched) }

// registers are the values of a bank by number, in hex.
func (r *recorder) registers(bank crypto.Hash) map[string]string {
	out := map[string]string{}
	for register, value := range r.values[bank] {
		out[strconv.Itoa(register)] = hex.EncodeToString(value)
	}
	return out
}

// command takes one command as the TPM got it. Errors match ErrMeasure.
func (r *recorder) command(b []byte) error {
	if len(b) < 10 || int64(binary.BigEndian.Uint32(b[2:])) != int64(len(b)) {
		return fmt.Errorf("%w: a command of %d bytes", ErrMeasure, len(b))
	}
	switch code := binary.BigEndian.Uint32(b[6:]); code {
	case commandExtend:
		return r.extends(b[10:])
	case commandEvent, commandReset, commandEventCompleted:
		return fmt.Errorf("%w: it changes a register by command %#x", ErrMeasure, code)
	}
	return nil
}

// extends reads TPM2_PCR_Extend (TPM 2.0 Part 3, section 22.2): the register,
// an authorization, and a digest for each bank.
func (r *recorder) extends(b []byte) error {
	cut := fmt.Errorf("%w: an extend is cut off", ErrMeasure)
	if len(b) < 8 {
		return cut
	}
	register, authorization := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if b = b[8:]; int64(len(b)) < int64(authorization)+4 {
		return cut
	}
	b = b[authorization:]
	count := binary.BigEndian.Uint32(b)
	b = b[4:]
	for range count {
		if len(b) < 2 {
			return cut
		}
		alg := binary.BigEndian.Uint16(b)
		size, known := digestSizes[alg]
		if !known || len(b) < 2+size {
			return fmt.Errorf("%w: an extend with algorithm %#x of %d bytes", ErrMeasure, alg, len(b)-2)
		}
		r.extend(banks[alg], int(register), b[2:2+size])
		b = b[2+size:]
	}
	return nil
}

func (r *recorder) extend(bank crypto.Hash, register int, digest []byte) {
	value, ok := r.values[bank][register]
	if !ok {
		return
	}
	h := bank.New()
	h.Write(value)
	h.Write(digest)
	r.values[bank][register] = h.Sum(nil)
	h.Reset()
	h.Write([]byte{0, 0, 0, 0})
	if bytes.Equal(digest, h.Sum(nil)) {
		r.closed[register] = true
	}
}

// follow reads swtpm's log of level 20 until every watched register is closed.
// Each command stands there as "SWTPM_IO_Read: length N" and lines of hex.
func (r *recorder) follow(log io.Reader) error {
	lines := bufio.NewScanner(log)
	missing := 0
	var command []byte
	for !r.done() && lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if length, begins := strings.CutPrefix(line, "SWTPM_IO_Read: length "); begins {
			n, err := strconv.Atoi(length)
			if err != nil || n < 0 || n > 4096 || missing > 0 {
				return fmt.Errorf("%w: swtpm's log says %.80q", ErrMeasure, line)
			}
			missing, command = n, nil
			continue
		}
		if missing == 0 {
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil || len(b) > missing {
			return fmt.Errorf("%w: swtpm's log says %.80q", ErrMeasure, line)
		}
		command = append(command, b...)
		if missing -= len(b); missing > 0 {
			continue
		}
		if err := r.command(command); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: reading swtpm's log: %w", ErrMeasure, err)
	}
	if !r.done() {
		return fmt.Errorf("%w: it ended before registers %v were closed", ErrMeasure, watched)
	}
	return nil
}
