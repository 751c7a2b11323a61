package chain_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
)

const point = "http://ca.example/list"

func from(this, next time.Duration) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = chaintest.Now.Add(this), chaintest.Now.Add(next)
	}
}

func lists(l ...*chain.List) []*chain.List { return l }

func TestCheck(t *testing.T) {
	d := draw(t, nil)
	named := draw(t, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{point} })
	// Another authority of the same name, as after a change of keys.
	twin := chaintest.Root(t, "root", chaintest.P256(t), func(c *x509.Certificate) { c.SubjectKeyId = d.root.Certificate.SubjectKeyId })
	root, ca := d.root.Parsed(nil), d.ca.Parsed(nil)
	stale := d.root.Parsed(from(-4*time.Hour, -2*time.Hour))
	type revocations = chain.Revocations
	for name, c := range map[string]struct {
		of   drawn
		r    revocations
		want error
	}{
		"required":                  {d, revocations{Treatment: chain.Required, Lists: lists(root, ca)}, nil},
		"treatment unset":           {d, revocations{Lists: lists(root, ca)}, attest.ErrPolicy},
		"treatment unknown":         {d, revocations{Treatment: chain.NotPublished + 1}, attest.ErrPolicy},
		"none of the intermediate":  {d, revocations{Treatment: chain.Required, Lists: lists(root)}, attest.ErrCollateral},
		"none of the root":          {d, revocations{Treatment: chain.Required, Lists: lists(ca)}, attest.ErrCollateral},
		"root's alone":              {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(root)}, nil},
		"root's alone missing":      {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(ca)}, attest.ErrCollateral},
		"nowhere named":             {d, revocations{Treatment: chain.RequiredWhereNamed}, nil},
		"where named":               {named, revocations{Treatment: chain.RequiredWhereNamed, Lists: lists(named.ca.Parsed(nil))}, nil},
		"where named, missing":      {named, revocations{Treatment: chain.RequiredWhereNamed}, attest.ErrCollateral},
		"not published":             {d, revocations{Treatment: chain.NotPublished}, nil},
		"leaf revoked":              {d, revocations{Treatment: chain.Required, Lists: lists(root, d.ca.Parsed(nil, d.leaf))}, attest.ErrRevoked},
		"intermediate revoked":      {d, revocations{Treatment: chain.Required, Lists: lists(d.root.Parsed(nil, d.ca.Certificate), ca)}, attest.ErrRevoked},
		"revoked, though not asked": {d, revocations{Treatment: chain.NotPublished, Lists: lists(d.ca.Parsed(nil, d.leaf))}, attest.ErrRevoked},
		"revoked on one of two":     {d, revocations{Treatment: chain.Required, Lists: lists(root, d.ca.Parsed(nil, d.leaf), ca)}, attest.ErrRevoked},
		"forged":                    {d, revocations{Treatment: chain.Required, Lists: lists(twin.Parsed(nil), ca)}, attest.ErrSignature},
		"a stranger's":              {d, revocations{Treatment: chain.Required, Lists: lists(root, ca, named.ca.Parsed(nil))}, nil},
		"stale":                     {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(stale)}, attest.ErrCollateral},
		"stale within grace":        {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(stale), Grace: 3 * time.Hour}, nil},
		"stale past grace":          {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(stale), Grace: time.Hour}, attest.ErrCollateral},
		"stale beside a newer":      {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(stale, root)}, nil},
		"from the future":           {d, revocations{Treatment: chain.RequiredOfRoot, Lists: lists(d.root.Parsed(from(time.Minute, time.Hour)))}, attest.ErrCollateral},
		"grace too long":            {d, revocations{Treatment: chain.NotPublished, Grace: chain.MaxGrace + 1}, attest.ErrPolicy},
		"grace negative":            {d, revocations{Treatment: chain.NotPublished, Grace: -1}, attest.ErrPolicy},
		"too many lists":            {d, revocations{Treatment: chain.NotPublished, Lists: slices.Repeat(lists(root), chain.MaxLists+1)}, attest.ErrPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := c.r.Check(c.of.path(t), chaintest.Now)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil && !f.Valid.Contains(chaintest.Now) {
				t.Errorf("not valid now: %+v", f)
			}
		})
	}
}

