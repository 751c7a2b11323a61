package verifier

import (
	"bytes"
	"fmt"
	"io"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/internal/memo"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// Verified is evidence whose signatures hold and that answers this verifier's
// nonce on this verifier's connection. Whether what it shows is good is not
// yet said: Appraise does.
type Verified struct {
	// EK is the SHA-256 of the endorsement key's SubjectPublicKeyInfo; zero
	// where neither a certificate nor a report shows one.
	EK attest.Digest
	// AK is the TPM name of the attestation key (TPM 2.0 Part 1, section 16).
	AK []byte
	// Config is the digest of the measured machine configuration, Claim that
	// of the claim; zero on an unclaimed machine.
	Config attest.Digest
	Claim  attest.Digest
	// Registers are the quoted values, and Resets counts what set them to zero: two
	// numbers of one attestation key compare.
	Registers *attest.Registers
	Resets    uint32
	// ReferenceValues are what the machine shows of its release. They carry
	// their own proof, which is not checked here.
	ReferenceValues evidence.ReferenceValues
	// EventLog is the firmware's log, which proves nothing.
	EventLog []byte

	endorsed *endorsed
	ak       *tpm.AK
	// ek is nil where none is shown.
	ek      *tpm.EK
	reports []report
}

// Verifier verifies evidence. It keeps what it parsed of keys and certificates
// by their bytes, so that the next evidence of the same machine costs the
// signatures over what is new in it. The zero value is ready.
type Verifier struct {
	endorsed memo.Memo[*endorsed]
	aks      memo.Memo[*tpm.AK]
}

// Verify decodes evidence, compares it with what this end knows of nonce and
// connection, and checks the quote. Who vouches for the endorsement key is a
// matter of policy and not looked at. Errors are attest.ErrMalformed,
// attest.ErrStale, attest.ErrBinding, attest.ErrSignature,
// attest.ErrRegisters or attest.ErrIdentity.
func (v *Verifier) Verify(encoded []byte, nonce attest.Nonce, ch attest.Channel) (*Verified, error) {
	e, err := evidence.Decode(encoded)
	if err != nil {
		return nil, err
	}
	if err := checkBinding(e, nonce, ch); err != nil {
		return nil, err
	}
	endorsed, err := v.endorsed.Get(e.Endorsements, parseEndorsed)
	if err != nil {
		return nil, err
	}
	ak, err := v.aks.Get(e.TPM.AKPublic, tpm.ParseAK)
	if err != nil {
		return nil, err
	}
	root, err := e.Batch.Root(ch.Leaf(nonce, e.Config, e.Claim))
	if err != nil {
		return nil, err
	}
	extra := attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())
	quote, registers, err := tpm.VerifyQuote(ak, e.TPM.Quote, e.TPM.Signature, extra, e.TPM.Registers)
	if err != nil {
		return nil, err
	}
	reports, err := parseReports(e, ak, root)
	if err != nil {
		return nil, err
	}
	verified := &Verified{
		AK: ak.Name, Config: e.Config, Claim: e.Claim, Registers: registers, Resets: quote.ResetCount,
		ReferenceValues: e.ReferenceValues, EventLog: e.EventLog, endorsed: endorsed, ak: ak, reports: reports,
	}
	if err := verified.keys(); err != nil {
		return nil, err
	}
	return verified, nil
}

// keys holds the keys that others name against each other. Errors are
// attest.ErrBinding and attest.ErrIdentity.
func (v *Verified) keys() error {
	if certificate := v.endorsed.ak; certificate != nil {
		if err := certificate.Of(v.ak); err != nil {
			return err
		}
	}
	v.ek = v.endorsed.ek
	for _, r := range v.reports {
		by, ok := r.(endorser)
		if !ok {
			continue
		}
		named, err := tpm.EKWithoutCertificate(by.endorsementKey())
		if err != nil {
			return err
		}
		if v.ek != nil && v.ek.ID != named.ID {
			return fmt.Errorf("%w: the %s report names another endorsement key than is certified", attest.ErrBinding, r.name())
		}
		v.ek = named
	}
	if v.ek != nil {
		v.EK = v.ek.ID
	}
	return nil
}

// Platforms are the names of the hardware reports that came along, whatever a
// policy makes of them.
func (v *Verified) Platforms() []string {
	names := make([]string, len(v.reports))
	for i, r := range v.reports {
		names[i] = r.name()
	}
	return names
}

// checkBinding compares what the evidence says of its connection with what
// this end knows of it. The quote covers the same fields again; here the
// reason can be named.
func checkBinding(e *evidence.Evidence, nonce attest.Nonce, ch attest.Channel) error {
	switch {
	case e.Nonce != nonce:
		return fmt.Errorf("%w: it answers another nonce", attest.ErrStale)
	case e.Role != ch.Role:
		return fmt.Errorf("%w: role %d, want %d", attest.ErrBinding, e.Role, ch.Role)
	case len(ch.SPKI) == 0 || ch.Exporter == [32]byte{}:
		return fmt.Errorf("%w: this end has no channel", attest.ErrBinding)
	case !bytes.Equal(e.SPKI, ch.SPKI):
		return fmt.Errorf("%w: the machine's key is not the connection's; something between terminates tls", attest.ErrBinding)
	}
	return nil
}

// Challenge makes a credential that only the machine of this evidence can
// open. Errors are those of rand, and attest.ErrIdentity where nothing shows
// the machine's endorsement key.
func (v *Verified) Challenge(rand io.Reader) (*tpm.Challenge, error) {
	if v.ek == nil {
		return nil, fmt.Errorf("%w: the machine shows no endorsement key to challenge", attest.ErrIdentity)
	}
	return tpm.NewChallenge(rand, v.ek, v.ak)
}
