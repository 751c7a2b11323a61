// Package enrol is the machines' side of the control plane: it challenges a
// machine's attestation key, appraises its evidence and hears its heartbeats.
//
// Invariants: a machine is taken at its word in nothing: the token says which
// row it may speak for, the challenge that its keys live in one TPM, the
// evidence what it runs, all on one connection. The endorsement key of a
// machine never changes. A machine is offered a release and never made to take it;
// what it fetches of one is what that release's manifest names. What is learned is written down as an observation,
// with what follows from it alone; everything else is decided by package
// reconcile. The operator's verdict convinces nobody but the operator.
package enrol

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/internal/refusal"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	readTimeout  = 20 * time.Second
	idleTimeout  = 5 * time.Minute
	maxHeaders   = 8 << 10
	flushEvery   = 5 * time.Second
	flushTimeout = 2 * time.Second
)

// Appraise judges verified evidence; verifier.Appraise does.
type Appraise func(*verifier.Verified, verifier.Activation, verifier.Policy) (attest.AttestationResult, error)

// Parts are what a Server is made from; all are needed.
type Parts struct {
	Store store.Store
	// Certificate holds the key that machines were told to expect.
	Certificate tls.Certificate
	// ResultKey signs verdicts, ECDSA P-256.
	ResultKey crypto.Signer
	Appraise  Appraise
	// TrustAnchors reads the accepted endorsement roots.
	TrustAnchors func() ([]verifier.TrustAnchor, error)
	MinimumTier  attest.Tier
	// Endorsements are what machines are to show beside their own endorsement
	// certificate, an encoded evidence.Endorsements; nil for none.
	Endorsements func() ([]byte, error)
	// Voucher vouches for the machines of a provider that have no endorsement
	// certificate; nil where that provider names no keys.
	Voucher func(provider string) Voucher
	// Limits are how long the states may last that a machine moves on to.
	Limits orchestrator.Limits
	// HeartbeatEvery is how often machines are asked to report.
	HeartbeatEvery time.Duration
	// Proof is what a machine of a release shows of the transparency log; nil
	// where there is nothing to show. ProofEvery is when it is handed out anew.
	Proof      func(context.Context, attest.ReleaseDigest) ([]byte, error)
	ProofEvery time.Duration
	// Withdrawn says that the transparency log has the withdrawal of a release.
	Withdrawn func(attest.ReleaseDigest) bool
	Clock     func() time.Time
	Random    io.Reader
	Logger    *zap.Logger
	Trap      failpoint.Trap
}

// Voucher certifies endorsement keys.
type Voucher interface {
	// Vouch answers a certificate, DER, for the endorsement key with this digest
	// of its SubjectPublicKeyInfo, where it is the machine's. The error is
	// attest.ErrIdentity where it is not, and another where that cannot be said
	// now.
	Vouch(ctx context.Context, machine providers.MachineID, shown attest.Digest) ([]byte, error)
	// Anchor is what certifies, and what that is worth.
	Anchor() verifier.TrustAnchor
}

// Server listens to machines.
type Server struct {
	Parts
	// verifier keeps what it parsed of the machines' keys.
	verifier verifier.Verifier
	mu       sync.Mutex
	// beats are heartbeats that say nothing new and are not written yet.
	// Guarded by mu.
	beats map[providers.MachineID]time.Time
	// files are the turns of the machines that fetch a release.
	files *turns
	held  *held
}

// New makes a Server.
func New(p Parts) *Server {
	return &Server{Parts: p, beats: make(map[providers.MachineID]time.Time), files: newTurns(filesAtOnce), held: newHeld()}
}

// pending is what one connection was challenged with, and when it last brought
// the machine a proof.
type pending struct {
	mu sync.Mutex
	// Guarded by mu. challenge is nil while there is none.
	proofAt   time.Time
	challenge *challenged
}

