package enrol

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// underWay are the steps that need no reason, and reasons those of the others.
var (
	underWay = []api.UpdateStep{api.UpdateAwaiting, api.UpdateFetching, api.UpdateInstalling, api.UpdateTrying, api.UpdateDone}
	reasons  = map[api.UpdateStep][]api.UpdateReason{
		api.UpdateRefused: {
			api.ReasonUnclaimed, api.ReasonUnsigned, api.ReasonUnlogged, api.ReasonOlder,
			api.ReasonOtherMachine, api.ReasonNoRoom, api.ReasonUnreadable,
		},
		api.UpdateFellBack: {api.ReasonNotStarted, api.ReasonNotEnrolled, api.ReasonUnhealthy, api.ReasonInstallFailed, api.ReasonListUnchanged},
	}
)

// checkStatus refuses what is no number of an offer and no name out of the lists: a
// machine says nothing else here.
func checkStatus(s *api.UpdateStatus) error {
	switch {
	case s == nil:
		return nil
	case s.Release.IsZero(), s.Attempt == 0:
		return invalid("update names no offer")
	case slices.Contains(underWay, s.Step):
		if s.Reason != "" {
			return invalid("update.reason does not go with its step")
		}
		return nil
	case reasons[s.Step] == nil:
		return invalid("update.step is none of the steps")
	case !slices.Contains(reasons[s.Step], s.Reason):
		return invalid("update.reason is none of its step's")
	}
	return nil
}

func invalid(what string) error {
	return problem.New(http.StatusBadRequest, "message-invalid", "the message is not what this path takes: "+what)
}

// learn takes in what a heartbeat says, and what has become of the offer meanwhile,
// and returns the events that say so.
func (s *Server) learn(i *orchestrator.Instance, in api.Heartbeat) (events []orchestrator.Event) {
	i.Enrolment.Running, i.Enrolment.Healthy, i.Enrolment.AwaitingOwner = in.Running, in.Healthy, in.AwaitingOwner
	if in.Update != nil {
		events = i.Report(*in.Update, s.Clock())
	}
	if i.Update.Stands() && s.Withdrawn(i.Update.Release) {
		if e, ok := i.TakeBack(i.Update.Release, s.Clock()); ok {
			events = append(events, e)
		}
	}
	return events
}

// isNews says whether a heartbeat is worth a transaction of its own.
func (s *Server) isNews(i orchestrator.Instance, in api.Heartbeat) bool {
	after := i
	s.learn(&after, in)
	was, is := i.Enrolment, after.Enrolment
	return was.Running != is.Running || was.Healthy != is.Healthy || was.AwaitingOwner != is.AwaitingOwner ||
		i.Update != after.Update || i.Updated != after.Updated
}

// hear writes down what a heartbeat says that is new, and answers the row.
func (s *Server) hear(ctx context.Context, in api.Heartbeat) (now orchestrator.Instance, err error) {
	var events []orchestrator.Event
	err = s.observe(ctx, providers.MachineID(in.Machine), func(tx store.Tx, i *orchestrator.Instance) error {
		events = s.learn(i, in)
		for _, e := range events {
			if err := tx.Note(e); err != nil {
				return err
			}
		}
		now = *i
		return nil
	})
	if err == nil {
		for _, e := range events {
			s.Logger.Info("update", zap.String("instance", string(e.Instance)), zap.String("event", e.Reason))
		}
	}
	return now, err
}

// offer is what a machine is to hear of, which has not named it.
func offer(u orchestrator.Update, said *api.UpdateStatus) *api.Offer {
	if !u.Stands() || said != nil && said.Release == u.Release && said.Attempt == u.Attempt {
		return nil
	}
	return &api.Offer{Release: u.Release, Attempt: u.Attempt}
}

// takenBack says that a machine goes after an offer which does not stand any more.
func takenBack(u orchestrator.Update, said *api.UpdateStatus) bool {
	return u.TakenBack && said != nil && said.Release == u.Release && said.Attempt == u.Attempt && !said.Step.Ended()
}

// offered is the release that a machine asks for where it is the one that it was
// offered, and the machine the one that enrolled.
func (s *Server) offered(r *http.Request, machine string, digest attest.ReleaseDigest) (i orchestrator.Instance, rel orchestrator.Release, err error) {
	if i, err = s.enrolled(r, machine); err != nil {
		return i, rel, err
	}
	if i.Update.Release != digest || !i.Update.Stands() || s.Withdrawn(digest) {
		return i, rel, problem.New(http.StatusForbidden, "not-offered", "this release is not offered to the machine")
	}
	rel, err = s.release(r.Context(), digest)
	return i, rel, err
}

// updateRelease answers with what the offered release says of itself. Whoever asks
// has heard of the offer, and may go on to it before it says so.
func (s *Server) updateRelease(r *http.Request, in api.UpdateRequest) (any, error) {
	i, rel, err := s.offered(r, in.Machine, in.Release)
	if err != nil {
		return nil, err
	}
	if !i.Update.Heard {
		err := s.observe(r.Context(), i.Machine, func(_ store.Tx, i *orchestrator.Instance) error {
			if i.Update.Release == in.Release {
				i.Update.Heard = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	proof, err := s.Proof(r.Context(), rel.Digest)
	if err != nil {
		return nil, fmt.Errorf("proving that release %s stands in the log: %w", rel.Digest, err)
	}
	return api.UpdateRelease{Manifest: rel.Manifest, Bundle: rel.Bundle, Proof: proof}, nil
}
