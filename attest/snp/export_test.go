package snp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
)

// ReadExtensions reads the extensions with these values in place of the
// certificate's own.
func ReadExtensions(c *x509.Certificate, version, product, hwid, csp []byte) error {
	copied := *c
	c = &copied
	c.Extensions = slices.Clone(c.Extensions)
	for _, e := range []struct {
		below []int
		value []byte
	}{{extBootloader, version}, {extProduct, product}, {extHWID, hwid}, {extCSP, csp}} {
		id := slices.Concat(arc, e.below)
		c.Extensions = slices.DeleteFunc(c.Extensions, func(o pkix.Extension) bool { return o.Id.Equal(id) })
		c.Extensions = append(c.Extensions, pkix.Extension{Id: id, Value: e.value})
	}
	e, err := readExtensions(c, LayoutMilan)
	if err != nil {
		return err
	}
	_, err = e.kind(c, "Milan")
	return err
}
