package chain

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// Treatment says which issuers of a path publish revocation lists. A
// certificate that a given list names is refused under each of them.
type Treatment uint8

// The treatments. The zero value is none of them and an error.
const (
	// Required has every issuer of the path publish a list: Intel's PCK
	// certificates.
	Required Treatment = iota + 1
	// RequiredOfRoot has the root publish one and nobody else: AMD's, whose
	// ARK lists the ASKs (57230, certificate revocation list).
	RequiredOfRoot
	// RequiredWhereNamed has an issuer publish one where the certificate that
	// it issued names a distribution point: TPM manufacturers differ.
	RequiredWhereNamed
	// NotPublished has nobody publish one.
	NotPublished
)

// The caps of Revocations.
const (
	MaxLists = 16
	// MaxGrace is the longest that a list may be used past its next update.
	MaxGrace = 90 * 24 * time.Hour
)

// Revocations are the lists at hand and how to treat their absence and their age.
type Revocations struct {
	// Treatment must be set.
	Treatment Treatment
	// Lists are at most MaxLists. Lists of issuers that are not in the path
	// are passed over.
	Lists []*List
	// Grace is how long a list is still used past its next update, at most
	// MaxGrace; zero is none, the strictest.
	Grace time.Duration
}

// Freshness is what was found about the age of the lists. It can be kept for
// the same path and the same Revocations.
type Freshness struct {
	// Lists counts the lists that speak about the path.
	Lists int
	// NextUpdate is the earliest next update of these and Publisher its
	// issuer; zero and empty without lists.
	NextUpdate time.Time
	Publisher  string
	// Valid is when path and lists, their grace included, are all valid.
	Valid Interval
}

// Stale reports whether some list is past its next update and used in its
// grace: the appraisal warns.
func (f Freshness) Stale(at time.Time) bool { return f.Lists > 0 && at.After(f.NextUpdate) }

// Check holds every certificate of the path but the root against the lists of
// its issuer. Errors are attest.ErrPolicy where the treatment is unset or a
// cap is exceeded, attest.ErrRevoked, attest.ErrCollateral where a list is
// missing, from the future or past its grace, and attest.ErrSignature.
func (r Revocations) Check(p *Path, at time.Time) (Freshness, error) {
	switch {
	case r.Treatment < Required || r.Treatment > NotPublished:
		return Freshness{}, fmt.Errorf("%w: treatment of revocation is unset", attest.ErrPolicy)
	case len(r.Lists) > MaxLists:
		return Freshness{}, fmt.Errorf("%w: %d revocation lists, at most %d", attest.ErrPolicy, len(r.Lists), MaxLists)
	case r.Grace < 0 || r.Grace > MaxGrace:
		return Freshness{}, fmt.Errorf("%w: grace %s of revocation lists, at most %s", attest.ErrPolicy, r.Grace, MaxGrace)
	}
	f := Freshness{Valid: p.Valid}
	for i, c := range p.Certificates[:len(p.Certificates)-1] {
		issuer := p.Certificates[i+1]
		newest, err := r.newest(c, issuer)
		if err != nil {
			return Freshness{}, err
		}
		if newest == nil {
			if r.required(c, issuer == p.Root()) {
				return Freshness{}, fmt.Errorf("%w: no revocation list of %s for %s", attest.ErrCollateral, name(issuer), name(c))
			}
			continue
		}
		if err := f.add(newest.list, r.Grace, name(issuer), at); err != nil {
			return Freshness{}, err
		}
	}
	return f, nil
}

// newest is the last of issuer's lists that speaks about c, nil without any.
// Each of them is heeded, so that an older one beside it can't hide anything.
func (r Revocations) newest(c, issuer *x509.Certificate) (*List, error) {
	var newest *List
	for _, l := range r.Lists {
		if !l.by(issuer) || !l.covers(c) {
			continue
		}
		if err := l.list.CheckSignatureFrom(issuer); err != nil {
			return nil, fmt.Errorf("%w: revocation list of %s: %w", attest.ErrSignature, name(issuer), err)
		}
		if l.names(c) {
			return nil, fmt.Errorf("%w: %s, by %s", attest.ErrRevoked, name(c), name(issuer))
		}
		if newest == nil || l.list.ThisUpdate.After(newest.list.ThisUpdate) {
			newest = l
		}
	}
	return newest, nil
}

func (r Revocations) required(c *x509.Certificate, byRoot bool) bool {
	switch r.Treatment {
	case RequiredOfRoot:
		return byRoot
	case RequiredWhereNamed:
		return len(c.CRLDistributionPoints) > 0
	case NotPublished:
		return false
	default:
		return true
	}
}

func (f *Freshness) add(l *x509.RevocationList, grace time.Duration, issuer string, at time.Time) error {
	valid := Interval{NotBefore: l.ThisUpdate, NotAfter: l.NextUpdate.Add(grace)}
	if !valid.Contains(at) {
		return fmt.Errorf("%w: revocation list of %s is of %s to %s with grace %s, not of %s", attest.ErrCollateral,
			issuer, l.ThisUpdate.Format(time.RFC3339), l.NextUpdate.Format(time.RFC3339), grace, at.Format(time.RFC3339))
	}
	if f.Lists == 0 || l.NextUpdate.Before(f.NextUpdate) {
		f.NextUpdate, f.Publisher = l.NextUpdate, issuer
	}
	f.Lists++
	f.Valid = f.Valid.And(valid)
	return nil
}
