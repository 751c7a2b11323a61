package verifier

import (
	"bytes"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// Appraise verifies evidence and judges it. An error means that nothing could
// be appraised: the evidence is malformed, stale, bound to another connection
// or badly signed, or the policy is incomplete. A machine that proves what it
// is but is not what the policy accepts has a Result whose appraisal is not
// Accepted.
func Appraise(in Input, p Policy) (Result, error) {
	if err := p.check(); err != nil {
		return Result{}, err
	}
	e, err := evidence.Decode(in.Evidence)
	if err != nil {
		return Result{}, err
	}
	if err := checkBinding(e, in); err != nil {
		return Result{}, err
	}
	facts, ek, err := verify(e, in)
	if err != nil {
		return Result{}, err
	}
	j := &judge{policy: p, facts: facts, ek: ek, activation: in.Activation}
	return Result{Appraisal: j.appraise(), Facts: facts}, nil
}

// checkBinding compares what the evidence says of its connection with what
// this end knows of it. The quote covers the same fields again; here the
// reason can be named.
func checkBinding(e *evidence.Evidence, in Input) error {
	switch {
	case e.Nonce != in.Nonce:
		return fmt.Errorf("%w: it answers another nonce", attest.ErrStale)
	case e.Role != in.Channel.Role:
		return fmt.Errorf("%w: role %d, want %d", attest.ErrBinding, e.Role, in.Channel.Role)
	case len(in.Channel.SPKI) == 0 || in.Channel.Exporter == [32]byte{}:
		return fmt.Errorf("%w: this end has no channel", attest.ErrBinding)
	case !bytes.Equal(e.SPKI, in.Channel.SPKI):
		return fmt.Errorf("%w: the machine's key is not the connection's; something between terminates tls", attest.ErrBinding)
	}
	return nil
}

// verify checks every signature but the endorsement certificate's, which is a
// matter of policy.
func verify(e *evidence.Evidence, in Input) (Facts, *tpm.EK, error) {
	ek, err := tpm.ParseEK(e.TPM.EKCertificate)
	if err != nil {
		return Facts{}, nil, err
	}
	ak, err := tpm.ParseAK(e.TPM.AKPublic)
	if err != nil {
		return Facts{}, nil, err
	}
	if err := checkClaim(e.Claim, ak); err != nil {
		return Facts{}, nil, err
	}
	claimDigest := ownership.Digest(e.Claim)
	leaf := in.Channel.Leaf(in.Nonce, attest.ConfigDigest(e.Config), claimDigest)
	root, err := e.Batch.Root(leaf)
	if err != nil {
		return Facts{}, nil, err
	}
	extra := attest.QuoteData(e.Batch.Count, root)
	if err := tpm.VerifyQuote(ak, e.TPM.Quote, e.TPM.Signature, extra, e.TPM.Registers); err != nil {
		return Facts{}, nil, err
	}
	return Facts{
		EK: ek.ID, EKCertificate: e.TPM.EKCertificate,
		AK: ak.Name, AKPublic: e.TPM.AKPublic,
		Config: e.Config, Claim: claimDigest, ClaimDocument: e.Claim,
		Registers: e.TPM.Registers,
	}, ek, nil
}

// checkClaim refuses a claim that is not signed by the owner it names or was
// made for another machine.
func checkClaim(document []byte, ak *tpm.AK) error {
	if len(document) == 0 {
		return nil
	}
	c, err := ownership.Parse(document)
	if err != nil {
		return err
	}
	if !bytes.Equal(c.Body.AKName, ak.Name) {
		return fmt.Errorf("%w: it was made for another machine", attest.ErrClaim)
	}
	return nil
}
