package enrol

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// errStranger answers an unknown machine and a wrong token alike.
var errStranger = problem.New(http.StatusForbidden, "machine-refused", "no machine of that name and token is expected")

// mayEnrol are the states in which a machine is expected to be on. It can be
// faster than the record of its creation.
var mayEnrol = []orchestrator.State{
	orchestrator.StateCreating, orchestrator.StateBooting, orchestrator.StateEnrolling,
	orchestrator.StateReady, orchestrator.StateAwaitingOwner, orchestrator.StateQuarantined,
}

func expected(i orchestrator.Instance) bool {
	return i.Desired == orchestrator.Present && slices.Contains(mayEnrol, i.State)
}

// begin challenges a machine that shows its token, or the endorsement key that
// it enrolled with before. Whoever shows that key alone has shown nothing: it is
// public. So the row changes for the token only.
func (s *Server) begin(r *http.Request, in api.EnrolBegin) (any, error) {
	machine := providers.MachineID(in.Machine)
	i, err := s.instance(r.Context(), machine)
	if err != nil {
		return nil, err
	}
	ek, err := shownEK(in)
	if err != nil {
		return nil, err
	}
	ak, err := tpm.ParseAK(in.AKPublic)
	if err != nil {
		return nil, err
	}
	hash := in.Token.Hash()
	token := !i.Plan.TokenHash.IsZero() && subtle.ConstantTimeCompare(hash[:], i.Plan.TokenHash[:]) == 1
	switch {
	case !token && i.Enrolment.EK.IsZero(), !token && i.Enrolment.EK != ek.ID:
		return nil, errStranger
	case !i.Enrolment.EK.IsZero() && i.Enrolment.EK != ek.ID:
		return nil, errOtherEK
	}
	c := &challenged{machine: machine}
	var certificate []byte
	if len(in.EKCertificate) == 0 {
		if c.named, certificate, err = s.vouch(r.Context(), i, ek); err != nil {
			return nil, s.whyNot(r.Context(), machine, token, err)
		}
	}
	if c.Challenge, err = tpm.NewChallenge(s.Random, ek, ak); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.Random, c.nonce[:]); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	if token {
		err := s.observe(r.Context(), machine, func(_ store.Tx, i *orchestrator.Instance) error {
			i.Enrolment.ChallengedAt = s.Clock()
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	connection(r).set(c)
	return api.EnrolChallenge{
		Nonce: c.nonce, CredentialBlob: c.CredentialBlob, EncryptedSecret: c.EncryptedSecret,
		Endorsements: s.endorsements(certificate),
	}, nil
}

func connection(r *http.Request) *pending {
	p, _ := r.Context().Value(pendingKey{}).(*pending)
	return p
}

// instance finds whose machine it is; errStranger where it should not be on.
func (s *Server) instance(ctx context.Context, id providers.MachineID) (i orchestrator.Instance, err error) {
	err = s.Store.View(ctx, func(v store.Reader) (err error) {
		i, err = v.InstanceOfMachine(id)
		return err
	})
	if errors.Is(err, orchestrator.ErrNotFound) || err == nil && !expected(i) {
		return i, errStranger
	}
	return i, err
}

// errOtherEK refuses a machine that has changed its endorsement key.
var errOtherEK = fmt.Errorf("%w: the endorsement key is not the one this machine enrolled with", attest.ErrIdentity)

// observe writes down what was learned of a machine and what follows from it,
// and has it looked at.
func (s *Server) observe(ctx context.Context, id providers.MachineID, learn func(store.Tx, *orchestrator.Instance) error) error {
	var moved orchestrator.Event
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		i, err := tx.InstanceOfMachine(id)
		if err != nil {
			return err
		}
		if !expected(i) {
			return errStranger
		}
		if err := learn(tx, &i); err != nil {
			return err
		}
		if e, ok := i.Advance(s.Clock(), s.Limits); ok {
			if moved = e; e.To == orchestrator.StateReady {
				s.Trap(failpoint.BeforeReady)
			}
			if err := tx.Note(e); err != nil {
				return err
			}
		}
		if err := tx.Replace(&i); err != nil {
			return err
		}
		if err := tx.Seen(map[providers.MachineID]time.Time{id: s.Clock()}); err != nil {
			return err
		}
		return tx.Enqueue(i.ID)
	})
	if err == nil && moved.To != "" {
		s.Logger.Info("instance moved", zap.String("instance", string(moved.Instance)),
			zap.String("from", string(moved.From)), zap.String("to", string(moved.To)), zap.String("reason", moved.Reason))
	}
	return err
}