// challenged is who was challenged with what.
type challenged struct {
	*tpm.Challenge
	machine providers.MachineID
	nonce   attest.Nonce
	// named says that the machine has no certificate, and who vouches for it;
	// nil where it has one.
	named *verifier.TrustAnchor
}

func (p *pending) set(c *challenged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.challenge = c
}

// take returns the challenge and leaves none: it can be answered once.
func (p *pending) take() *challenged {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.challenge
	p.challenge = nil
	return c
}

func (p *pending) brought(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proofAt = at
}

// stale says whether the last proof is older than that, or none was brought.
func (p *pending) stale(now time.Time, than time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := now.Sub(p.proofAt)
	return p.proofAt.IsZero() || age < 0 || age >= than
}

type pendingKey struct{}

// Serve answers machines on l until ctx ends. Errors are the listener's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	config := channel.ServerConfig(s.Certificate)
	// Any key will do to connect: the evidence says whose it is.
	config.ClientAuth = tls.RequireAnyClientCert
	server := &http.Server{
		Handler: s.routes(), TLSConfig: config,
		ReadTimeout: readTimeout, WriteTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders,
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, pendingKey{}, &pending{})
		},
		// HTTP/2 would put several requests on one exporter at once.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		s.flushUntil(ctx)
	}()
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.ServeTLS(l, "", "")
	<-flushed
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving machines: %w", err)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.EnrolBeginPath, answer(s, s.begin))
	mux.HandleFunc("POST "+api.EnrolFinishPath, answer(s, s.finish))
	mux.HandleFunc("POST "+api.HeartbeatPath, answer(s, s.heartbeat))
	mux.HandleFunc("POST "+api.UpdateReleasePath, answer(s, s.updateRelease))
	mux.HandleFunc("POST "+api.UpdateFilePath, s.updateFile)
	return problem.Routes(mux)
}

// answer decodes a message strictly, and encodes what f returns for it; an
// answer of nil has no body.
func answer[In any](s *Server, f func(*http.Request, In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		err := decode(w, r, &in)
		var out any
		if err == nil {
			out, err = f(r, in)
			// The answer may have been held for longer than there is to write it.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTimeout))
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if out == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// A machine that is gone begins again.
		_ = json.NewEncoder(w).Encode(out)
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := classify(err)
	s.Logger.Warn("machine refused", zap.String("path", r.URL.Path), zap.String("code", p.Code), zap.Error(err))
	p.Write(w)
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	err := strictjson.Decode(http.MaxBytesReader(w, r.Body, api.MaxMessageBytes), into)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return problem.New(http.StatusRequestEntityTooLarge, "body-too-large",
			fmt.Sprintf("the message has more than %d bytes", api.MaxMessageBytes))
	case err != nil:
		return problem.New(http.StatusBadRequest, "message-invalid", "the message is not what this path takes: "+err.Error())
	}
	return nil
}

func classify(err error) *problem.Problem {
	if errors.Is(err, attest.ErrRefused) {
		return problem.New(http.StatusForbidden, "refused", err.Error())
	}
	return refusal.Of(err)
}

func (s *Server) flushUntil(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			s.flushLogged(last)
			return
		case <-ticker.C:
			s.flushLogged(ctx)
		}
	}
}

func (s *Server) flushLogged(ctx context.Context) {
	if err := s.Flush(ctx); err != nil {
		s.Logger.Error("writing heartbeats", zap.Error(err))
	}
}

// Flush writes the heartbeats that came in since the last time, all in one
// transaction: a beat alone is not worth a sync of the disk. Errors are the
// store's.
func (s *Server) Flush(ctx context.Context) error {
	s.mu.Lock()
	beats := s.beats
	s.beats = make(map[providers.MachineID]time.Time)
	s.mu.Unlock()
	if len(beats) == 0 {
		return nil
	}
	return s.Store.Update(ctx, func(tx store.Tx) error { return tx.Seen(beats) })
}
