package main

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onClaimed are the attacks on what a claimed machine shows of its claim.
func onClaimed(tb testing.TB) []attack {
	m, claim := verifiertest.Boot(tb), attest.Sum([]byte("the owner's claim"))
	shown := func(claim attest.Digest, p verifier.Policy) outcome {
		in := verifiertest.Input{Nonce: attest.Nonce{1}, Channel: m.Channel}
		in.Evidence = m.Evidence(tb, in.Nonce, claim)
		return judged(in.Appraise(p))
	}
	unmeasured := shown(claim, m.Policy())
	m.Extend(tb, attest.RegisterClaim, claim)
	good := shown(claim, m.Policy())
	high := m.Policy()
	high.Minimum.Storage = attest.TierProviderRooted
	pcr15 := reason{kind: attest.ErrRegisters, says: "pcr15", differs: []string{"pcr15"}}
	return []attack{
		{name: "claim that was not measured", reason: pcr15, good: good, bad: unmeasured},
		{name: "claim of another in place of the measured one", reason: pcr15, good: good, bad: shown(attest.Sum([]byte("another's")), m.Policy())},
		{name: "claim that is measured and not shown", reason: pcr15, good: good, bad: shown(attest.Digest{}, m.Policy())},
		{name: "storage below the minimum", reason: onIdentity("tier software is below the minimum"), good: good, bad: shown(claim, high)},
	}
}
