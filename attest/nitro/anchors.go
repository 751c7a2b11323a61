package nitro

import (
	"crypto/x509"
	_ "embed" // the root is a file of its own, as AWS publishes it
	"sync"

	"github.com/toolshed-cloud/shed/attest/chain"
)

// awsPEM is AWS's root of Nitro attestation, G1, as
// https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip has
// it: SHA-256
// 641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b.
//
//go:embed aws.pem
var awsPEM []byte

var awsRoots = sync.OnceValue(func() []*x509.Certificate {
	roots, err := chain.ParseAll("aws's root", awsPEM)
	if err != nil {
		// It is a constant: a test shows that it parses.
		panic(err)
	}
	return roots
})

// AWSRoots are the roots that AWS signs documents under: one, valid until
// October 2049.
func AWSRoots() []*x509.Certificate { return append([]*x509.Certificate(nil), awsRoots()...) }