func TestFreshness(t *testing.T) {
	d := draw(t, nil)
	r := chain.Revocations{
		Treatment: chain.Required, Grace: time.Minute,
		Lists: lists(d.root.Parsed(from(-time.Hour, time.Hour)), d.ca.Parsed(from(-time.Minute, 2*time.Minute))),
	}
	f, err := r.Check(d.path(t), chaintest.Now)
	if err != nil {
		t.Fatal(err)
	}
	next := chaintest.Now.Add(2 * time.Minute)
	want := chain.Interval{NotBefore: chaintest.Now.Add(-time.Minute), NotAfter: next.Add(time.Minute)}
	if f.Lists != 2 || !f.NextUpdate.Equal(next) || f.Publisher != `"CN=intermediate"` || f.Valid != want {
		t.Errorf("%+v, want until %v", f, want)
	}
	if f.Stale(next) || !f.Stale(next.Add(time.Second)) || (chain.Freshness{}).Stale(next) {
		t.Error("a list is stale past its next update and not before")
	}
}

// scope is an issuing distribution point (RFC 5280, section 5.2.5).
func scope(t *testing.T, content ...byte) func(*x509.RevocationList) {
	t.Helper()
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
	if err != nil {
		t.Fatal(err)
	}
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}}
	}
}

func at(uri string) []byte {
	name := append([]byte{0x86, byte(len(uri))}, uri...)
	full := append([]byte{0xa0, byte(len(name))}, name...)
	return append([]byte{0xa0, byte(len(full))}, full...)
}

func TestScope(t *testing.T) {
	d := draw(t, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{point} })
	for name, c := range map[string]struct {
		scope []byte
		want  error
	}{
		"this point":            {at(point), nil},
		"another point":         {at("http://ca.example/other"), attest.ErrCollateral},
		"a name that is no uri": {append([]byte{0xa0, byte(len(point) + 4), 0xa0, byte(len(point) + 2), 0x82, byte(len(point))}, point...), attest.ErrCollateral},
		"users alone":           {[]byte{0x81, 1, 0xff}, nil},
		"cas alone":             {[]byte{0x82, 1, 0xff}, attest.ErrCollateral},
	} {
		t.Run(name, func(t *testing.T) {
			r := chain.Revocations{Treatment: chain.RequiredWhereNamed, Lists: lists(d.ca.Parsed(scope(t, c.scope...)))}
			if _, err := r.Check(d.path(t), chaintest.Now); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A list of users alone says nothing of an authority, and one of authorities
// alone is one of it.
func TestScopeOfAnAuthority(t *testing.T) {
	d := draw(t, nil)
	for name, c := range map[string]struct {
		scope []byte
		want  error
	}{
		"users alone": {[]byte{0x81, 1, 0xff}, attest.ErrCollateral},
		"cas alone":   {[]byte{0x82, 1, 0xff}, nil},
	} {
		r := chain.Revocations{Treatment: chain.RequiredOfRoot, Lists: lists(d.root.Parsed(scope(t, c.scope...)))}
		if _, err := r.Check(d.path(t), chaintest.Now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestParseListRefuses(t *testing.T) {
	d := draw(t, nil)
	extension := func(id ...int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: []byte{2, 1, 1}}}
		}
	}
	for name, der := range map[string][]byte{
		"empty": nil, "a certificate": d.leaf.Raw, "too long": make([]byte, chain.MaxList+1),
		"no next update":            withoutNextUpdate(t, d.root.List(nil)),
		"no longer than a moment":   d.root.List(from(0, 0)),
		"users alone and cas alone": d.root.List(scope(t, 0x81, 1, 0xff, 0x82, 1, 0xff)),
		"a delta":                   d.root.List(extension(2, 5, 29, 27)),
		"unknown":                   d.root.List(extension(1, 2, 3)),
		"scope malformed":           d.root.List(extension(2, 5, 29, 28)),
		"indirect":                  d.root.List(scope(t, 0x84, 1, 0xff)),
		"attributes":                d.root.List(scope(t, 0x85, 1, 0xff)),
		"some reasons":              d.root.List(scope(t, 0x83, 2, 6, 0x40)),
		"of another issuer": d.root.List(func(l *x509.RevocationList) {
			for i := range l.RevokedCertificateEntries {
				l.RevokedCertificateEntries[i].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
			}
		}, d.leaf),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := chain.ParseList("list", der); !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%v, want malformed", err)
			}
		})
	}
}

// withoutNextUpdate takes the optional field out; the signature is not looked
// at before the issuer is known.
func withoutNextUpdate(t *testing.T, der []byte) []byte {
	t.Helper()
	var list struct {
		TBS struct {
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			Issuer     asn1.RawValue
			This, Next time.Time
			Extensions []pkix.Extension `asn1:"tag:0,explicit"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &list); err != nil {
		t.Fatal(err)
	}
	type tbs struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		This       time.Time
		Extensions []pkix.Extension `asn1:"tag:0,explicit"`
	}
	out, err := asn1.Marshal(struct {
		TBS       tbs
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{tbs{list.TBS.Version, list.TBS.Algorithm, list.TBS.Issuer, list.TBS.This, list.TBS.Extensions}, list.Algorithm, list.Signature})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
