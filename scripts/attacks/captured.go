package main

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// captures are what booted machines proved to their owner's client, as
// TestVM… save them where SHED_CAPTURE names a directory: real firmware, kernel
// and agent, an emulated TPM. Keys and roots are of the runs that made them.
//
//go:embed testdata/captured
var captures embed.FS

const (
	capturedIn = "testdata/captured"
	goodOne    = "MainJob"
)

// captured is one of them with who accepts it.
type captured struct {
	name   string
	bundle *bundle.Bundle
	terms  bundle.Terms
	// activation is the machine's answer to a challenge whose secret is zero;
	// only good machines have one.
	activation []byte
}

func readCaptured(name string) (*captured, error) {
	read := func(file string) ([]byte, error) { return captures.ReadFile(path.Join(capturedIn, name, file)) }
	encoded, err := read("bundle")
	if err != nil {
		return nil, fmt.Errorf("reading a capture: %w", err)
	}
	b, err := bundle.Decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	text, err := read("policy.yaml")
	if err != nil {
		return nil, fmt.Errorf("reading a capture: %w", err)
	}
	p, err := policy.Parse(text, read)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.Log.TimeFloor = b.SavedAt
	activation, _ := read("activation") //nolint:errcheck // no answer is an answer that does not fit
	return &captured{name: name, bundle: b, activation: activation, terms: bundle.Terms{
		Verifier: new(verifier.Verifier), Keys: p.ReleaseKeys, Log: p.Log, At: b.SavedAt, Policy: p.Verifier,
	}}, nil
}

func (c *captured) judge(b *bundle.Bundle, t bundle.Terms) outcome {
	judged, err := b.Judge(t)
	return outcome{accepted: err == nil && judged.Result.Accepted(), err: err, result: judged.Result}
}

// altered is the capture with its evidence changed.
func (c *captured) altered(change func(*evidence.Evidence)) (*bundle.Bundle, error) {
	e, err := evidence.Decode(slices.Clone(c.bundle.Evidence))
	if err != nil {
		return nil, err
	}
	change(e)
	b := *c.bundle
	b.Evidence, err = e.Encode()
	return &b, err
}

// onCaptured are the attacks on machines that booted.
func onCaptured(tb testing.TB) ([]attack, error) {
	good, err := readCaptured(goodOne)
	if err != nil {
		return nil, err
	}
	twin := good.judge(good.bundle, good.terms)
	var all []attack
	for _, c := range []struct {
		name    string
		what    string
		says    string
		differs []string
	}{
		{"AlteredByte-kernel", "one byte of the kernel", "pcr4", []string{"pcr4", "pcr11"}},
		{"AlteredByte-command_line", "one byte of the command line", "pcr9", []string{"pcr4", "pcr9", "pcr11"}},
		{"AlteredByte-initrd", "one byte of the initrd", "pcr9", []string{"pcr4", "pcr9", "pcr11"}},
		{"AlteredByte-payload", "one byte of the payload", "pcr9", []string{"pcr4", "pcr9", "pcr11"}},
		{"OptionROM", "an option ROM", "OptionRom", []string{"pcr2"}},
		{"Driver", "a driver in Driver0000", "DRIVER.EFI", []string{"pcr2"}},
		{"AddedTable", "an added ACPI table", "pcr1", []string{"pcr1"}},
		{"ChangedTable", "changed ACPI tables", "pcr1", []string{"pcr1"}},
		{"AnotherShape", "another shape of machine", "pcr1", []string{"pcr1"}},
		{"AnotherFirmware", "another firmware", "pcr0", []string{"pcr0", "pcr1", "pcr7"}},
	} {
		bad, err := readCaptured(c.name)
		if err != nil {
			return nil, err
		}
		all = append(all, attack{
			name: c.what, good: twin, bad: bad.judge(bad.bundle, bad.terms),
			reason: reason{kind: attest.ErrRegisters, says: c.says, differs: c.differs},
		})
	}
	more, err := onTerms(good, twin)
	if err != nil {
		return nil, err
	}
	others, err := onOthers(good)
	if err != nil {
		return nil, err
	}
	logs, err := onLogs(good)
	if err != nil {
		return nil, err
	}
	signed, err := onSignedAnew(tb, good)
	return slices.Concat(all, more, others, logs, signed), err
}

