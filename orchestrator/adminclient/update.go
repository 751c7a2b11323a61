package adminclient

import (
	"context"
	"net/http"
)

// NewUpdate offers a machine a release.
type NewUpdate struct {
	Release string `json:"release,omitempty" pattern:"^([0-9a-f]{64})?$" doc:"digest of the release; empty for the default one"`
}

// Update is the release that a machine was offered last, and how far it is.
type Update struct {
	Release string `json:"release"`
	Attempt uint64 `json:"attempt" doc:"counts the offers to the instance"`
	Step    string `json:"step" doc:"offered, awaiting-approval, fetching, installing, trying, done, refused, fell-back or taken-back"`
	Reason  string `json:"reason,omitempty" doc:"why it was refused or fell back"`
}

// The steps that are the control plane's to say: an offer that the machine has not
// named yet, and one that does not stand any more.
const (
	UpdateOffered   = "offered"
	UpdateTakenBack = "taken-back"
)

// Offer offers an instance's machine a release, the default one for an empty digest.
// It does no more: what comes of it is the machine's and its owner's. Errors are
// those of every call.
func (c *Client) Offer(ctx context.Context, id, release string) (i Instance, err error) {
	err = c.call(ctx, http.MethodPost, instancePath(id)+"/update", NewUpdate{Release: release}, &i)
	return i, err
}
