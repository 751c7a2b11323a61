package snp_test

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"testing"

	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
)

// BenchmarkCheck is a report under a kept endorsement, parsing included;
// BenchmarkFloor the one verification that it costs.
func BenchmarkCheck(b *testing.B) {
	v := snptest.Draw(b, "Milan")
	k := v.VCEK(nil)
	e, raw := endorse(b, v, k), k.Report(nil)
	b.ReportAllocs()
	for b.Loop() {
		r, err := snp.Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Check(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloor(b *testing.B) {
	k := snptest.Draw(b, "Milan").VCEK(nil)
	digest := sha512.Sum384(k.Report(nil)[:0x2a0])
	signature, err := ecdsa.SignASN1(nil, k.Key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&k.Key.PublicKey, digest[:], signature) {
			b.Fatal("floor does not verify")
		}
	}
}
