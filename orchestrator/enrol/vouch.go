package enrol

import (
	"context"
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

// shownEK is the endorsement key that a machine shows, with a certificate or
// without.
func shownEK(in api.EnrolBegin) (*tpm.EK, error) {
	if len(in.EKCertificate) > 0 {
		return tpm.ParseEK(in.EKCertificate)
	}
	return tpm.ParseEKPublic(in.EKPublic)
}

// errUncertified refuses a machine that nobody could vouch for.
var errUncertified = problem.New(http.StatusForbidden, "endorsement-certificate-missing",
	"the machine shows no endorsement certificate, and its provider does not say which key is its")

// vouch has the machine's provider say whether the key is the machine's, and
// answers who then certifies it, with the certificate.
func (s *Server) vouch(ctx context.Context, i orchestrator.Instance, ek *tpm.EK) (*verifier.TrustAnchor, []byte, error) {
	voucher := s.Voucher(i.Plan.Provider)
	if voucher == nil {
		return nil, nil, errUncertified
	}
	certificate, err := voucher.Vouch(ctx, i.Machine, ek.ID)
	if err != nil {
		return nil, nil, err
	}
	anchor := voucher.Anchor()
	return &anchor, certificate, nil
}

// whyNot shows the operator why a machine that has its token is not vouched for,
// and is what the machine is told: to come again where that may pass.
func (s *Server) whyNot(ctx context.Context, machine providers.MachineID, token bool, err error) error {
	var p *problem.Problem
	told := err
	if !errors.Is(err, attest.ErrRefused) && !errors.As(err, &p) {
		s.Logger.Warn("a machine's endorsement key is not known", zap.String("machine", string(machine)), zap.Error(err))
		told = problem.New(http.StatusServiceUnavailable, "endorsement-key-unknown", "the provider does not say now which key is the machine's")
	}
	if !token {
		return told
	}
	return errors.Join(told, s.explain(ctx, machine, err))
}

// endorsements are read for each machine, since revocation lists age, with a
// certificate that was made for it, where one was. A machine without the rest
// may still prove itself.
func (s *Server) endorsements(certificate []byte) []byte {
	b, err := s.Endorsements()
	if err == nil && certificate != nil {
		b, err = with(b, certificate)
	}
	if err != nil {
		s.Logger.Error("machines get no endorsements", zap.Error(err))
		return nil
	}
	return b
}

func with(encoded, certificate []byte) ([]byte, error) {
	e := new(evidence.Endorsements)
	if encoded != nil {
		var err error
		if e, err = evidence.DecodeEndorsements(encoded); err != nil {
			return nil, err
		}
	}
	e.EKCertificate = certificate
	return e.Encode()
}
