package foreign

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// Quote is a TPM's quote as files hold it.
type Quote struct {
	// Attest is a TPMS_ATTEST, Signature a TPMT_SIGNATURE, and AK the key in
	// any form of tpm.ParseAKAnyForm.
	Attest, Signature, AK []byte
	// EventLog and Registers explain the quoted digest; each may be nil.
	// Registers is text as ParseRegisters reads it.
	EventLog, Registers []byte
}

// TPM checks a TPM 2.0 quote with SHA-256, and that a log or registers are the
// ones quoted. What is asked for is its extra data. Nothing here says whose key
// it is. Errors are those of package tpm, attest.ErrRegisters and
// attest.ErrBinding.
func TPM(q Quote, a Asked) (*Result, error) {
	r, _, err := genuine("tpm-quote", q, a)
	if err != nil {
		return nil, err
	}
	r.warn("whose key it is is not looked at, nor whether its tpm is genuine")
	if a.Policy != nil {
		r.judged([]string{"a policy judges a machine: a tpm's quote alone shows none"}, nil)
	}
	return r, nil
}

// genuine checks a quote and answers whose key signed it.
func genuine(kind string, q Quote, a Asked) (*Result, *tpm.AK, error) {
	ak, shown, err := tpm.ParseAKAnyForm(q.AK)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := tpm.ParseQuote(ak, q.Attest, q.Signature)
	if err != nil {
		return nil, nil, err
	}
	r := &Result{Kind: kind, At: a.At, Policy: NotAsked}
	r.verified("quote is signed by the attestation key")
	if shown {
		r.verified("the key is restricted to what its tpm made, and fixed to it")
		r.fact("ak_name", "%x", ak.Name)
	} else {
		r.warn("the key comes without its attributes: whether it signs anything but what its tpm made is not shown")
	}
	r.quoteFacts(parsed)
	if err := r.compare("extra_data", parsed.ExtraData, a.Data); err != nil {
		return nil, nil, err
	}
	r.warn("whether the registers are those of a release was not looked at")
	return r, ak, r.explained(parsed, q)
}

func (r *Result) quoteFacts(q *tpm.Quote) {
	r.fact("reset_count", "%d", q.ResetCount)
	r.fact("restart_count", "%d", q.RestartCount)
	r.fact("firmware", "%#x", q.Firmware)
	for _, bank := range q.Banks {
		r.fact(fmt.Sprintf("selected_%#04x", bank.Hash), "%v", numbers(bank.Bitmap))
	}
	r.fact("pcr_digest", "%x", q.Digest)
}

func numbers(bitmap []byte) (all []int) {
	for n := range 8 * len(bitmap) {
		if bitmap[n/8]&(1<<(n%8)) != 0 {
			all = append(all, n)
		}
	}
	return all
}

// explained holds a log's and given registers against the quote's digest.
func (r *Result) explained(q *tpm.Quote, given Quote) error {
	var shown *attest.Registers
	if given.Registers != nil {
		registers, err := ParseRegisters(given.Registers)
		if err != nil {
			return err
		}
		if err := quoted(q, &registers, "registers"); err != nil {
			return err
		}
		r.verified("registers are the ones quoted")
		shown = &registers
	}
	if given.EventLog != nil {
		registers, err := r.replayed(q, given.EventLog, shown)
		if err != nil {
			return err
		}
		shown = registers
	}
	if shown == nil {
		r.warn("the quoted registers' values are not shown: only their digest is")
		return nil
	}
	for _, n := range selectedSHA256(q) {
		r.fact(fmt.Sprintf("pcr%d", n), "%s", shown[n])
	}
	return nil
}

// replayed replays a log, which has to explain the quote unless registers do:
// what runs after the firmware extends what no log of the firmware's has.
func (r *Result) replayed(q *tpm.Quote, log []byte, shown *attest.Registers) (*attest.Registers, error) {
	events, err := eventlog.Parse(log)
	if err != nil {
		return nil, err
	}
	registers := eventlog.Replay(events)
	if shown == nil {
		if err := quoted(q, &registers, "registers that the event log makes"); err != nil {
			return nil, err
		}
		r.verified("event log of %d events replays to the quoted registers", len(events))
		return &registers, nil
	}
	var differ []string
	for _, n := range selectedSHA256(q) {
		if registers[n] != shown[n] {
			differ = append(differ, fmt.Sprintf("pcr%d", n))
		}
	}
	if len(differ) > 0 {
		r.warn("event log of %d events does not explain %s", len(events), strings.Join(differ, ", "))
	} else {
		r.verified("event log of %d events replays to the quoted registers", len(events))
	}
	return shown, nil
}

// sha256Bank is TPM_ALG_SHA256.
const sha256Bank = 0x000b

// selectedSHA256 are the registers below 24 of a quote over the SHA-256 bank
// alone; none where it is over another.
func selectedSHA256(q *tpm.Quote) []int {
	if len(q.Banks) != 1 || q.Banks[0].Hash != sha256Bank || len(q.Banks[0].Bitmap) > 3 {
		return nil
	}
	return numbers(q.Banks[0].Bitmap)
}

func quoted(q *tpm.Quote, registers *attest.Registers, what string) error {
	selected := selectedSHA256(q)
	if selected == nil {
		return fmt.Errorf("%w: quote is not over the SHA-256 bank alone, which %s are of", attest.ErrRegisters, what)
	}
	h := sha256.New()
	for _, n := range selected {
		h.Write(registers[n][:])
	}
	if !bytes.Equal(h.Sum(nil), q.Digest) {
		return fmt.Errorf("%w: %s are not the ones quoted", attest.ErrRegisters, what)
	}
	return nil
}

// maxRegisters caps a text of registers, bytes.
const maxRegisters = 16 << 10

// ParseRegisters reads a line "number: value" for each register, the value in
// hex with or without 0x, as tpm2_pcrread writes them; a line that ends in a
// colon begins a bank, of which sha256 alone is read. Errors are
// attest.ErrMalformed.
func ParseRegisters(text []byte) (registers attest.Registers, err error) {
	if len(text) > maxRegisters {
		return registers, fmt.Errorf("%w: registers have %d bytes, at most %d", attest.ErrMalformed, len(text), maxRegisters)
	}
	reading, seen := true, map[int]bool{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if value == "" {
			reading = name == "sha256"
			continue
		}
		if !reading {
			continue
		}
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n >= len(registers) || seen[n] {
			return registers, fmt.Errorf("%w: registers: %.20q is no register's number, or there twice", attest.ErrMalformed, name)
		}
		digits := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(value, "0x"), "0X"))
		if err := registers[n].UnmarshalText([]byte(digits)); err != nil {
			return registers, fmt.Errorf("%w: registers: %d: %w", attest.ErrMalformed, n, err)
		}
		seen[n] = true
	}
	return registers, nil
}
