package chain_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
)

// drawn is a path of three with the intermediate's and the root's keys.
type drawn struct {
	root, ca *chaintest.Authority
	leaf     *x509.Certificate
}

func draw(tb testing.TB, edit func(*x509.Certificate)) drawn {
	tb.Helper()
	root := chaintest.Root(tb, "root", chaintest.P256(tb), nil)
	ca := root.Authority("intermediate", chaintest.P256(tb), nil)
	return drawn{root: root, ca: ca, leaf: ca.Leaf("leaf", chaintest.P256(tb).Public(), edit)}
}

func (d drawn) path(tb testing.TB) *chain.Path {
	tb.Helper()
	p, err := chain.Verify(d.leaf, certs(d.ca.Certificate), certs(d.root.Certificate), chaintest.Now)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func certs(c ...*x509.Certificate) []*x509.Certificate { return c }

func TestVerify(t *testing.T) {
	d, other := draw(t, nil), draw(t, nil)
	at, late := chaintest.Now, chaintest.Now.Add(3*time.Hour)
	critical := draw(t, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	})
	many := slices.Repeat(certs(d.ca.Certificate), chain.MaxIntermediates+1)
	for name, c := range map[string]struct {
		leaf        *x509.Certificate
		given, root []*x509.Certificate
		at          time.Time
		want        error
	}{
		"good":                     {d.leaf, certs(d.ca.Certificate), certs(other.root.Certificate, d.root.Certificate), at, nil},
		"directly below the root":  {d.ca.Certificate, nil, certs(d.root.Certificate), at, nil},
		"pinned intermediate":      {d.leaf, nil, certs(d.ca.Certificate), at, nil},
		"no intermediate":          {d.leaf, nil, certs(d.root.Certificate), at, attest.ErrIdentity},
		"foreign root":             {d.leaf, certs(d.ca.Certificate), certs(other.root.Certificate), at, attest.ErrIdentity},
		"root given, not pinned":   {d.leaf, certs(d.ca.Certificate, d.root.Certificate), certs(other.root.Certificate), at, attest.ErrIdentity},
		"leaf is the root":         {d.root.Certificate, nil, certs(d.root.Certificate), at, attest.ErrIdentity},
		"expired":                  {d.leaf, certs(d.ca.Certificate), certs(d.root.Certificate), late, attest.ErrIdentity},
		"critical":                 {critical.leaf, certs(critical.ca.Certificate), certs(critical.root.Certificate), at, attest.ErrIdentity},
		"critical, read by caller": {chain.Handled(critical.leaf, asn1.ObjectIdentifier{1, 2, 3}), certs(critical.ca.Certificate), certs(critical.root.Certificate), at, nil},
		"too many":                 {d.leaf, many, certs(d.root.Certificate), at, attest.ErrMalformed},
		"no root":                  {d.leaf, certs(d.ca.Certificate), nil, at, attest.ErrPolicy},
		"no time":                  {d.leaf, certs(d.ca.Certificate), certs(d.root.Certificate), time.Time{}, attest.ErrPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := chain.Verify(c.leaf, c.given, c.root, c.at)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil && !p.Valid.Contains(c.at) {
				t.Errorf("path is not valid now: %v", p.Valid)
			}
		})
	}
}

