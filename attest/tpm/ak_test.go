package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
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

func TestSizeOfAnRSAKey(t *testing.T) {
	for name, c := range map[string]struct {
		public []byte
		want   error
	}{
		"2048 bits":             {rsaKey(2048, 0, 256, 0x80), nil},
		"2047 bits":             {rsaKey(2048, 0, 256, 0x7f), attest.ErrIdentity},
		"1024 said to be 2048":  {rsaKey(2048, 0, 128, 0x80), attest.ErrIdentity},
		"1024":                  {rsaKey(1024, 0, 128, 0x80), attest.ErrIdentity},
		"exponent 3":            {rsaKey(2048, 3, 256, 0x80), attest.ErrIdentity},
		"something behind it":   {append(rsaKey(2048, 0, 256, 0x80), 0), attest.ErrMalformed},
		"larger than there are": {rsaKey(2048, 0, 256, 0x80)[:200], attest.ErrMalformed},
	} {
		if _, err := tpm.ParseAK(c.public); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
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
