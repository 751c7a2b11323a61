package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// template is an attestation key of our template, a TPMT_PUBLIC. Synthetic.
func template(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public := tpm.AKTemplate()
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
	})
	return tpm2.Marshal(public)
}

// Each attribute decides: without restricted anybody has the key sign a quote
// made elsewhere, and what decrypts too is no key of this kind.
func TestEachAttributeOfAnAttestationKey(t *testing.T) {
	good := template(t)
	// userWithAuth, adminWithPolicy and noDA (TPM 2.0 Part 2, section 8.3).
	const either = 1<<6 | 1<<7 | 1<<10
	for bit := range 32 {
		changed := bytes.Clone(good)
		attributes := binary.BigEndian.Uint32(changed[4:]) ^ 1<<bit
		binary.BigEndian.PutUint32(changed[4:], attributes)
		want := attest.ErrIdentity
		if either&(1<<bit) != 0 {
			want = nil
		}
		if _, err := tpm.ParseAK(changed); !errors.Is(err, want) {
			t.Errorf("bit %d changed: %v, want %v", bit, err, want)
		}
	}
}

// rsaKey is a TPMT_PUBLIC with RSASSA and SHA-256, and a modulus that begins
// with a byte. Synthetic.
func rsaKey(bits uint16, exponent uint32, size int, first byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(nil, uint16(tpm2.TPMAlgRSA))
	b = be.AppendUint16(b, uint16(tpm2.TPMAlgSHA256))
	b = be.AppendUint32(b, 1<<1|1<<4|1<<5|1<<6|1<<16|1<<18)
	for _, n := range []uint16{0, uint16(tpm2.TPMAlgNull), uint16(tpm2.TPMAlgRSASSA), uint16(tpm2.TPMAlgSHA256), bits} {
		b = be.AppendUint16(b, n)
	}
	b = be.AppendUint32(b, exponent)
	b = be.AppendUint16(b, uint16(size))
	return append(append(b, first), bytes.Repeat([]byte{0xff}, size-1)...)
}

