package azure_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
)

const requestAt = azuretest.RequestAt

func drawKey(tb testing.TB) *rsa.PublicKey {
	tb.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return &k.PublicKey
}

func TestParse(t *testing.T) {
	v := snptest.Draw(t, "Milan")
	vcek, key, endorsement := v.VCEK(nil), drawKey(t), drawKey(t)
	text := azuretest.Claims(key, endorsement)
	for _, hash := range []uint32{1, 2, 3} {
		r, err := azure.Parse(azuretest.SNP(vcek, text, hash, nil))
		if err != nil {
			t.Fatalf("hash %d: %v", hash, err)
		}
		if !r.AK.Equal(key) || !r.EK.Equal(endorsement) || len(r.UserData) != 64 || string(r.Claims) != text || r.TDX != nil {
			t.Errorf("hash %d: %+v", hash, r)
		}
		e, err := snp.VerifyEndorsement(vcek.Certificate, []*x509.Certificate{vcek.Authority}, []snp.Anchor{v.Anchor()}, v.Revocations(), snptest.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(r.SNP); err != nil {
			t.Errorf("hash %d: %v", hash, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	vcek, key := snptest.Draw(t, "Milan").VCEK(nil), drawKey(t)
	text := azuretest.Claims(key, drawKey(t))
	set := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	replaced := func(old, with string) string { return strings.Replace(text, old, with, 1) }
	for name, c := range map[string]struct {
		claims string
		edit   func([]byte)
		want   error
	}{
		"version 2":         {text, set(4, 2), nil},
		"without user data": {text[:strings.Index(text, `,"user-data"`)] + "}", nil, nil},
		"signature":         {text, set(0, 0), attest.ErrMalformed},
		"version":           {text, set(4, 3), attest.ErrMalformed},
		"size":              {text, set(8, 7), attest.ErrMalformed},
		"request type":      {text, set(12, 1), attest.ErrMalformed},
		"status":            {text, set(16, 1), attest.ErrMalformed},
		"reserved":          {text, set(28, 1), attest.ErrMalformed},
		"data size":         {text, set(requestAt, 7), attest.ErrMalformed},
		"request version":   {text, set(requestAt+4, 2), attest.ErrMalformed},
		"vbs":               {text, set(requestAt+8, 1), attest.ErrMalformed},
		"trusted vm":        {text, set(requestAt+8, 3), attest.ErrMalformed},
		"tdx":               {text, set(requestAt+8, 4), attest.ErrMalformed},
		"report type":       {text, set(requestAt+8, 5), attest.ErrMalformed},
		"hash type":         {text, set(requestAt+12, 4), attest.ErrMalformed},
		"another hash type": {text, set(requestAt+12, 2), attest.ErrBinding},
		"length":            {text, set(requestAt+16, 0xffffffff), attest.ErrMalformed},
		"shorter claims":    {text, set(requestAt+16, 10), attest.ErrMalformed},
		"claims changed":    {text, func(b []byte) { b[requestAt+20+5] ^= 1 }, attest.ErrBinding},
		"report data":       {text, func(b []byte) { b[32+0x50] ^= 1 }, attest.ErrBinding},
		"behind the hash":   {text, func(b []byte) { b[32+0x50+32] ^= 1 }, attest.ErrBinding},
		"behind the claims": {text, func(b []byte) { b[len(b)-1] = 1 }, attest.ErrMalformed},
		"report version":    {text, set(32, 9), attest.ErrMalformed},
		"not json":          {"{", nil, attest.ErrMalformed},
		"no keys":           {"{}", nil, attest.ErrMalformed},
		"two keys":          {replaced("HCLEkPub", "HCLAkPub"), nil, attest.ErrMalformed},
		"two other keys":    {replaced("HCLAkPub", "HCLEkPub"), nil, attest.ErrMalformed},
		"one twice":         {replaced(`"keys":[`, `"keys":[`+strings.Replace(first(text), "HCLAkPub", "HCLEkPub", 1)+","), nil, attest.ErrMalformed},
		"another key":       {replaced("HCLAkPub", "HCLOther"), nil, attest.ErrMalformed},
		"no endorsement":    {replaced("HCLEkPub", "HCLOther"), nil, nil},
		"wrong endorsement": {replaced(`"kid":"HCLEkPub","key_ops":["encrypt"],"kty":"RSA"`, `"kid":"HCLEkPub","kty":"EC"`), nil, attest.ErrMalformed},
		"exponent":          {replaced("AQAB", "Aw"), nil, attest.ErrMalformed},
		"key type":          {replaced("RSA", "EC"), nil, attest.ErrMalformed},
		"short modulus":     {replaced(`"n":"`, `"n":"AQ","x":"`), nil, attest.ErrMalformed},
		"user data":         {replaced("07", "0"), nil, attest.ErrMalformed},
		"one key twice":     {replaced(`"keys":[`, `"keys":[`+first(text)+","), nil, attest.ErrMalformed},
		"as many keys":      {replaced(`"keys":[`, `"keys":[`+strings.Repeat("{},", 14)), nil, nil},
		"too many keys":     {replaced(`"keys":[`, `"keys":[`+strings.Repeat("{},", 15)), nil, attest.ErrMalformed},
		"small modulus":     {azuretest.Claims(&rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1))}, drawKey(t)), nil, attest.ErrMalformed},
		"short user data":   {replaced(`"user-data":"07`, `"user-data":"`), nil, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			b := azuretest.SNP(vcek, c.claims, azuretest.SHA256, nil)
			if c.edit != nil {
				c.edit(b)
			}
			if _, err := azure.Parse(b); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	good := azuretest.SNP(vcek, text, azuretest.SHA256, nil)
	for size, want := range map[int]error{azure.MaxSize: nil, azure.MaxSize + 1: attest.ErrMalformed} {
		padded := append(bytes.Clone(good), make([]byte, size-len(good))...)
		if _, err := azure.Parse(padded); !errors.Is(err, want) {
			t.Errorf("padded to %d bytes: %v, want %v", size, err, want)
		}
		if _, err := azure.WithQuote(padded, nil); !errors.Is(err, want) {
			t.Errorf("padded to %d bytes, with a quote: %v, want %v", size, err, want)
		}
	}
	for _, size := range []int{0, requestAt + 19, azure.MaxSize + 1} {
		if _, err := azure.Parse(make([]byte, size)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestParseTDX(t *testing.T) {
	p, key := tdxtest.Draw(t), drawKey(t)
	text := azuretest.Claims(key, drawKey(t))
	good := azuretest.TDX(p, text, azuretest.SHA256, nil)
	quote := p.Quote(azuretest.ReportData(text, azuretest.SHA256), nil)
	index := append(bytes.Clone(good[:requestAt+20+len(text)]), make([]byte, 200)...)
	joined, err := azure.WithQuote(index, quote)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"one": good, "joined": joined} {
		r, err := azure.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r.SNP != nil || !r.AK.Equal(key) || r.TDX.Report.MRTD != p.Report.MRTD {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, c := range map[string]struct {
		edit func(b []byte) []byte
		want error
	}{
		"no quote":            {func([]byte) []byte { return index }, attest.ErrMalformed},
		"snp's type":          {func(b []byte) []byte { b[requestAt+8] = 2; return b }, attest.ErrMalformed},
		"snp's type alone":    {func([]byte) []byte { b := bytes.Clone(index); b[requestAt+8] = 2; return b }, attest.ErrMalformed},
		"report's type":       {func(b []byte) []byte { b[32] = 0; return b }, attest.ErrMalformed},
		"behind the report":   {func(b []byte) []byte { b[32+1024] = 1; return b }, attest.ErrMalformed},
		"claims":              {func(b []byte) []byte { b[requestAt+20+5] ^= 1; return b }, attest.ErrBinding},
		"report's attributes": {func(b []byte) []byte { b[32+512] ^= 1; return b }, attest.ErrBinding},
		"report's mrtd":       {func(b []byte) []byte { b[32+528] ^= 1; return b }, attest.ErrBinding},
		"report's rtmr 3":     {func(b []byte) []byte { b[32+911] ^= 1; return b }, attest.ErrBinding},
		"report's data":       {func(b []byte) []byte { b[32+128+63] ^= 1; return b }, attest.ErrBinding},
		"quote cut":           {func(b []byte) []byte { return b[:len(b)-1] }, attest.ErrMalformed},
		"another quote": {func([]byte) []byte {
			b, _ := azure.WithQuote(index, p.Quote([64]byte{1}, nil))
			return b
		}, attest.ErrBinding},
		"chosen data": {func([]byte) []byte {
			return azuretest.TDX(p, text, azuretest.SHA256, func(d *tdxtest.Draft) { d.Report.ReportData[63]++ })
		}, attest.ErrBinding},
	} {
		if _, err := azure.Parse(c.edit(bytes.Clone(good))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, b := range map[string][]byte{"short": index[:100], "long": make([]byte, azure.MaxSize+1), "no index": make([]byte, 2000), "a quote already": good} {
		if _, err := azure.WithQuote(b, quote); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// first is the first of the keys among claims.
func first(claims string) string {
	from, to := strings.Index(claims, "{\"kid\""), strings.Index(claims, "},")
	return claims[from : to+1]
}

func FuzzParse(f *testing.F) {
	text := azuretest.Claims(drawKey(f), drawKey(f))
	f.Add(azuretest.SNP(snptest.Draw(f, "Milan").VCEK(nil), text, azuretest.SHA256, nil))
	f.Add(azuretest.TDX(tdxtest.Draw(f), text, azuretest.SHA256, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := azure.Parse(b)
		if err != nil && !errors.Is(err, attest.ErrRefused) {
			t.Errorf("error %v of no known kind", err)
		}
		if err == nil && (r.AK == nil || (r.SNP == nil) == (r.TDX == nil)) {
			t.Error("accepted without a key, or not with one report")
		}
	})
}