// onTerms are the good machine's evidence under what somebody else accepts, or
// with a field changed.
func onTerms(good *captured, twin outcome) ([]attack, error) {
	other, err := readCaptured("OptionROM")
	if err != nil {
		return nil, err
	}
	all, err := onReleaseLog(good, other, twin)
	if err != nil {
		return nil, err
	}
	add := func(name string, r reason, b *bundle.Bundle, t bundle.Terms) {
		all = append(all, attack{name: name, reason: r, good: twin, bad: good.judge(b, t)})
	}
	older := good.terms
	older.Policy.EpochFloor = 1 << 40
	add("an older epoch", reason{kind: attest.ErrRelease, says: "epoch"}, good.bundle, older)
	foreign := good.terms
	foreign.Policy.TrustAnchors = other.terms.Policy.TrustAnchors
	add("another authority's machine", reason{kind: attest.ErrIdentity}, good.bundle, foreign)
	replayed := *good.bundle
	replayed.Nonce[0]++
	add("a replayed nonce", reason{kind: attest.ErrStale}, &replayed, good.terms)
	for _, c := range []struct {
		name   string
		reason reason
		change func(*attest.Channel)
	}{
		{"a relayed session (exporter)", onBinding("quote answers something else"), func(ch *attest.Channel) { ch.Exporter[0]++ }},
		{"a relayed session (spki)", onBinding("key"), func(ch *attest.Channel) { ch.SPKI = other.bundle.Channel.SPKI }},
		{"a reflected role", onBinding("role"), func(ch *attest.Channel) { ch.Role = attest.RoleEnrol }},
	} {
		relayed := *good.bundle
		c.change(&relayed.Channel)
		add(c.name, c.reason, &relayed, good.terms)
	}
	for _, c := range []change{
		{"fewer registers", reason{kind: attest.ErrRegisters}, func(e *evidence.Evidence) { e.TPM.Registers = e.TPM.Registers[:5] }},
		{"another configuration", reason{kind: attest.ErrBinding}, func(e *evidence.Evidence) { e.Config[0]++ }},
		{"another's claim", reason{kind: attest.ErrBinding}, func(e *evidence.Evidence) { e.Claim = attest.Digest{1} }},
		{"another release's manifest", reason{kind: attest.ErrSignature}, func(e *evidence.Evidence) {
			e.ReferenceValues.Manifest = append(slices.Clone(e.ReferenceValues.Manifest), ' ')
		}},
		{"no release", reason{kind: attest.ErrRelease}, func(e *evidence.Evidence) { e.ReferenceValues = evidence.ReferenceValues{} }},
		{"event log oversized", reason{kind: attest.ErrMalformed, says: "event_log"}, func(e *evidence.Evidence) {
			e.EventLog = make([]byte, evidence.MaxEventLog+1)
		}},
	} {
		b, err := good.altered(c.make)
		if err != nil {
			return nil, err
		}
		add(c.name, c.reason, b, good.terms)
	}
	return all, nil
}

// onLogs have a bad machine's log lie: it is refused for its register all the
// same, and the log is not believed. A good machine with such a log is good.
func onLogs(good *captured) ([]attack, error) {
	bad, err := readCaptured("OptionROM")
	if err != nil {
		return nil, err
	}
	var all []attack
	for name, lie := range map[string]func([]byte) []byte{
		"event log truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"event log extended":  func(b []byte) []byte { return append(b, b[len(b)-200:]...) },
		"event log reordered": func(b []byte) []byte { return swapEvents(b) },
		"event log retyped":   func(b []byte) []byte { return retypeEvents(b) },
		"event log left out":  func([]byte) []byte { return nil },
		"a good machine's event log": func([]byte) []byte {
			e, _ := evidence.Decode(good.bundle.Evidence) //nolint:errcheck // it decoded before
			return e.EventLog
		},
	} {
		change := func(e *evidence.Evidence) { e.EventLog = lie(slices.Clone(e.EventLog)) }
		attacked, err := bad.altered(change)
		if err != nil {
			return nil, err
		}
		twin, err := good.altered(change)
		if err != nil {
			return nil, err
		}
		o := bad.judge(attacked, bad.terms)
		r := reason{kind: attest.ErrRegisters, says: "pcr2", differs: []string{"pcr2"}, never: "OptionRom"}
		all = append(all, attack{name: name, reason: r, good: good.judge(twin, good.terms), bad: o})
	}
	if len(all) == 0 {
		return nil, errors.New("no case")
	}
	return all, nil
}

// swapEvents exchanges two neighbouring digests of register 2's events, retype
// makes every event one that extends nothing. Both work on the raw log, where
// an event begins with its register and its type.
func swapEvents(log []byte) []byte { return rewrite(log, true) }

func retypeEvents(log []byte) []byte { return rewrite(log, false) }

func rewrite(log []byte, swap bool) []byte {
	events, err := eventlog.Parse(log)
	if err != nil {
		return nil
	}
	var of []int
	for i, e := range events {
		if e.Register == 2 {
			of = append(of, i)
		}
	}
	if len(of) < 2 && swap {
		return nil
	}
	if swap {
		events[of[0]], events[of[len(of)-1]] = events[of[len(of)-1]], events[of[0]]
	} else {
		for _, i := range of {
			events[i].Type = 3
		}
	}
	return eventlog.Encode(events)
}
