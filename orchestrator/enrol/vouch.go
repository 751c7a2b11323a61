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
// certificate that was made for it, where one was. A machine may still prove
// itself without what cannot be read.
func (s *Server) endorsements(certificate []byte) []byte {
	b, err := s.Endorsements()
	e := new(evidence.Endorsements)
	if err == nil && b != nil && certificate != nil {
		e, err = evidence.DecodeEndorsements(b)
	}
	if err != nil {
		s.Logger.Error("machines get no endorsements", zap.Error(err))
		b, e = nil, new(evidence.Endorsements)
	}
	if certificate == nil {
		return b
	}
	e.EKCertificate = certificate
	if b, err = e.Encode(); err != nil {
		s.Logger.Error("a machine gets no endorsement certificate", zap.Error(err))
		return nil
	}
	return b
}