// finish judges the machine that answered its challenge on this connection.
// Until its keys are established nothing is written down: a refusal is an
// answer, and no verdict.
func (s *Server) finish(r *http.Request, in api.EnrolFinish) (any, error) {
	c := connection(r).take()
	if c == nil {
		return nil, problem.New(http.StatusConflict, "no-challenge", "this connection has not been challenged")
	}
	s.Trap(failpoint.BetweenChallengeAndActivation)
	spki, err := channel.PeerSPKI(*r.TLS)
	if err != nil {
		return nil, err
	}
	bound, err := channel.FromState(*r.TLS, attest.RoleEnrol, spki)
	if err != nil {
		return nil, err
	}
	if err := c.Answered(in.Answer[:], bound); err != nil {
		return nil, err
	}
	evidence, err := s.verifier.Verify(in.Evidence, c.nonce, bound)
	if err != nil {
		return nil, err
	}
	if evidence.EK != c.EK || !bytes.Equal(evidence.AK, c.AKName) {
		return nil, fmt.Errorf("%w: the evidence is signed by other keys than were challenged", attest.ErrIdentity)
	}
	i, err := s.instance(r.Context(), c.machine)
	if err != nil {
		return nil, err
	}
	rels, err := s.releases(r.Context(), i.MayRun())
	if err != nil {
		return nil, err
	}
	v, err := s.judge(i, rels, evidence, c)
	if err != nil {
		return nil, errors.Join(err, s.explain(r.Context(), c.machine, err))
	}
	rel := v.of
	if err := s.record(r.Context(), c.machine, evidence, attest.Sum(spki), v); err != nil {
		return nil, err
	}
	s.Logger.Info("machine judged", zap.String("instance", string(i.ID)), zap.Bool("accepted", v.accepted), zap.String("reason", v.reason))
	return api.EnrolResult{
		Accepted: v.accepted, Reason: v.reason, Manifest: rel.Manifest, Bundle: rel.Bundle, Proof: s.handOut(r, rel.Digest),
		HeartbeatMS: s.HeartbeatEvery.Milliseconds(), Holds: true,
	}, nil
}

// explain shows the operator in the row what keeps a machine from its verdict:
// the fault is on this side, and so is whoever can mend it.
func (s *Server) explain(ctx context.Context, machine providers.MachineID, fault error) error {
	return s.observe(ctx, machine, func(_ store.Tx, i *orchestrator.Instance) error {
		i.Reason = "the control plane cannot judge the machine: " + fault.Error()
		return nil
	})
}

// releases are those of the digests that are there, the first of which has to be.
func (s *Server) releases(ctx context.Context, digests []attest.ReleaseDigest) (all []orchestrator.Release, err error) {
	for n, d := range digests {
		rel, err := s.release(ctx, d)
		if n > 0 && errors.Is(err, orchestrator.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, rel)
	}
	return all, nil
}

func (s *Server) release(ctx context.Context, d attest.ReleaseDigest) (rel orchestrator.Release, err error) {
	return rel, s.Store.View(ctx, func(v store.Reader) error {
		rel, err = v.Release(d)
		return err
	})
}

