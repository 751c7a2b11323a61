package shoptest

import (
	"context"
	"crypto/rand"
	"crypto/tls"

	"go.uber.org/zap"

	agentapi "github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/enrol"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// boot is a machine's life: measure, then enrol and beat until the test ends.
func (s *Shop) boot(c agentapi.Config, token agentapi.Token, altered bool) {
	machine, err := attester.Open(s.tpm)
	if err != nil {
		s.t.Error(err)
		return
	}
	encoded, err := c.Encode()
	if err != nil {
		s.t.Error(err)
		return
	}
	separator := attest.Sum([]byte{0, 0, 0, 0})
	image := imageDigest
	if altered {
		image = attest.Sum([]byte("altered image"))
	}
	for register, digest := range map[uint8]attest.Digest{
		2: separator, 3: separator, 4: imageDigest, 9: imageDigest, 11: image,
		14: attest.ConfigDigest(encoded), 15: attest.Unclaimed(),
	} {
		if err := machine.Extend(register, digest); err != nil {
			s.t.Error(err)
		}
	}
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.enrol(c, token, &measured{TPM: machine, config: encoded}, certificate, spki)
}

func (s *Shop) enrol(c agentapi.Config, token agentapi.Token, m *measured, certificate tls.Certificate, spki []byte) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	e := &enrol.Enroller{
		Config: c, Token: token, Machine: m, Payload: serving{}, Updates: unmoved{}, Certificate: certificate, SPKI: spki,
		Enrolled: func(agentapi.EnrolResult) {}, Log: zap.NewNop(),
	}
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-done
	})
}

type measured struct {
	*attester.TPM
	config []byte
}

func (m *measured) Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error) {
	return m.TPM.Evidence(attester.Subject{Channel: ch, Nonce: nonce, Config: attest.ConfigDigest(m.config)})
}

// Awaiting is false: these machines have no disks.
func (m *measured) Awaiting() bool { return false }

// Endorse keeps nothing: what these machines show is their own.
func (m *measured) Endorse([]byte) error { return nil }

type serving struct{}

func (serving) Running() bool            { return true }
func (serving) Healthy() bool            { return true }
func (serving) Changed() <-chan struct{} { return nil }

// unmoved is a machine that takes no offer.
type unmoved struct{}

func (unmoved) Offered(agentapi.Offer)         {}
func (unmoved) TakenBack(agentapi.Offer)       {}
func (unmoved) Status() *agentapi.UpdateStatus { return nil }
func (unmoved) Changed() <-chan struct{}       { return nil }
