package api

import "github.com/toolshed-cloud/shed/attest"

// The agent's side of the control plane: HTTPS with TLS 1.3, HTTP/1.1, no
// session tickets, the machine's per-boot key as client certificate, JSON
// bodies. Both enrolment calls must arrive on one connection.
const (
	// EnrolBeginPath takes an EnrolBegin and answers an EnrolChallenge.
	EnrolBeginPath = "/v1/enrol/begin"
	// EnrolFinishPath takes an EnrolFinish and answers an EnrolResult.
	EnrolFinishPath = "/v1/enrol/finish"
	// HeartbeatPath takes a Heartbeat and answers 204, or a HeartbeatAnswer.
	HeartbeatPath = "/v1/heartbeat"
)

// MaxMessageBytes caps every body on the agent's side of the control plane.
const MaxMessageBytes = 512 << 10

// EnrolBegin introduces a machine. The token is void once a machine has
// enrolled with it: after a reboot the same endorsement key speaks for it.
type EnrolBegin struct {
	Machine string `json:"machine"`
	Token   Token  `json:"token"`
	// EKCertificate is the endorsement certificate, DER. Where the TPM has none it
	// is empty, and EKPublic is the key, a DER SubjectPublicKeyInfo: then whoever
	// made the machine has to say that it is its key.
	EKCertificate []byte `json:"ek_certificate,omitempty"`
	EKPublic      []byte `json:"ek_public,omitempty"`
	// AKPublic is the attestation key, a marshalled TPMT_PUBLIC (TPM 2.0
	// Part 2, section 12.2.4).
	AKPublic []byte `json:"ak_public"`
}

// EnrolChallenge asks the machine to prove that the attestation key lives
// beside the endorsement key (TPM 2.0 Part 1, section 24).
type EnrolChallenge struct {
	Nonce attest.Nonce `json:"nonce"`
	// CredentialBlob is a TPM2B_ID_OBJECT's buffer, EncryptedSecret a
	// TPM2B_ENCRYPTED_SECRET's.
	CredentialBlob  []byte `json:"credential_blob"`
	EncryptedSecret []byte `json:"encrypted_secret"`
	// Endorsements are an encoded evidence.Endorsements of at most
	// MaxEndorsements bytes: what the control plane has of intermediates,
	// revocation lists and collateral, for the machine to show beside its own
	// from here on. There is an endorsement certificate among them for a machine
	// without one. They carry their own proof.
	Endorsements []byte `json:"endorsements,omitempty"`
}

// MaxEndorsements caps what a control plane hands out: it comes back with the
// evidence, in one message.
const MaxEndorsements = 128 << 10

// EnrolFinish answers the challenge.
type EnrolFinish struct {
	// Answer is attest.Channel.ActivationAnswer for this connection.
	Answer attest.Digest `json:"answer"`
	// Evidence is bound to this connection with role attest.RoleEnrol.
	Evidence []byte `json:"evidence"`
}

// EnrolResult is the control plane's verdict. Release and Bundle are the
// signed release that the machine was made from: the agent hands them to
// clients as a convenience, and they carry their own proof.
type EnrolResult struct {
	Accepted bool   `json:"accepted"`
	Reason   string `json:"reason"`
	Manifest []byte `json:"manifest"`
	Bundle   []byte `json:"bundle"`
	// Proof is a logproof.Document of the release; absent where no
	// transparency log has it.
	Proof []byte `json:"proof,omitempty"`
	// HeartbeatMS is how often the control plane wants to hear, in
	// milliseconds.
	HeartbeatMS int64 `json:"heartbeat_ms"`
	// Holds says that a Heartbeat may wait.
	Holds bool `json:"holds,omitempty"`
}

// Heartbeat says that a machine lives, whether its payload serves or waits for its
// owner, and how far an update is. It has no free fields: what it can say is three
// bits and a step.
type Heartbeat struct {
	Machine string `json:"machine"`
	// Running says that the payload's process is up, Healthy that its
	// health probe answers.
	Running bool `json:"running"`
	Healthy bool `json:"healthy"`
	// AwaitingOwner says that there is data which only its owner's key opens.
	AwaitingOwner bool `json:"awaiting_owner,omitempty"`
	// Update is nil before the first offer.
	Update *UpdateStatus `json:"update,omitempty"`
	// Waits has the answer held (a long poll) until there is something to say in it,
	// or the next heartbeat is due. A machine asks for that where nothing is under
	// way, which follows from the other fields: it says nothing more.
	Waits bool `json:"waits,omitempty"`
}

// HeartbeatAnswer brings what has aged at the machine.
type HeartbeatAnswer struct {
	// Proof takes the place of the EnrolResult's.
	Proof []byte `json:"proof,omitempty"`
	// Offer is the release that the operator would have the machine run; nil for
	// the one that it runs. It stands in every answer until the machine says that
	// it has heard it.
	Offer *Offer `json:"offer,omitempty"`
	// TakenBack says that what the heartbeat's update is of is no longer offered.
	TakenBack bool `json:"taken_back,omitempty"`
}