// with has one bit of a byte otherwise.
func with(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A signature of another algorithm is none, though its number would verify.
func TestRSASignatureNamesItsAlgorithm(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := rsaKey(2048, 0, 256, 0x80)
	key.N.FillBytes(public[len(public)-256:])
	ak, err := tpm.ParseAK(public)
	if err != nil {
		t.Fatal(err)
	}
	// What is cut off shows once the signature is good.
	quote := []byte("\xffTCG\x80\x18")
	digest := sha256.Sum256(quote)
	number, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, want := range map[tpm2.TPMAlgID]error{
		tpm2.TPMAlgRSASSA: attest.ErrMalformed, tpm2.TPMAlgRSAPSS: attest.ErrSignature, tpm2.TPMAlgECDSA: attest.ErrSignature,
	} {
		be := binary.BigEndian
		signature := be.AppendUint16(be.AppendUint16(nil, uint16(algorithm)), uint16(tpm2.TPMAlgSHA256))
		signature = append(be.AppendUint16(signature, 256), number...)
		if _, err := tpm.ParseQuote(ak, quote, signature); !errors.Is(err, want) {
			t.Errorf("algorithm %#x: %v, want %v", algorithm, err, want)
		}
	}
}

func TestSizeOfAnRSAKey(t *testing.T) {
	for name, c := range map[string]struct {
		public []byte
		want   error
	}{
		"2048 bits":             {rsaKey(2048, 0, 256, 0x80), nil},
		"2047 bits":             {rsaKey(2048, 0, 256, 0x7f), attest.ErrIdentity},
		"1024 said to be 2048":  {rsaKey(2048, 0, 128, 0x80), attest.ErrIdentity},
		"1024":                  {rsaKey(1024, 0, 128, 0x80), attest.ErrIdentity},
		"symmetric":             {with(rsaKey(2048, 0, 256, 0x80), 11), attest.ErrIdentity},
		"scheme":                {with(rsaKey(2048, 0, 256, 0x80), 13), attest.ErrIdentity},
		"hash":                  {with(rsaKey(2048, 0, 256, 0x80), 15), attest.ErrIdentity},
		"said to be 1024":       {rsaKey(1024, 0, 256, 0x80), attest.ErrIdentity},
		"named by SHA-384":      {with(rsaKey(2048, 0, 256, 0x80), 3), attest.ErrIdentity},
		"exponent 3":            {rsaKey(2048, 3, 256, 0x80), attest.ErrIdentity},
		"something behind it":   {append(rsaKey(2048, 0, 256, 0x80), 0), attest.ErrMalformed},
		"larger than there are": {rsaKey(2048, 0, 256, 0x80)[:200], attest.ErrMalformed},
	} {
		if _, err := tpm.ParseAK(c.public); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Each field of an elliptic key's parameters decides: what signs by another scheme,
// or on another curve, is no key of this kind.
func TestParametersOfAnAttestationKey(t *testing.T) {
	good := template(t)
	const parameters = 2 + 2 + 4 + 2
	for name, at := range map[string]int{
		"symmetric": parameters, "scheme": parameters + 2, "hash": parameters + 4, "curve": parameters + 6, "kdf": parameters + 8,
	} {
		bad := bytes.Clone(good)
		bad[at+1] ^= 1
		if _, err := tpm.ParseAK(bad); !errors.Is(err, attest.ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		public []byte
		want   error
	}{
		"good": {good, nil}, "something behind it": {append(bytes.Clone(good), 0), attest.ErrMalformed}, "cut short": {good[:len(good)-1], attest.ErrMalformed},
		"a keyed hash": {slices.Concat([]byte{0, 8}, good[2:]), attest.ErrIdentity},
	} {
		if _, err := tpm.ParseAK(c.public); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A key in PEM shows no attributes, and is of a kind that signs quotes.
func TestKeysInPEM(t *testing.T) {
	text := func(kind string, key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"P-256":       {text("PUBLIC KEY", p256.Public()), nil},
		"P-384":       {text("PUBLIC KEY", p384.Public()), attest.ErrIdentity},
		"Ed25519":     {text("PUBLIC KEY", edwards), attest.ErrIdentity},
		"another PEM": {text("EC PUBLIC KEY", p256.Public()), attest.ErrMalformed},
		"no PEM":      {[]byte("-----BEGIN nonsense"), attest.ErrMalformed},
		"no key":      {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), attest.ErrMalformed},
		"too large":   {append([]byte("-----BEGIN"), make([]byte, tpm.MaxPEM)...), attest.ErrMalformed},
	} {
		_, shown, err := tpm.ParseAKAnyForm(c.text)
		if shown || !errors.Is(err, c.want) {
			t.Errorf("%s: shown %t, %v", name, shown, err)
		}
	}
	if _, _, err := tpm.ParseAKAnyForm(append([]byte("-----BEGIN"), make([]byte, tpm.MaxPEM)...)); !strings.Contains(fmt.Sprint(err), "at most") {
		t.Errorf("a text that is too large: %v", err)
	}
}

// An endorsement key is of a kind that has a template, however it is named.
func TestEndorsementKeysHaveATemplate(t *testing.T) {
	der := func(key any) []byte {
		b, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		der    []byte
		want   error
		reason string
	}{
		"P-384":     {der(p384.Public()), nil, ""},
		"P-521":     {der(p521.Public()), attest.ErrIdentity, "is not P-256"},
		"nonsense":  {[]byte{1}, attest.ErrMalformed, "ek_public: "},
		"too large": {make([]byte, 513), attest.ErrMalformed, "at most"},
	} {
		if _, err := tpm.ParseEKPublic(c.der); !errors.Is(err, c.want) || err != nil && !strings.Contains(fmt.Sprint(err), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	root := chaintest.Root(t, "maker", chaintest.P256(t), nil)
	if _, err := tpm.ParseEK(root.Leaf("ek", p521.Public(), nil).Raw); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a certificate of a key on P-521: %v", err)
	}
}

// A point has coordinates of 32 bytes at the most, with leading zeros or
// without them.
func TestPointOfAnAttestationKey(t *testing.T) {
	// The coordinates are the last of a TPMT_PUBLIC: two sizes and 64 bytes.
	good := template(t)
	head, x, y := good[:len(good)-68], good[len(good)-66:len(good)-34], good[len(good)-32:]
	zero := []byte{0}
	for name, c := range map[string]struct {
		x, y []byte
		want error
	}{
		"as it is":  {x, y, nil},
		"long x":    {append(zero, x...), y, attest.ErrMalformed},
		"long y":    {x, append(zero, y...), attest.ErrMalformed},
		"no point":  {y, x, attest.ErrMalformed},
		"no x":      {nil, y, attest.ErrMalformed},
		"neither":   {nil, nil, attest.ErrMalformed},
		"very long": {make([]byte, 1<<10), y, attest.ErrMalformed},
	} {
		b := bytes.Clone(head)
		for _, coordinate := range [][]byte{c.x, c.y} {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(coordinate))), coordinate...)
		}
		if _, err := tpm.ParseAK(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
