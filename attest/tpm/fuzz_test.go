package tpm_test

import (
	"crypto/x509"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// genuine is evidence of a real software TPM, as a seed.
func genuine(f *testing.F) (certificate []byte, said evidence.TPM) {
	f.Helper()
	t, err := attester.Open(swtpmtest.Start(f))
	if err != nil {
		f.Fatal(err)
	}
	b, err := t.Evidence(attester.Subject{Channel: attest.Channel{Role: attest.RoleServe}})
	if err != nil {
		f.Fatal(err)
	}
	e, err := evidence.Decode(b)
	if err != nil {
		f.Fatal(err)
	}
	return t.EKCertificate(), e.TPM
}

func refusedOrFine(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v of no known kind", err)
	}
}

func FuzzKeys(f *testing.F) {
	certificate, e := genuine(f)
	f.Add(certificate, e.AKPublic)
	f.Add([]byte{}, []byte{})
	f.Add(e.AKPublic, certificate)
	if parsed, err := x509.ParseCertificate(certificate); err == nil {
		f.Add(certificate, parsed.RawSubjectPublicKeyInfo)
	}
	f.Fuzz(func(t *testing.T, certificate, public []byte) {
		_, err := tpm.ParseEK(certificate)
		refusedOrFine(t, err)
		if ek, err := tpm.ParseEKPublic(public); err == nil {
			if again, err := tpm.ParseEKPublic(public); err != nil || again.ID != ek.ID {
				t.Errorf("the same key is another: %v", err)
			}
		} else {
			refusedOrFine(t, err)
		}
		ak, err := tpm.ParseAK(public)
		refusedOrFine(t, err)
		certified, err := tpm.ParseAKCertificate(certificate)
		refusedOrFine(t, err)
		if ak != nil && certified != nil {
			refusedOrFine(t, certified.Of(ak))
		}
	})
}

// FuzzVerifyQuote tries each quote as it is signed, and again signed anew: what
// is behind a signature is hostile too.
func FuzzVerifyQuote(f *testing.F) {
	_, e := genuine(f)
	ak, err := tpm.ParseAK(e.AKPublic)
	if err != nil {
		f.Fatal(err)
	}
	s := newSigner(f)
	f.Add(e.Quote, e.Signature)
	f.Add(e.Signature, e.Quote)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, quote, signature []byte) {
		_, _, err := tpm.VerifyQuote(ak, quote, signature, attest.Digest{}, e.Registers)
		if err == nil {
			t.Error("a quote over something else passes")
		}
		refusedOrFine(t, err)
		resigned := s.sign(t, quote)
		q, err := tpm.ParseQuote(s.ak, quote, resigned)
		refusedOrFine(t, err)
		if err != nil {
			return
		}
		var extra attest.Digest
		copy(extra[:], q.ExtraData)
		_, _, err = tpm.VerifyQuote(s.ak, quote, resigned, extra, e.Registers)
		refusedOrFine(t, err)
		if err == nil && (len(q.ExtraData) != 32 || len(q.Banks) != 1 || q.Banks[0].Hash != 0x0b) {
			t.Errorf("%+v passes", q)
		}
	})
}
