package main

import (
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// leaf is what evidence answers.
func (t *target) leaf(e *evidence.Evidence) attest.Digest {
	return t.machine.Channel.Leaf(e.Nonce, e.Config, e.Claim)
}

// quotes are the TPM's own, for this very question, of other registers than
// are wanted.
func (t *target) quotes() []change {
	others := reason{kind: attest.ErrRegisters, says: "covers other registers"}
	signed := func(e *evidence.Evidence, selection tpm2.TPMLPCRSelection) {
		root, err := e.Batch.Root(t.leaf(e))
		if err == nil {
			e.TPM.Quote, e.TPM.Signature, err = t.machine.QuoteOver(selection, attest.QuoteData(e.Batch.Count, root, e.ReportsDigest()))
		}
		if err != nil {
			t.tb.Fatal(err)
		}
	}
	without := func(register uint8) []uint8 {
		return slices.DeleteFunc(slices.Clone(tpm.Selection[:]), func(r uint8) bool { return r == register })
	}
	return []change{
		{"wrong bank in the quote", others, func(e *evidence.Evidence) {
			selection := tpm.PCRSelection()
			selection.PCRSelections[0].Hash = tpm2.TPMAlgSHA384
			signed(e, selection)
		}},
		{"second bank in the quote", others, func(e *evidence.Evidence) {
			selection := tpm.PCRSelection()
			second := selection.PCRSelections[0]
			second.Hash = tpm2.TPMAlgSHA384
			selection.PCRSelections = append(selection.PCRSelections, second)
			signed(e, selection)
		}},
		{"fewer registers in the quote", others, func(e *evidence.Evidence) {
			signed(e, tpm.SelectSHA256(without(12)...))
			at := slices.Index(tpm.Selection[:], 12)
			e.TPM.Registers = slices.Delete(slices.Clone(e.TPM.Registers), at, at+1)
		}},
		{"another register in the quote", others, func(e *evidence.Evidence) {
			signed(e, tpm.SelectSHA256(append(without(12), 16)...))
		}},
	}
}

// batches are the attacks on a place in a batch, as several callers at once
// have one. Each is quoted for what it shows.
func (t *target) batches() []attack {
	others := []attest.Digest{attest.Sum([]byte("another caller's leaf")), attest.Sum([]byte("a third's"))}
	in := t.input(t.machine)
	e, err := evidence.Decode(in.Evidence)
	if err != nil {
		t.tb.Fatal(err)
	}
	own := t.leaf(e)
	honest := evidence.NewTree(append(others, own))
	// Of three leaves the last moves up alone; a tree that doubles it has the
	// root of one with four leaves.
	doubled := evidence.NewTree(append(others, own, own))
	path := doubled.Place(2).Path
	good := t.quotedAs(in, 3, honest.Root(), honest.Place(2))
	place := func(name string, r reason, count uint32, root attest.Digest, shown evidence.Batch) attack {
		return attack{name: name, reason: r, good: good, bad: t.quotedAs(in, count, root, shown)}
	}
	return []attack{
		place("a Merkle path for another leaf", reason{kind: attest.ErrBinding}, 3, honest.Root(), honest.Place(1)),
		place("odd node duplicated", reason{kind: attest.ErrMalformed, says: "nodes too many"}, 3, doubled.Root(), evidence.Batch{Count: 3, Index: 2, Path: path}),
		place("odd node duplicated, as of four leaves", reason{kind: attest.ErrBinding}, 3, doubled.Root(), evidence.Batch{Count: 4, Index: 2, Path: path}),
	}
}

// quotedAs has reports and quote say that this is the root of so many leaves,
// and shows a place.
func (t *target) quotedAs(in verifiertest.Input, count uint32, root attest.Digest, shown evidence.Batch) outcome {
	e, err := evidence.Decode(slices.Clone(in.Evidence))
	if err != nil {
		t.tb.Fatal(err)
	}
	ak, err := tpm.ParseAK(e.TPM.AKPublic)
	if err != nil {
		t.tb.Fatal(err)
	}
	for i, r := range t.machine.Reporters {
		if e.Reports[i], err = r.Report(attest.ReportData(ak.Name, count, root)); err != nil {
			t.tb.Fatal(err)
		}
	}
	e.Batch = shown
	if e.TPM.Quote, e.TPM.Signature, err = t.machine.QuoteOver(tpm.PCRSelection(), attest.QuoteData(count, root, e.ReportsDigest())); err != nil {
		t.tb.Fatal(err)
	}
	if in.Evidence, err = e.Encode(); err != nil {
		t.tb.Fatal(err)
	}
	return judged(in.Appraise(t.policy()))
}
