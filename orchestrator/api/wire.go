package api

import (
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// The wire's types are the client's, which must not link the server.
type (
	// Instance is an instance as operators see it.
	Instance = adminclient.Instance
	// Instances is a page of them.
	Instances = adminclient.Instances
	// NewInstance asks for one.
	NewInstance = adminclient.NewInstance
	// Release is a release as operators see it.
	Release = adminclient.Release
	// Releases are all of them, the newest first.
	Releases = adminclient.Releases
	// NewRelease adds one.
	NewRelease = adminclient.NewRelease
	// Event is one line of the history.
	Event = adminclient.Event
	// Time is RFC 3339 in UTC.
	Time = adminclient.Time
)

// view shows an instance. What keeps all in its state there is in no row.
func (s *Server) view(i orchestrator.Instance) Instance {
	v := viewInstance(i)
	if i.Desired == orchestrator.Present {
		if obstacle := s.Obstacle(i.State); obstacle != "" {
			v.Reason = obstacle
		}
	}
	return v
}

func viewInstance(i orchestrator.Instance) Instance {
	v := Instance{
		ID: string(i.ID), UserID: string(i.User), State: string(i.State), Reason: i.Reason, Since: i.Since,
		Deadline: deadline(i), Desired: string(i.Desired), Generation: i.Generation, Machine: string(i.Machine),
		URL: i.URL(), Running: i.Enrolment.Running, Healthy: i.Enrolment.Healthy, Repairs: i.Repairs,
		LastSeen: i.Enrolment.LastSeen, CreatedAt: i.CreatedAt, Update: viewUpdate(i.Update),
	}
	if !i.Runs().IsZero() {
		v.Release = i.Runs().String()
	}
	if i.Runs() != i.Plan.Release {
		v.MadeFrom = i.Plan.Release.String()
	}
	if i.State == orchestrator.StateQuarantined {
		v.UnroutedInbound = i.Endpoint
	}
	if i.Enrolment.Judged {
		v.AttestationResult = i.Enrolment.AttestationResult
		v.Tier = tierOf(i.Enrolment.AttestationResult)
	}
	return v
}

// deadline is when a state has lasted too long if the wall clock is not set.
func deadline(i orchestrator.Instance) Time {
	if i.Limit == 0 {
		return Time{}
	}
	return i.Since.Add(i.Limit)
}

func viewRelease(r orchestrator.Release) Release {
	view := Release{
		Digest: r.Digest.String(), Version: r.Version, Epoch: r.Epoch,
		DiskPath: r.DiskPath, DiskBytes: r.DiskBytes, AddedAt: r.AddedAt,
	}
	// One that this version does not read is listed all the same.
	if m, err := release.ParseManifest(r.Manifest); err == nil && m.SecureBootChange != nil {
		view.SecureBootChange = m.SecureBootChange.Variable
	}
	return view
}

func viewEvent(e orchestrator.Event) Event {
	return Event{ID: e.ID, At: e.At, Instance: string(e.Instance), From: string(e.From), To: string(e.To), Reason: e.Reason}
}
