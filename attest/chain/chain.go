// Package chain finds X.509 paths to pinned roots and checks them against
// revocation lists, for every root of trust alike.
//
// Invariants: a path leads only through certificates that the caller gave, to
// a root that the caller pinned; how revocation is to be treated is said by the
// caller, and unsaid is an error; what was said once holds for an interval that the
// result states, so that it can be kept. No network, no system roots, no clock.
package chain

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// The caps, in bytes and in certificates.
const (
	MaxCertificate   = 16 << 10
	MaxIntermediates = 8
)

// Interval is a span of time, both ends within it.
type Interval struct{ NotBefore, NotAfter time.Time }

// Contains reports whether t lies within i.
func (i Interval) Contains(t time.Time) bool { return !t.Before(i.NotBefore) && !t.After(i.NotAfter) }

// And is the part that i and o share; it contains nothing where they share
// nothing.
func (i Interval) And(o Interval) Interval {
	if o.NotBefore.After(i.NotBefore) {
		i.NotBefore = o.NotBefore
	}
	if o.NotAfter.Before(i.NotAfter) {
		i.NotAfter = o.NotAfter
	}
	return i
}

// Path leads from a leaf to a pinned root.
type Path struct {
	// Certificates are the leaf first, the root last, and at least these two.
	Certificates []*x509.Certificate
	// Valid is when every certificate of the path is valid.
	Valid Interval
}

// Leaf is the certificate that the path vouches for.
func (p *Path) Leaf() *x509.Certificate { return p.Certificates[0] }

// Root is the pinned root that the path ends at.
func (p *Path) Root() *x509.Certificate { return p.Certificates[len(p.Certificates)-1] }

// Verify finds the path from leaf through intermediates, at most
// MaxIntermediates, to one of roots, and checks it at the given time as RFC
// 5280, section 6 has it, extended key usages and revocation aside: the first
// belong to the caller, Revocations is for the second. A root is no leaf.
// Errors are attest.ErrPolicy without roots or time, attest.ErrMalformed past the cap, and
// attest.ErrIdentity.
func Verify(leaf *x509.Certificate, intermediates, roots []*x509.Certificate, at time.Time) (*Path, error) {
	switch {
	case len(roots) == 0 || at.IsZero():
		return nil, fmt.Errorf("%w: a path needs a pinned root and a time", attest.ErrPolicy)
	case len(intermediates) > MaxIntermediates:
		return nil, fmt.Errorf("%w: %d intermediates, at most %d", attest.ErrMalformed, len(intermediates), MaxIntermediates)
	case slices.ContainsFunc(roots, leaf.Equal):
		return nil, fmt.Errorf("%w: %s is a root, not a leaf", attest.ErrIdentity, name(leaf))
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool(roots), Intermediates: pool(intermediates), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: path of %s: %w", attest.ErrIdentity, name(leaf), err)
	}
	return &Path{Certificates: paths[0], Valid: validity(paths[0])}, nil
}

// Handled is a copy of certificate in which the named critical extensions
// count as read, for a caller that reads them itself or knows that
// they decide nothing: crypto/x509 refuses a path over what it cannot read.
func Handled(certificate *x509.Certificate, extensions ...asn1.ObjectIdentifier) *x509.Certificate {
	c := *certificate
	c.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(c.UnhandledCriticalExtensions),
		func(id asn1.ObjectIdentifier) bool { return slices.ContainsFunc(extensions, id.Equal) })
	return &c
}

func pool(certificates []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certificates {
		p.AddCert(c)
	}
	return p
}

func validity(path []*x509.Certificate) Interval {
	valid := Interval{NotBefore: path[0].NotBefore, NotAfter: path[0].NotAfter}
	for _, c := range path[1:] {
		valid = valid.And(Interval{NotBefore: c.NotBefore, NotAfter: c.NotAfter})
	}
	return valid
}

// name is what a person knows a certificate by. EK certificates have no subject.
func name(c *x509.Certificate) string {
	if s := c.Subject.String(); s != "" {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("certificate %x of %q", c.SerialNumber, c.Issuer.String())
}
