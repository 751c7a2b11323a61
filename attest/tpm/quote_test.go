package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// signer is a key outside any TPM with the public area of an attestation key,
// so that a test decides what it signs.
type signer struct {
	t   testing.TB
	key *ecdsa.PrivateKey
	ak  *tpm.AK
}

func newSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := tpm.AKTemplate()
	x, y := make([]byte, 32), make([]byte, 32)
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	copy(x, point[1:33])
	copy(y, point[33:])
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y},
	})
	ak, err := tpm.ParseAK(tpm2.Marshal(public))
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t: t, key: key, ak: ak}
}

// attestation is a quote over the registers with what a test changes.
type attestation struct {
	// head is what the quote begins with: magic and type.
	head      []byte
	selection tpm2.TPMLPCRSelection
	extra     attest.Digest
	values    []attest.Digest
	trailing  []byte
}

func (s *signer) verify(change func(*attestation)) error {
	s.t.Helper()
	a := attestation{
		selection: tpm.PCRSelection(),
		extra:     attest.Digest{7}, values: make([]attest.Digest, len(tpm.Selection)),
	}
	shown := make([]attest.Digest, len(tpm.Selection))
	if change != nil {
		change(&a)
	}
	h := sha256.New()
	for _, value := range a.values {
		h.Write(value[:])
	}
	quote := tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, ExtraData: tpm2.TPM2BData{Buffer: a.extra[:]},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: a.selection, PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
		}),
	})
	copy(quote, a.head)
	quote = append(quote, a.trailing...)
	_, _, err := tpm.VerifyQuote(s.ak, quote, s.sign(s.t, quote), attest.Digest{7}, shown)
	return err
}

// sign is a TPMT_SIGNATURE of ECDSA over SHA-256.
func (s *signer) sign(t testing.TB, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.Marshal(tpm2.TPMTSignature{
		SigAlg: tpm2.TPMAlgECDSA,
		Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
			Hash:       tpm2.TPMAlgSHA256,
			SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, 32))},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: v.FillBytes(make([]byte, 32))},
		}),
	})
}

func selecting(hash tpm2.TPMAlgID, registers ...uint8) tpm2.TPMLPCRSelection {
	s := tpm.SelectSHA256(registers...)
	s.PCRSelections[0].Hash = hash
	return s
}

// A key signs many things; a quote of these registers, in this bank, for this
// question is one of them.
func TestOnlySuchAQuoteIsAccepted(t *testing.T) {
	s := newSigner(t)
	if err := s.verify(nil); err != nil {
		t.Fatal(err)
	}
	twice := tpm.PCRSelection()
	twice.PCRSelections = append(twice.PCRSelections, twice.PCRSelections[0])
	many := tpm2.TPMLPCRSelection{PCRSelections: make([]tpm2.TPMSPCRSelection, 9)}
	for i := range many.PCRSelections {
		many.PCRSelections[i] = tpm.PCRSelection().PCRSelections[0]
	}
	without12 := []uint8{0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 14, 15}
	for name, c := range map[string]struct {
		change func(*attestation)
		want   error
	}{
		"another magic":       {func(a *attestation) { a.head = []byte{0xff, 0x54, 0x43, 0x48} }, attest.ErrSignature},
		"another attestation": {func(a *attestation) { a.head = []byte{0xff, 0x54, 0x43, 0x47, 0x80, 0x17} }, attest.ErrSignature},
		"another question":    {func(a *attestation) { a.extra[0]++ }, attest.ErrBinding},
		"another bank":        {func(a *attestation) { a.selection = selecting(tpm2.TPMAlgSHA384, tpm.Selection[:]...) }, attest.ErrRegisters},
		"two banks":           {func(a *attestation) { a.selection = twice }, attest.ErrRegisters},
		"no bank":             {func(a *attestation) { a.selection = tpm2.TPMLPCRSelection{} }, attest.ErrRegisters},
		"too many banks":      {func(a *attestation) { a.selection = many }, attest.ErrMalformed},
		"without register 12": {func(a *attestation) { a.selection = tpm.SelectSHA256(without12...) }, attest.ErrRegisters},
		"other values":        {func(a *attestation) { a.values[3][0]++ }, attest.ErrRegisters},
		"trailing bytes":      {func(a *attestation) { a.trailing = []byte{0} }, attest.ErrMalformed},
	} {
		if err := s.verify(c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The registers that a quote covers are design promise 3's.
func TestSelection(t *testing.T) {
	if want := [...]uint8{0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15}; tpm.Selection != want {
		t.Errorf("%v, want %v", tpm.Selection, want)
	}
}

// A signature says which hash it is over, and has to say SHA-256.
func TestSignatureNamesItsHash(t *testing.T) {
	s := newSigner(t)
	quote := []byte("\xffTCG\x80\x18")
	good := s.sign(t, quote)
	for name, c := range map[string]struct {
		at    int
		value byte
		want  error
	}{
		// The quote is cut off, which shows once the signature is good.
		"as it is":          {0, 0, attest.ErrMalformed},
		"SHA-1":             {3, 0x04, attest.ErrSignature},
		"SHA-384":           {3, 0x0c, attest.ErrSignature},
		"another algorithm": {1, 0x14, attest.ErrSignature},
	} {
		changed := append([]byte(nil), good...)
		changed[c.at] = c.value
		if _, err := tpm.ParseQuote(s.ak, quote, changed); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A signature has one end.
func TestSignatureIsWhole(t *testing.T) {
	s := newSigner(t)
	quote := []byte("\xffTCG\x80\x18")
	good := s.sign(t, quote)
	for name, signature := range map[string][]byte{
		"something behind it": append(bytes.Clone(good), 0), "cut short": good[:len(good)-1], "empty": nil,
	} {
		if _, err := tpm.ParseQuote(s.ak, quote, signature); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), "signature") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
