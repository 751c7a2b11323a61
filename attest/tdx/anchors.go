package tdx

import (
	"crypto/x509"
	_ "embed" // the root is a file of its own, as Intel publishes it
	"sync"

	"github.com/toolshed-cloud/shed/attest/chain"
)

// intelPEM is Intel's root of SGX and TDX, as
// https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer
// has it: SHA-256
// 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3.
//
//go:embed intel.pem
var intelPEM []byte

var intelRoots = sync.OnceValue(func() []*x509.Certificate {
	roots, err := chain.ParseAll("intel's root", intelPEM)
	if err != nil {
		// It is a constant: a test shows that it parses.
		panic(err)
	}
	return roots
})

// IntelRoots are the roots that Intel certifies platforms and signs collateral
// under: one, valid until the end of 2049.
func IntelRoots() []*x509.Certificate { return append([]*x509.Certificate(nil), intelRoots()...) }
