// Package enrol is the machine's side of its control plane: it introduces
// itself, proves what it is, and from then on sends heartbeats of three bits and a
// step: whether the payload runs, whether it is healthy, whether the data waits for
// its owner, and how far an update is.
//
// Invariants: the machine dials, nothing dials it; the control plane is known
// by its pinned key alone; both calls of an enrolment use one connection; the
// verdict changes nothing that the machine does for its owner.
package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/backoff"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/problem"
)

// Machine is what enrols.
type Machine interface {
	Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error)
	Activate(ch attest.Channel, blob, secret []byte) (attest.Digest, error)
	// EKCertificate is nil where the TPM has none; EKPublic then shows the key.
	EKCertificate() []byte
	EKPublic() []byte
	AKPublic() []byte
	// Endorse keeps what the control plane has for others to check the
	// machine's keys with; an error says that it is unusable.
	Endorse(endorsements []byte) error
	// Awaiting says that there is data which only its owner's key opens.
	Awaiting() bool
}

// Payload is whose health is reported.
type Payload interface {
	Running() bool
	Healthy() bool
	// Changed is signalled when either changes.
	Changed() <-chan struct{}
}

// Updates are what becomes of offers.
type Updates interface {
	// Offered takes an offer; one that was heard before changes nothing.
	Offered(api.Offer)
	// TakenBack hears that an offer does not stand any more.
	TakenBack(api.Offer)
	// Status is nil before the first offer.
	Status() *api.UpdateStatus
	// Changed is signalled when it changes.
	Changed() <-chan struct{}
}

// Enroller keeps one machine enrolled.
type Enroller struct {
	Config api.Config
	// Token is the enrolment secret that came beside the configuration.
	Token       api.Token
	Machine     Machine
	Payload     Payload
	Certificate tls.Certificate
	// SPKI is the certificate's key, a DER SubjectPublicKeyInfo.
	SPKI []byte
	// Enrolled is told the verdict.
	Enrolled func(api.EnrolResult)
	// Refreshed is told a newer proof than the verdict's.
	Refreshed func(proof []byte)
	Updates   Updates
	Log       *zap.Logger
}

// The backoff between tries, and the bounds on what the control plane may ask
// of the heartbeat.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 15 * time.Second
	minHeartbeat = 200 * time.Millisecond
	maxHeartbeat = 5 * time.Minute
	callTimeout  = 15 * time.Second
)

// Run enrols, beats, and enrols again whenever the control plane is lost, until
// ctx ends.
func (e *Enroller) Run(ctx context.Context) {
	for failures := 1; ctx.Err() == nil; failures++ {
		enrolled, err := e.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if enrolled {
			failures = 1
		}
		pause := backoff.Pause(failures, firstBackoff, lastBackoff)
		e.Log.Warn("control plane lost", zap.Error(err), zap.Duration("again_in", pause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// session lasts as long as one connection; enrolled says whether it got as far
// as a verdict.
func (e *Enroller) session(ctx context.Context) (enrolled bool, err error) {
	conn, err := e.dial(ctx)
	if err != nil {
		return false, err
	}
	result, err := e.enrol(ctx, conn)
	if err != nil {
		return false, errors.Join(err, conn.Close())
	}
	e.Log.Info("enrolled", zap.Bool("accepted", result.Accepted), zap.String("reason", result.Reason))
	e.Enrolled(result)
	interval := time.Duration(result.HeartbeatMS) * time.Millisecond
	h := &heartbeats{Enroller: e, conn: conn, holds: result.Holds, interval: min(max(interval, minHeartbeat), maxHeartbeat)}
	defer h.close()
	return true, h.run(ctx)
}

func (e *Enroller) dial(ctx context.Context) (*channel.Conn, error) {
	return channel.DialEnrol(ctx, e.Config.ControlPlane, e.Certificate, e.SPKI, attest.Digest(e.Config.ControlPlaneSPKI))
}

func (e *Enroller) enrol(ctx context.Context, conn *channel.Conn) (api.EnrolResult, error) {
	var challenge api.EnrolChallenge
	introduction := api.EnrolBegin{
		Machine: e.Config.Machine, Token: e.Token,
		EKCertificate: e.Machine.EKCertificate(), AKPublic: e.Machine.AKPublic(),
	}
	if introduction.EKCertificate == nil {
		introduction.EKPublic = e.Machine.EKPublic()
	}
	if err := call(ctx, conn, callTimeout, api.EnrolBeginPath, introduction, &challenge); err != nil {
		return api.EnrolResult{}, err
	}
	if err := e.Machine.Endorse(challenge.Endorsements); err != nil {
		e.Log.Warn("the control plane's endorsements are left out", zap.Error(err))
	}
	answer, err := e.Machine.Activate(conn.Channel, challenge.CredentialBlob, challenge.EncryptedSecret)
	if err != nil {
		return api.EnrolResult{}, err
	}
	evidence, err := e.Machine.Evidence(conn.Channel, challenge.Nonce)
	if err != nil {
		return api.EnrolResult{}, err
	}
	var result api.EnrolResult
	err = call(ctx, conn, callTimeout, api.EnrolFinishPath, api.EnrolFinish{Answer: answer, Evidence: evidence}, &result)
	return result, err
}

// call posts one JSON message and decodes the answer into out, where there is
// one within the limit.
func call(ctx context.Context, conn *channel.Conn, limit time.Duration, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	answer, err := conn.Call(ctx, http.MethodPost, path, "application/json", body, api.MaxMessageBytes)
	if err != nil {
		return explain(err)
	}
	if len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%w: %s answered: %w", attest.ErrMalformed, path, err)
	}
	return nil
}

// explain adds the detail of a problem document, which says why.
func explain(err error) error {
	var status *channel.StatusError
	if !errors.As(err, &status) {
		return err
	}
	document, parseErr := problem.Parse(status.Code, status.Body)
	if parseErr != nil {
		return err
	}
	return fmt.Errorf("%w: %.200s", err, document.Detail)
}
