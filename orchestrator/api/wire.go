package api

import (
	"encoding/json"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// Instance is an instance as operators see it.
type Instance struct {
	ID         string `json:"id"`
	UserID     string `json:"user_id,omitempty" doc:"the signup source's name for the user; gone once deleted"`
	State      string `json:"state"`
	Reason     string `json:"reason" doc:"why it is in this state"`
	Since      Time   `json:"since"`
	Deadline   Time   `json:"deadline,omitzero" doc:"when this state has lasted too long"`
	Desired    string `json:"desired"`
	Generation uint64 `json:"generation"`
	Machine    string `json:"machine,omitempty"`
	Release    string `json:"release,omitempty"`
	URL        string `json:"url,omitempty" doc:"where the owner's client goes, while it is ready"`
	// UnroutedInbound lets an operator look at a quarantined machine.
	UnroutedInbound   string          `json:"unrouted_inbound,omitempty" doc:"where a quarantined machine listens; nothing is routed there"`
	Tier              string          `json:"tier,omitempty" doc:"the control plane's appraisal; the owner's client makes its own"`
	AttestationResult json.RawMessage `json:"attestation_result,omitempty"`
	Running           bool            `json:"running"`
	Healthy           bool            `json:"healthy"`
	Repairs           int             `json:"repairs"`
	LastSeen          Time            `json:"last_seen,omitzero"`
	CreatedAt         Time            `json:"created_at"`
}

// Time is RFC 3339 in UTC.
type Time = time.Time

// Instances is a page of them.
type Instances struct {
	Instances []Instance `json:"instances"`
	Next      string     `json:"next,omitempty" doc:"the after of the next page"`
}

// NewInstance asks for one.
type NewInstance struct {
	UserID string `json:"user_id" minLength:"1" maxLength:"256"`
}

// Release is a release as operators see it.
type Release struct {
	Digest    string `json:"digest"`
	Version   string `json:"version"`
	Epoch     uint64 `json:"epoch"`
	DiskPath  string `json:"disk_path"`
	DiskBytes int64  `json:"disk_bytes"`
	AddedAt   Time   `json:"added_at"`
	Default   bool   `json:"default" doc:"new machines are made from it"`
}

// Releases are all of them, the default first.
type Releases struct {
	Releases []Release `json:"releases"`
}

// NewRelease adds one.
type NewRelease struct {
	Manifest []byte `json:"manifest" doc:"manifest.json as signed"`
	Bundle   []byte `json:"bundle" doc:"its signature bundle"`
	DiskPath string `json:"disk_path" doc:"where the disk lies on the control plane's host, absolute"`
}

// Event is one line of the history.
type Event struct {
	ID       int64  `json:"id"`
	At       Time   `json:"at"`
	Instance string `json:"instance"`
	From     string `json:"from,omitempty"`
	To       string `json:"to"`
	Reason   string `json:"reason"`
}

// view shows an instance. Why one waits is the same for all who do, and is in
// no row.
func (s *Server) view(i orchestrator.Instance) Instance {
	v := viewInstance(i)
	if i.State == orchestrator.StateWaiting && i.Desired == orchestrator.Present {
		if obstacle := s.Obstacle(); obstacle != "" {
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
		LastSeen: i.Enrolment.LastSeen, CreatedAt: i.CreatedAt,
	}
	if !i.Plan.Release.IsZero() {
		v.Release = i.Plan.Release.String()
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
	return Release{
		Digest: r.Digest.String(), Version: r.Version, Epoch: r.Epoch,
		DiskPath: r.DiskPath, DiskBytes: r.DiskBytes, AddedAt: r.AddedAt,
	}
}

func viewEvent(e orchestrator.Event) Event {
	return Event{ID: e.ID, At: e.At, Instance: string(e.Instance), From: string(e.From), To: string(e.To), Reason: e.Reason}
}
