package chain_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
)

func refusedOrFine(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v of no known kind", err)
	}
}

func FuzzParseAll(f *testing.F) {
	d := draw(f, nil)
	f.Add(append(d.leaf.Raw, d.ca.Certificate.Raw...))
	f.Add(block("CERTIFICATE", d.leaf.Raw))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := chain.ParseAll("list", b)
		refusedOrFine(t, err)
		for _, c := range all {
			if _, err := chain.Verify(c, all[:min(len(all), chain.MaxIntermediates)], certs(d.root.Certificate), chaintest.Now); err == nil &&
				!c.Equal(d.ca.Certificate) && !c.Equal(d.leaf) {
				t.Error("a certificate that was never issued has a path")
			} else {
				refusedOrFine(t, err)
			}
		}
	})
}

func FuzzParseList(f *testing.F) {
	d := draw(f, nil)
	f.Add(d.ca.List(nil, d.leaf))
	f.Add(d.ca.List(nil))
	p := d.path(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := chain.ParseList("list", b)
		refusedOrFine(t, err)
		if err != nil {
			return
		}
		_, err = chain.Revocations{Treatment: chain.NotPublished, Lists: []*chain.List{l}}.Check(p, chaintest.Now)
		refusedOrFine(t, err)
	})
}