// record writes the verdict down for this boot and into the chain of results, pins the keys that were just
// established, and voids the token: from now on the endorsement key speaks for
// the machine.
func (s *Server) record(ctx context.Context, machine providers.MachineID, evidence *verifier.Verified, session attest.Digest, v verdict) error {
	return s.observe(ctx, machine, func(tx store.Tx, i *orchestrator.Instance) error {
		if !i.Enrolment.EK.IsZero() && i.Enrolment.EK != evidence.EK {
			return errOtherEK
		}
		result, err := json.Marshal(v.result)
		if err != nil {
			return fmt.Errorf("encoding an attestation result: %w", err)
		}
		now := s.Clock()
		i.Plan.TokenHash = attest.Digest{}
		i.Enrolment = orchestrator.Enrolment{
			EK: evidence.EK, AK: evidence.AK, ChallengedAt: now, LastSeen: now, Session: session,
			Judged: true, Accepted: v.accepted, Verdict: v.reason, AttestationResult: result, Release: v.result.Release,
		}
		return tx.AppendResult(auditlog.Entry{
			At: v.at.UnixMicro(), Instance: string(i.ID), Machine: string(machine), EAR: v.token,
		})
	})
}

// enrolled is whose machine speaks, which has to have the TLS key that this boot
// enrolled with.
func (s *Server) enrolled(r *http.Request, machine string) (orchestrator.Instance, error) {
	i, err := s.instance(r.Context(), providers.MachineID(machine))
	if err != nil {
		return i, err
	}
	spki, err := channel.PeerSPKI(*r.TLS)
	if err != nil {
		return i, err
	}
	session := attest.Sum(spki)
	if i.Enrolment.Session.IsZero() || subtle.ConstantTimeCompare(session[:], i.Enrolment.Session[:]) != 1 {
		return i, problem.New(http.StatusForbidden, "not-enrolled", "this key has not enrolled: enrol again")
	}
	return i, nil
}

func (s *Server) heartbeat(r *http.Request, in api.Heartbeat) (any, error) {
	since := s.held.count()
	i, err := s.enrolled(r, in.Machine)
	if err != nil {
		return nil, err
	}
	if err := checkStatus(in.Update); err != nil {
		return nil, err
	}
	if s.isNews(i, in) {
		if i, err = s.hear(r.Context(), in); err != nil {
			return nil, err
		}
	} else {
		s.beat(i.Machine)
	}
	answer := s.tell(r, i, in)
	if answer == nil && in.Waits {
		return s.hold(r, in, since)
	}
	return answer, nil
}

// tell is what a machine is to hear; nil for nothing.
func (s *Server) tell(r *http.Request, i orchestrator.Instance, in api.Heartbeat) any {
	answer := api.HeartbeatAnswer{Proof: s.refreshed(r, i.Proven()), Offer: offer(i.Update, in.Update), TakenBack: takenBack(i.Update, in.Update)}
	if answer.Proof == nil && answer.Offer == nil && !answer.TakenBack {
		return nil
	}
	return answer
}

func (s *Server) beat(machine providers.MachineID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats[machine] = s.Clock()
}

// refreshed is a new proof where the machine's is old. A heartbeat says nothing of
// it: what the connection brought when is kept here.
func (s *Server) refreshed(r *http.Request, digest attest.ReleaseDigest) []byte {
	if !connection(r).stale(s.Clock(), s.ProofEvery) {
		return nil
	}
	return s.handOut(r, digest)
}

// handOut makes a proof and notes when. A machine without one goes on: its
// clients say what they miss.
func (s *Server) handOut(r *http.Request, digest attest.ReleaseDigest) []byte {
	proof, err := s.Proof(r.Context(), digest)
	if err != nil {
		s.Logger.Error("a release is not proved to stand in the transparency log", zap.Stringer("release", digest), zap.Error(err))
		return nil
	}
	if proof != nil {
		connection(r).brought(s.Clock())
	}
	return proof
}
