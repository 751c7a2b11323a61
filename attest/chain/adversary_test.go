package chain_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
)

// A certificate of an authority that a stranger shows takes no more work than
// those of real ones: verifying one signature with a modulus as long as the
// certificate has room for takes seconds, and a path may try a hundred.
func TestKeysThatTakeForever(t *testing.T) {
	signer := chaintest.P256(t)
	for name, c := range map[string]struct {
		bits     uint
		exponent int
		want     error
	}{
		"as amd has them": {4096, 65537, nil},
		"long modulus":    {4097, 65537, attest.ErrMalformed},
		"fills the cap":   {120_000, 65537, attest.ErrMalformed},
		"large exponent":  {2048, 1<<31 - 1, attest.ErrMalformed},
	} {
		n := new(big.Int).Lsh(big.NewInt(1), c.bits-1)
		n.SetBit(n, 0, 1)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n, E: c.exponent}, signer)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := chain.Parse("certificate", der); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
