package verifier_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// BenchmarkTPM is the next evidence of a machine that is known, beside
// BenchmarkFloor, the one signature in it.
func BenchmarkTPM(b *testing.B) {
	m := verifiertest.Boot(b)
	m.TPM.EventLog = make([]byte, 40<<10)
	in, p := m.Input(b), m.Policy()
	var v verifier.Verifier
	b.ReportAllocs()
	for b.Loop() {
		facts, err := v.Verify(in.Evidence, in.Nonce, in.Channel)
		if err != nil {
			b.Fatal(err)
		}
		r, err := verifier.Appraise(facts, verifier.ActivatedBefore, p)
		if err != nil || !r.Accepted() {
			b.Fatal(err, r)
		}
	}
}

func BenchmarkFloor(b *testing.B) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("quote"))
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	key := &private.PublicKey
	for b.Loop() {
		if !ecdsa.VerifyASN1(key, digest[:], signature) {
			b.Fatal(attest.ErrSignature)
		}
	}
}

// BenchmarkAppraise is what is judged after the signature.
func BenchmarkAppraise(b *testing.B) {
	m := verifiertest.Boot(b)
	in, p := m.Input(b), m.Policy()
	facts, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifier.Appraise(facts, verifier.ActivatedBefore, p); err != nil {
			b.Fatal(err)
		}
	}
}
