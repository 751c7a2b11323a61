package chain

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// MaxList caps a revocation list, in bytes of DER.
const MaxList = 1 << 20

// List is a complete revocation list (RFC 5280, section 5). Its signature is
// checked when a path shows its issuer.
type List struct {
	list  *x509.RevocationList
	scope *scope
}

// scope is what an issuing distribution point says (RFC 5280, section 5.2.5).
// A list without one covers all that its issuer issued.
type scope struct {
	Point struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
	} `asn1:"optional,tag:0"`
	OnlyUsers      bool           `asn1:"optional,tag:1"`
	OnlyCAs        bool           `asn1:"optional,tag:2"`
	OnlyReasons    asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	OnlyAttributes bool           `asn1:"optional,tag:5"`
}

var oidIssuingPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// ParseList reads a revocation list in DER, at most MaxList bytes. Refused are
// lists without a next update, those that do not tell all (deltas,
// some reasons only), those that speak for another issuer, and critical extensions that are unknown. The
// error is attest.ErrMalformed.
func ParseList(name string, der []byte) (*List, error) {
	if len(der) == 0 || len(der) > MaxList {
		return nil, fmt.Errorf("%w: %s has %d bytes, want 1 to %d", attest.ErrMalformed, name, len(der), MaxList)
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	l := &List{list: parsed}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	return l, nil
}

// Raw is the list in DER.
func (l *List) Raw() []byte { return l.list.Raw }

func (l *List) check() error {
	if !l.list.NextUpdate.After(l.list.ThisUpdate) {
		return fmt.Errorf("no next update after this update %s", l.list.ThisUpdate.Format(time.RFC3339))
	}
	for _, e := range l.list.Extensions {
		if e.Id.Equal(oidIssuingPoint) {
			if err := l.readScope(e.Value); err != nil {
				return err
			}
		} else if e.Critical {
			return fmt.Errorf("critical extension %s is unknown", e.Id)
		}
	}
	for _, revoked := range l.list.RevokedCertificateEntries {
		for _, e := range revoked.Extensions {
			if e.Critical {
				return fmt.Errorf("critical extension %s of entry %x is unknown", e.Id, revoked.SerialNumber)
			}
		}
	}
	return nil
}

func (l *List) readScope(der []byte) error {
	var s scope
	rest, err := asn1.Unmarshal(der, &s)
	switch {
	case err != nil || len(rest) > 0:
		return fmt.Errorf("issuing distribution point does not parse: %w", err)
	case s.Indirect || s.OnlyAttributes || s.OnlyReasons.BitLength > 0 || (s.OnlyUsers && s.OnlyCAs):
		return fmt.Errorf("issuing distribution point leaves certificates or reasons out")
	}
	l.scope = &s
	return nil
}

// by reports whether issuer is whom the list names as its own.
func (l *List) by(issuer *x509.Certificate) bool {
	return bytes.Equal(l.list.RawIssuer, issuer.RawSubject) &&
		(len(l.list.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 ||
			bytes.Equal(l.list.AuthorityKeyId, issuer.SubjectKeyId))
}

// covers reports whether the list would name c, were it revoked.
func (l *List) covers(c *x509.Certificate) bool {
	if l.scope == nil {
		return true
	}
	if (l.scope.OnlyUsers && c.IsCA) || (l.scope.OnlyCAs && !c.IsCA) {
		return false
	}
	return len(l.scope.Point.FullName) == 0 || slices.ContainsFunc(l.scope.Point.FullName, func(v asn1.RawValue) bool {
		const uri = 6
		return v.Class == asn1.ClassContextSpecific && v.Tag == uri && slices.Contains(c.CRLDistributionPoints, string(v.Bytes))
	})
}

// names reports whether the list revokes c. Its reason makes no difference.
func (l *List) names(c *x509.Certificate) bool {
	return slices.ContainsFunc(l.list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(c.SerialNumber) == 0
	})
}
