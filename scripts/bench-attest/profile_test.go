package main

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// BenchmarkJudge is the whole of what is measured, for a profile.
func BenchmarkJudge(b *testing.B) {
	m := verifiertest.Boot(b)
	m.TPM.EventLog = make([]byte, eventLogBytes)
	terms, err := logged(b, m, m.Policy())
	if err != nil {
		b.Fatal(err)
	}
	in := m.Input(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := accept(terms, in); err != nil {
			b.Fatal(err)
		}
	}
}
