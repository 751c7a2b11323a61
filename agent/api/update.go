package api

import "github.com/toolshed-cloud/shed/attest"

// An update of a running machine. The control plane offers a release in the
// answer to a heartbeat; the machine fetches it by two calls, on a connection of
// its own with the key that this boot enrolled with, and says in its heartbeats
// how far it is. Nothing here opens data: that takes the owner's word.
const (
	// UpdateReleasePath takes an UpdateRequest and answers an UpdateRelease.
	UpdateReleasePath = "/v1/update/release"
	// UpdateFilePath takes an UpdateFileRequest and answers the file's bytes from
	// the offset on, as application/octet-stream: MaxChunkBytes of them, or what
	// is left.
	UpdateFilePath = "/v1/update/file"
)

// MaxChunkBytes is how much of a file one call brings.
const MaxChunkBytes = 1 << 20

// Offer is a release that the operator would have a machine run.
type Offer struct {
	Release attest.ReleaseDigest `json:"release"`
	// Attempt counts the offers made to this machine: a release that failed is
	// tried again when it is offered again.
	Attempt uint64 `json:"attempt"`
}

// UpdateRequest asks for a release that is offered to the machine. The control
// plane answers for no other.
type UpdateRequest struct {
	Machine string               `json:"machine"`
	Release attest.ReleaseDigest `json:"release"`
}

// UpdateRelease is what the release says of itself; it carries its own proof.
type UpdateRelease struct {
	Manifest []byte `json:"manifest"`
	Bundle   []byte `json:"bundle"`
	// Proof is a logproof.Document of the release; absent where no transparency
	// log has it.
	Proof []byte `json:"proof,omitempty"`
}

// UpdateFileRequest asks for a part of one of the files that the release's
// manifest names.
type UpdateFileRequest struct {
	Machine string               `json:"machine"`
	Release attest.ReleaseDigest `json:"release"`
	Name    string               `json:"name"`
	// Offset is in bytes, at most the file's length.
	Offset int64 `json:"offset"`
}

// UpdateStatus is how far a machine is with the offer that it last heard of. It
// holds numbers of an offer and names out of the two lists below, nothing free.
type UpdateStatus struct {
	Release attest.ReleaseDigest `json:"release"`
	Attempt uint64               `json:"attempt"`
	Step    UpdateStep           `json:"step"`
	// Reason is there where Step is UpdateRefused or UpdateFellBack.
	Reason UpdateReason `json:"reason,omitempty"`
}

// UpdateStep is where a machine is between two releases.
type UpdateStep string

// The steps, in their order. The last three are ends.
const (
	// UpdateAwaiting waits for the owner's approval, or for the delay of the
	// owner's standing policy.
	UpdateAwaiting UpdateStep = "awaiting-approval"
	UpdateFetching UpdateStep = "fetching"
	// UpdateInstalling writes the other slot, or a list of Secure Boot's, and seals
	// the data's key for what starts then; the restart follows.
	UpdateInstalling UpdateStep = "installing"
	// UpdateTrying is said by the new release, until it is healthy.
	UpdateTrying UpdateStep = "trying"
	// UpdateDone is committed: the machine starts with the new release.
	UpdateDone UpdateStep = "done"
	// UpdateRefused is an offer that was not tried.
	UpdateRefused UpdateStep = "refused"
	// UpdateFellBack is a trial that ended on the old release, data as it was.
	UpdateFellBack UpdateStep = "fell-back"
)

// Ended says that nothing more comes of the offer.
func (s UpdateStep) Ended() bool {
	return s == UpdateDone || s == UpdateRefused || s == UpdateFellBack
}

// UnderWay says that the machine goes on to what is offered, for which it restarts.
func (s UpdateStep) UnderWay() bool { return s == UpdateInstalling || s == UpdateTrying }

// UpdateReason is why an offer came to nothing.
type UpdateReason string

// The reasons. Those of UpdateRefused first.
const (
	// ReasonUnclaimed: a machine without an owner has nothing to keep, and is
	// replaced instead.
	ReasonUnclaimed UpdateReason = "unclaimed"
	// ReasonUnsigned: no key that the owner's claim names has signed it.
	ReasonUnsigned UpdateReason = "unsigned"
	// ReasonUnlogged: the log and the witnesses of the owner's claim do not vouch
	// for it.
	ReasonUnlogged UpdateReason = "unlogged"
	// ReasonOlder: its epoch is below this release's.
	ReasonOlder UpdateReason = "older-epoch"
	// ReasonOtherMachine: it is for another architecture, or its firmware or
	// Secure Boot keys are not this machine's: of those an update in place changes
	// only what the release says that it changes.
	ReasonOtherMachine UpdateReason = "other-machine"
	// ReasonNoRoom: the other slot does not hold it.
	ReasonNoRoom UpdateReason = "no-room"
	// ReasonUnreadable: what came is not the release that was offered.
	ReasonUnreadable UpdateReason = "unreadable"

	// ReasonNotStarted: the new release did not come up, or was cut off.
	ReasonNotStarted UpdateReason = "not-started"
	// ReasonNotEnrolled: the control plane did not accept it in time.
	ReasonNotEnrolled UpdateReason = "not-enrolled"
	// ReasonUnhealthy: its payload was not healthy in time.
	ReasonUnhealthy UpdateReason = "payload-unhealthy"
	// ReasonInstallFailed: the slot, the boot variables or the key could not be
	// written; the machine went on as it was.
	ReasonInstallFailed UpdateReason = "install-failed"
	// ReasonListUnchanged: the firmware did not take the change of db or dbx; the
	// machine goes on with what it had.
	ReasonListUnchanged UpdateReason = "list-unchanged"
)