// Every kind of key that a root of trust here signs with.
func TestAlgorithms(t *testing.T) {
	pss, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	root := chaintest.Root(t, "rsa-pss", pss, nil)
	ca := root.Authority("p-384", chaintest.P384(t), nil)
	leaf := ca.Leaf("p-256", chaintest.P256(t).Public(), nil)
	p, err := chain.Verify(leaf, certs(ca.Certificate), certs(root.Certificate), chaintest.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := chain.Revocations{Treatment: chain.Required, Lists: []*chain.List{root.Parsed(nil), ca.Parsed(nil)}}
	if _, err := r.Check(p, chaintest.Now); err != nil {
		t.Fatal(err)
	}
	if got := root.Certificate.SignatureAlgorithm; got != x509.SHA384WithRSAPSS {
		t.Errorf("root signs with %v", got)
	}
}

func TestPathIsValidWhereAllOfItIs(t *testing.T) {
	until := chaintest.Now.Add(time.Minute)
	p := draw(t, func(c *x509.Certificate) { c.NotAfter = until }).path(t)
	if !p.Valid.NotAfter.Equal(until) || p.Valid.Contains(until.Add(time.Second)) || !p.Valid.Contains(until) {
		t.Errorf("valid until %v, want %v", p.Valid.NotAfter, until)
	}
}

func TestParseAll(t *testing.T) {
	d := draw(t, nil)
	der := slices.Concat(d.leaf.Raw, d.ca.Certificate.Raw)
	text := slices.Concat(block("CERTIFICATE", d.leaf.Raw), []byte("\n"), block("CERTIFICATE", d.ca.Certificate.Raw))
	for name, c := range map[string]struct {
		in   []byte
		want int
	}{
		"der": {der, 2}, "pem": {text, 2},
		"empty":         {nil, 0},
		"trailing der":  {append(slices.Clone(der), 0), 0},
		"trailing pem":  {append(slices.Clone(text), "more"...), 0},
		"between":       {slices.Concat(block("CERTIFICATE", d.leaf.Raw), []byte("x\n"), text), 0},
		"another block": {slices.Concat(text, block("X509 CRL", d.leaf.Raw)), 0},
		"too many":      {slices.Repeat(d.leaf.Raw, chain.MaxIntermediates+3), 0},
		"too long":      {make([]byte, 1<<20), 0},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := chain.ParseAll("list", c.in)
			if len(all) != c.want || (c.want == 0) != errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%d certificates and %v, want %d", len(all), err, c.want)
			}
		})
	}
	if _, err := chain.Parse("leaf", make([]byte, chain.MaxCertificate+1)); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// What is too large is not taken apart, and what is no certificate says so.
func TestCaps(t *testing.T) {
	for name, c := range map[string]struct {
		parse func() error
		want  string
	}{
		"a certificate":         {func() error { _, err := chain.Parse("x", make([]byte, chain.MaxCertificate+1)); return err }, "want 1 to"},
		"no certificate":        {func() error { _, err := chain.Parse("x", nil); return err }, "want 1 to"},
		"nonsense":              {func() error { _, err := chain.Parse("x", []byte{1}); return err }, "x: "},
		"a list":                {func() error { _, err := chain.ParseList("x", make([]byte, chain.MaxList+1)); return err }, "want 1 to"},
		"no list":               {func() error { _, err := chain.ParseList("x", nil); return err }, "want 1 to"},
		"a DER of another kind": {func() error { _, err := chain.ParseAll("x", []byte{0x02, 1, 1}); return err }, "x[0]: "},
		"DER cut short":         {func() error { _, err := chain.ParseAll("x", []byte{0x30, 5, 1}); return err }, "x: asn1"},
	} {
		if err := c.parse(); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Both ends of an interval are within it.
func TestIntervals(t *testing.T) {
	i := chain.Interval{NotBefore: chaintest.Now, NotAfter: chaintest.Now.Add(time.Hour)}
	for at, want := range map[time.Time]bool{
		i.NotBefore.Add(-1): false, i.NotBefore: true, i.NotAfter: true, i.NotAfter.Add(1): false,
	} {
		if i.Contains(at) != want {
			t.Errorf("%s: %t", at, !want)
		}
	}
	later := chain.Interval{NotBefore: i.NotAfter.Add(1), NotAfter: i.NotAfter.Add(time.Hour)}
	if both := i.And(later); both.Contains(i.NotAfter) || both.Contains(later.NotBefore) {
		t.Errorf("two intervals that share nothing share %v", both)
	}
}
