package snp

import (
	"crypto/x509"
	_ "embed"
	"fmt"
	"sync"

	"github.com/toolshed-cloud/shed/attest/chain"
)

// Anchor is an AMD root key (ARK) and what its word is about.
type Anchor struct {
	// Product is the product line that the root stands for, such as "Milan".
	Product string
	// Layout must be set.
	Layout Layout
	Root   *x509.Certificate
	// Authorities are known ASKs and ASVKs below the root, for evidence that
	// brings the leaf alone. They carry no trust of their own.
	Authorities []*x509.Certificate
}

// The files hold, in this order, the ARK, the ASK (for VCEKs) and the ASVK
// (for VLEKs) of a product line, as AMD's key distribution service publishes them at
// https://kdsintf.amd.com/vcek/v1/LINE/cert_chain and
// https://kdsintf.amd.com/vlek/v1/LINE/cert_chain.
var (
	//go:embed amd/milan.pem
	milan []byte
	//go:embed amd/genoa.pem
	genoa []byte
	//go:embed amd/turin.pem
	turin []byte
)

var amd = sync.OnceValue(func() []Anchor {
	return []Anchor{
		anchor("Milan", LayoutMilan, milan),
		anchor("Genoa", LayoutMilan, genoa),
		anchor("Turin", LayoutTurin, turin),
	}
})

// AMD are AMD's own roots: Milan's, Genoa's (Bergamo and Siena are under it) and Turin's.
// The caller may change the slice, not what it points at.
func AMD() []Anchor { return append([]Anchor(nil), amd()...) }

func anchor(product string, l Layout, text []byte) Anchor {
	all, err := chain.ParseAll(product, text)
	if err != nil {
		panic(fmt.Sprintf("embedded certificates: %v", err))
	}
	return Anchor{Product: product, Layout: l, Root: all[0], Authorities: all[1:]}
}
