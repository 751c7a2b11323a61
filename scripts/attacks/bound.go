package main

import (
	"bytes"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// target is a good machine of one root with what accepts it.
type target struct {
	tb      testing.TB
	machine *verifiertest.Machine
	policy  func() verifier.Policy
	// another is a machine of the same kind, with roots of the same drawing.
	another *verifiertest.Machine
}

// input is fresh evidence of a machine.
func (t *target) input(m *verifiertest.Machine) verifiertest.Input {
	in := m.Input(t.tb)
	in.Evidence = bytes.Clone(in.Evidence)
	return in
}

// alter answers the good machine's evidence with one thing changed.
func (t *target) alter(change func(*evidence.Evidence)) verifiertest.Input {
	in := t.input(t.machine)
	e, err := evidence.Decode(in.Evidence)
	if err != nil {
		t.tb.Fatal(err)
	}
	change(e)
	if in.Evidence, err = e.Encode(); err != nil {
		t.tb.Fatal(err)
	}
	return in
}

// change is one alteration of evidence, for which it has to be refused.
type change struct {
	name   string
	reason reason
	make   func(*evidence.Evidence)
}

// bound are the attacks on what every root's evidence is bound to: each bound
// field, on each root.
func (t *target) bound() []attack {
	good := judged(t.input(t.machine).Appraise(t.policy()))
	var all []attack
	add := func(name string, r reason, in verifiertest.Input) {
		all = append(all, attack{name: name, reason: r, good: good, bad: judged(in.Appraise(t.policy()))})
	}
	for _, c := range []struct {
		name   string
		reason reason
		change func(*verifiertest.Input)
	}{
		{"replayed nonce", reason{kind: attest.ErrStale}, func(in *verifiertest.Input) { in.Nonce[0]++ }},
		{"relayed session (spki)", reason{kind: attest.ErrBinding, says: "key"}, func(in *verifiertest.Input) { in.Channel.SPKI = []byte("relay") }},
		{"relayed session (exporter)", reason{kind: attest.ErrBinding}, func(in *verifiertest.Input) { in.Channel.Exporter[0]++ }},
		{"reflected role", reason{kind: attest.ErrBinding, says: "role"}, func(in *verifiertest.Input) { in.Channel.Role = attest.RoleEnrol }},
	} {
		in := t.input(t.machine)
		c.change(&in)
		add(c.name, c.reason, in)
	}
	for _, c := range slices.Concat(t.changes(), t.quotes(), t.exchanges()) {
		add(c.name, c.reason, t.alter(c.make))
	}
	return append(all, t.batches()...)
}

// changes are alterations of the evidence's own fields.
func (t *target) changes() []change {
	binding, signature := reason{kind: attest.ErrBinding}, reason{kind: attest.ErrSignature}
	return []change{
		{"role rewritten", reason{kind: attest.ErrBinding, says: "role"}, func(e *evidence.Evidence) { e.Role = attest.RoleEnrol }},
		{"nonce rewritten", reason{kind: attest.ErrStale}, func(e *evidence.Evidence) { e.Nonce[5]++ }},
		{"configuration digest swapped", binding, func(e *evidence.Evidence) { e.Config[0]++ }},
		{"another's claim", binding, func(e *evidence.Evidence) { e.Claim = attest.Digest{1} }},
		{"wider batch", binding, func(e *evidence.Evidence) { e.Batch = evidence.Batch{Count: 2, Path: []attest.Digest{{}}} }},
		{"index outside the batch", reason{kind: attest.ErrMalformed, says: "index"}, func(e *evidence.Evidence) { e.Batch.Index = 1 }},
		{"fewer registers shown", reason{kind: attest.ErrRegisters, says: "12 register values"}, func(e *evidence.Evidence) { e.TPM.Registers = e.TPM.Registers[:12] }},
		{"a register's value", reason{kind: attest.ErrRegisters, says: "not the ones quoted"}, func(e *evidence.Evidence) { e.TPM.Registers[4][0]++ }},
		{"quote's signature", signature, func(e *evidence.Evidence) { e.TPM.Signature[len(e.TPM.Signature)-1] ^= 1 }},
		{"unrestricted attestation key", reason{kind: attest.ErrIdentity, says: "restricted"}, func(e *evidence.Evidence) { e.TPM.AKPublic[5] ^= 1 }},
		{"unknown version", reason{kind: attest.ErrMalformed, says: "version"}, func(e *evidence.Evidence) { e.Version++ }},
		{"unknown binding", reason{kind: attest.ErrMalformed, says: "binding"}, func(e *evidence.Evidence) { e.Binding++ }},
		{"event log oversized", reason{kind: attest.ErrMalformed, says: "event_log"}, func(e *evidence.Evidence) {
			e.EventLog = make([]byte, evidence.MaxEventLog+1)
		}},
	}
}

// exchanges put another machine's parts in.
func (t *target) exchanges() []change {
	other := func() *evidence.Evidence {
		e, err := evidence.Decode(t.input(t.another).Evidence)
		if err != nil {
			t.tb.Fatal(err)
		}
		return e
	}
	all := []change{
		{"another's attestation key", reason{kind: attest.ErrSignature}, func(e *evidence.Evidence) { e.TPM.AKPublic = other().TPM.AKPublic }},
		{"another's quote", reason{kind: attest.ErrSignature}, func(e *evidence.Evidence) {
			o := other()
			e.TPM.Quote, e.TPM.Signature = o.TPM.Quote, o.TPM.Signature
		}},
	}
	if len(t.machine.Reporters) > 0 || t.machine.Paravisor != nil {
		all = append(all,
			change{"foreign machine vouching", reason{kind: attest.ErrBinding}, func(e *evidence.Evidence) { e.Reports = other().Reports }},
			change{"report left out", reason{kind: attest.ErrBinding}, func(e *evidence.Evidence) { e.Reports = nil }},
			change{"report twice", reason{kind: attest.ErrMalformed, says: "repeated"}, func(e *evidence.Evidence) { e.Reports = append(e.Reports, e.Reports[0]) }},
		)
	}
	return all
}

// refused is one attack whose twin is the target's own good evidence.
func (t *target) refused(name string, r reason, bad outcome) attack {
	return attack{name: name, reason: r, bad: bad, good: judged(t.input(t.machine).Appraise(t.policy()))}
}

// under appraises good evidence under a changed policy, which is the attack's
// other side: what must be refused is the machine, and the policy says why.
func (t *target) under(name string, r reason, change func(*verifier.Policy)) attack {
	p := t.policy()
	change(&p)
	return t.refused(name, r, judged(t.input(t.machine).Appraise(p)))
}
