package fetch

import (
	"crypto/x509"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// installRoots has the authorities at hand that Mozilla trusts, where the system has
// none: a machine's image has no list of its own. They are parsed at the first
// connection, since they are 2 MB that most toolsheds never need.
var installRoots = sync.OnceFunc(func() { x509.SetFallbackRoots(roots()) })

func roots() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		c, err := x509.ParseCertificate(root.Certificate)
		switch {
		case err != nil:
			// The package has tested that it is one.
			continue
		case root.Constraint != nil:
			pool.AddCertWithConstraint(c, root.Constraint)
		default:
			pool.AddCert(c)
		}
	}
	return pool
}
