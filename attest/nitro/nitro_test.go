package nitro_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
)

var nonce = []byte("a nonce")

func verify(raw []byte, terms nitro.Terms) (*nitro.Document, error) {
	d, err := nitro.Parse(raw)
	if err != nil {
		return nil, err
	}
	e, err := nitro.VerifyEndorsement(d.Certificate, d.Bundle, terms)
	if err != nil {
		return nil, err
	}
	return d, e.Check(d)
}

func TestGoodDocument(t *testing.T) {
	m := nitrotest.Draw(t, nil)
	for name, edit := range map[string]func(*nitrotest.Draft){
		"closed map":       nil,
		"open map":         func(d *nitrotest.Draft) { d.Indefinite = true },
		"no own fields":    func(d *nitrotest.Draft) { delete(d.Fields, "user_data"); delete(d.Fields, "public_key") },
		"some registers":   func(d *nitrotest.Draft) { d.Fields["nitrotpm_pcrs"] = map[uint8][]byte{4: make([]byte, 48)} },
		"its own data":     func(d *nitrotest.Draft) { d.Fields["user_data"] = make([]byte, 1024) },
		"another time, ms": func(d *nitrotest.Draft) { d.Fields["timestamp"] = uint64(1) },
	} {
		t.Run(name, func(t *testing.T) {
			d, err := verify(m.Document(nonce, nil, nil, edit), m.Terms())
			if err != nil {
				t.Fatal(err)
			}
			if string(d.Nonce) != string(nonce) || d.ModuleID == "" {
				t.Errorf("%+v", d)
			}
		})
	}
	d, err := verify(m.Document(nonce, nil, nil, nil), m.Terms())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Registers) != nitro.Registers || d.Registers[23] != (nitro.Register{23}) || !d.Timestamp.Equal(chaintest.Now) {
		t.Errorf("%d registers of %s", len(d.Registers), d.Timestamp)
	}
}

