package azure_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
)

const requestAt = 32 + snp.ReportSize

// claims are laid out as a paravisor's, around one key.
func claims(key *rsa.PublicKey) string {
	return fmt.Sprintf(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"%s"},`+
		`{"kid":"HCLEkPub","key_ops":["encrypt"],"kty":"RSA","e":"AQAB","n":"AQ"}],`+
		`"vm-configuration":{"secure-boot":true,"tpm-enabled":true},"user-data":"%s"}`,
		base64.RawURLEncoding.EncodeToString(key.N.Bytes()), hex.EncodeToString(bytes.Repeat([]byte{7}, 64)))
}

// index is a synthetic content of the NV index, with its hash of the given type.
func index(k *snptest.Key, text string, hash uint32) []byte {
	report := k.Report(func(r *snp.Report) {
		switch hash {
		case 2:
			sum := sha512.Sum384([]byte(text))
			copy(r.ReportData[:], sum[:])
		case 3:
			r.ReportData = sha512.Sum512([]byte(text))
		default:
			sum := sha256.Sum256([]byte(text))
			copy(r.ReportData[:], sum[:])
		}
	})
	n := uint32(len(text))
	b := words([]byte("HCLA"), 1, uint32(requestAt)+20+n, 2, 0, 0, 0, 0)
	b = words(append(b, report...), 20+n, 1, 2, hash, n)
	return append(append(b, text...), make([]byte, 200)...)
}

func words(b []byte, all ...uint32) []byte {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

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
	vcek, key := v.VCEK(nil), drawKey(t)
	for _, hash := range []uint32{1, 2, 3} {
		r, err := azure.Parse(index(vcek, claims(key), hash))
		if err != nil {
			t.Fatalf("hash %d: %v", hash, err)
		}
		if !r.AK.Equal(key) || len(r.UserData) != 64 || string(r.Claims) != claims(key) {
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
	text := claims(key)
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
		"another key":       {replaced("HCLAkPub", "HCLOther"), nil, attest.ErrMalformed},
		"exponent":          {replaced("AQAB", "Aw"), nil, attest.ErrMalformed},
		"key type":          {replaced("RSA", "EC"), nil, attest.ErrMalformed},
		"short modulus":     {replaced(`"n":"`, `"n":"AQ","x":"`), nil, attest.ErrMalformed},
		"user data":         {replaced("07", "0"), nil, attest.ErrMalformed},
		"too many keys":     {`{"keys":[` + strings.Repeat("{},", 16) + "{}]}", nil, attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			b := index(vcek, c.claims, 1)
			if c.edit != nil {
				c.edit(b)
			}
			if _, err := azure.Parse(b); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	for _, size := range []int{0, requestAt + 19, azure.MaxSize + 1} {
		if _, err := azure.Parse(make([]byte, size)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(index(snptest.Draw(f, "Milan").VCEK(nil), claims(drawKey(f)), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := azure.Parse(b)
		if err != nil && !errors.Is(err, attest.ErrRefused) {
			t.Errorf("error %v of no known kind", err)
		}
		if err == nil && (r.AK == nil || r.SNP == nil) {
			t.Error("accepted without a key")
		}
	})
}