// Each differs from a good document in one thing, and is signed all the same.
func TestDocumentRefused(t *testing.T) {
	m, stranger := nitrotest.Draw(t, nil), nitrotest.Draw(t, nil)
	field := func(name string, value any) func(*nitrotest.Draft) {
		return func(d *nitrotest.Draft) { d.Fields[name] = value }
	}
	for name, c := range map[string]struct {
		edit func(*nitrotest.Draft)
		want error
	}{
		"an enclave's": {func(d *nitrotest.Draft) {
			d.Fields["pcrs"] = d.Fields["nitrotpm_pcrs"]
			delete(d.Fields, "nitrotpm_pcrs")
		}, attest.ErrIdentity},
		"both":             {func(d *nitrotest.Draft) { d.Fields["pcrs"] = d.Fields["nitrotpm_pcrs"] }, attest.ErrIdentity},
		"unknown field":    {field("extra", 1), attest.ErrMalformed},
		"upper case":       {field("Nonce", []byte("other")), attest.ErrMalformed},
		"digest":           {field("digest", "SHA256"), attest.ErrMalformed},
		"no module":        {field("module_id", ""), attest.ErrMalformed},
		"long module":      {field("module_id", strings.Repeat("m", 257)), attest.ErrMalformed},
		"no time":          {field("timestamp", 0), attest.ErrMalformed},
		"endless time":     {field("timestamp", uint64(1)<<63), attest.ErrMalformed},
		"no certificate":   {field("certificate", nil), attest.ErrMalformed},
		"no bundle":        {field("cabundle", nil), attest.ErrMalformed},
		"long bundle":      {field("cabundle", make([][]byte, 9)), attest.ErrMalformed},
		"no registers":     {field("nitrotpm_pcrs", map[int][]byte{}), attest.ErrMalformed},
		"register 24":      {field("nitrotpm_pcrs", map[int][]byte{24: make([]byte, 48)}), attest.ErrMalformed},
		"register 256":     {field("nitrotpm_pcrs", map[int][]byte{256: make([]byte, 48)}), attest.ErrMalformed},
		"short register":   {field("nitrotpm_pcrs", map[int][]byte{4: make([]byte, 32)}), attest.ErrMalformed},
		"long user data":   {field("user_data", make([]byte, 1025)), attest.ErrMalformed},
		"tagged":           {func(d *nitrotest.Draft) { d.Prefix = []byte{0xd2} }, attest.ErrMalformed},
		"long signature":   {func(d *nitrotest.Draft) { d.Signature = make([]byte, 97) }, attest.ErrMalformed},
		"no signature":     {func(d *nitrotest.Draft) { d.Signature = []byte{} }, attest.ErrMalformed},
		"es256":            {func(d *nitrotest.Draft) { d.Protected = []byte{0xa1, 0x01, 0x26} }, attest.ErrMalformed},
		"no algorithm":     {func(d *nitrotest.Draft) { d.Protected = []byte{0xa0} }, attest.ErrMalformed},
		"another's key":    {func(d *nitrotest.Draft) { d.Key = chaintest.P384(t) }, attest.ErrSignature},
		"another's signer": {func(d *nitrotest.Draft) { d.Fields["certificate"] = stranger.Signer.Raw }, attest.ErrIdentity},
		"too long":         {field("public_key", make([]byte, nitro.MaxDocument)), attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify(m.Document(nonce, nil, nil, c.edit), m.Terms()); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestEndorsementRefused(t *testing.T) {
	other := nitrotest.Draw(t, nil)
	for name, c := range map[string]struct {
		signer func(*x509.Certificate)
		terms  func(*nitrotest.Machine, *nitro.Terms)
		want   error
	}{
		"another root":    {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.Roots = other.Terms().Roots }, attest.ErrIdentity},
		"aws's root":      {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.Roots = nitro.AWSRoots() }, attest.ErrIdentity},
		"no root":         {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.Roots = nil }, attest.ErrPolicy},
		"unset treatment": {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.Revocations.Treatment = 0 }, attest.ErrPolicy},
		"lists required":  {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.Revocations.Treatment = chain.Required }, attest.ErrCollateral},
		"revoked":         {nil, func(m *nitrotest.Machine, w *nitro.Terms) { w.Revocations.Lists = []*chain.List{m.Revoked()} }, attest.ErrRevoked},
		"expired":         {nil, func(_ *nitrotest.Machine, w *nitro.Terms) { w.At = w.At.Add(3 * time.Hour) }, attest.ErrIdentity},
		"authority":       {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, nil, attest.ErrIdentity},
		"other usage":     {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, nil, attest.ErrIdentity},
	} {
		t.Run(name, func(t *testing.T) {
			m := nitrotest.Draw(t, c.signer)
			terms := m.Terms()
			if c.terms != nil {
				c.terms(m, &terms)
			}
			if _, err := verify(m.Document(nonce, nil, nil, nil), terms); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestEveryByteCounts(t *testing.T) {
	m := nitrotest.Draw(t, nil)
	raw := m.Document(nonce, nil, nil, nil)
	good, err := nitro.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := nitro.VerifyEndorsement(good.Certificate, good.Bundle, m.Terms())
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		bad := slices.Clone(raw)
		bad[i] ^= 0x10
		d, err := nitro.Parse(bad)
		if err == nil {
			err = e.Check(d)
		}
		if !errors.Is(err, attest.ErrRefused) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

func TestAWSRoot(t *testing.T) {
	const want = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
	roots := nitro.AWSRoots()
	if len(roots) != 1 || attest.Sum(roots[0].Raw).String() != want {
		t.Errorf("%d roots, want the one of digest %s", len(roots), want)
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := nitro.Parse(raw)
		if err == nil {
			_, err = nitro.VerifyEndorsement(d.Certificate, d.Bundle, nitro.Terms{
				Roots: nitro.AWSRoots(), At: chaintest.Now, Revocations: chain.Revocations{Treatment: chain.NotPublished},
			})
		}
		if err != nil && !errors.Is(err, attest.ErrRefused) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	m := nitrotest.Draw(b, nil)
	raw := m.Document(nonce, nil, nil, nil)
	d, err := nitro.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	e, err := nitro.VerifyEndorsement(d.Certificate, d.Bundle, m.Terms())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("document", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d, err := nitro.Parse(raw)
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Check(d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor: one P-384 verification", func(b *testing.B) {
		key := chaintest.P384(b)
		digest := sha512.Sum384(raw)
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				b.Fatal("refused")
			}
		}
	})
}

// A signer on another curve signs nothing here.
func TestSignerOnAnotherCurve(t *testing.T) {
	root := chaintest.Root(t, "root", chaintest.P384(t), nil)
	usage := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }
	terms := nitro.Terms{Roots: []*x509.Certificate{root.Certificate}, Revocations: chain.Revocations{Treatment: chain.NotPublished}, At: chaintest.Now}
	for key, want := range map[*ecdsa.PrivateKey]error{chaintest.P384(t): nil, chaintest.P256(t): attest.ErrIdentity} {
		leaf := root.Leaf("signer", key.Public(), usage)
		if _, err := nitro.VerifyEndorsement(leaf.Raw, nil, terms); !errors.Is(err, want) {
			t.Errorf("%s: %v", key.Curve.Params().Name, err)
		}
	}
	if _, err := nitro.VerifyEndorsement([]byte("nonsense"), nil, terms); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
}
