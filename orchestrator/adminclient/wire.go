package adminclient

import (
	"encoding/json"
	"time"
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
	Release    string `json:"release,omitempty" doc:"what the machine runs"`
	MadeFrom   string `json:"made_from,omitempty" doc:"the release that the machine was made from, where it runs another since"`
	URL        string `json:"url,omitempty" doc:"where the owner's client goes, while it is ready or awaits its owner"`
	// UnroutedInbound lets an operator look at a quarantined machine.
	UnroutedInbound   string          `json:"unrouted_inbound,omitempty" doc:"where a quarantined machine listens; nothing is routed there"`
	Tier              string          `json:"tier,omitempty" doc:"the control plane's appraisal; the owner's client makes its own"`
	AttestationResult json.RawMessage `json:"attestation_result,omitempty"`
	Running           bool            `json:"running"`
	Healthy           bool            `json:"healthy"`
	Repairs           int             `json:"repairs"`
	Update            *Update         `json:"update,omitempty" doc:"the release that the machine was offered last"`
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
	// Plan and Region say where its machine is to be made.
	Plan   string `json:"plan,omitempty" maxLength:"64" doc:"a plan of the configuration; empty for its places"`
	Region string `json:"region,omitempty" maxLength:"64" doc:"keep to the places of the plan in this region"`
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
	Withdrawn bool   `json:"withdrawn,omitempty" doc:"the log has its withdrawal: nothing new is made from it"`
	// SecureBootChange is db or dbx.
	SecureBootChange string `json:"secure_boot_change,omitempty" doc:"the list of Secure Boot's that machines change once they run it and are offered it again"`
}

// Releases are all of them, the newest first.
type Releases struct {
	Releases []Release `json:"releases"`
}

// NewRelease adds one.
type NewRelease struct {
	Manifest []byte `json:"manifest" doc:"manifest.json as signed"`
	Bundle   []byte `json:"bundle" doc:"its signature bundle"`
	Entry    []byte `json:"entry,omitempty" doc:"release.entry, what the transparency log has to say of it; needed where there is a log"`
	DiskPath string `json:"disk_path" doc:"where the disk lies on the control plane's host, absolute"`
}

// NewLogEntry adds a withdrawal or a rotation to the transparency log.
type NewLogEntry struct {
	Entry []byte `json:"entry" doc:"the signed entry"`
}

// LogEntry is one that stands in the log.
type LogEntry struct {
	Index int64  `json:"index"`
	Kind  string `json:"kind"`
}

// Log is the transparency log as operators see it.
type Log struct {
	Origin    string `json:"origin"`
	Key       string `json:"key" doc:"the verifier key that clients are given"`
	Size      int64  `json:"size" doc:"of the checkpoint that is shown"`
	Witnesses int    `json:"witnesses"`
	Quorum    int    `json:"quorum"`
}

// Results is a page of the chain of results.
type Results struct {
	Key   []byte `json:"key" doc:"what verifies the results, DER SubjectPublicKeyInfo"`
	Count uint64 `json:"count" doc:"how many results there are"`
	Hash  string `json:"hash" doc:"of the last"`
	// Entries are in the chain's order.
	Entries []Result `json:"entries"`
}

// Result is one entry of the chain.
type Result struct {
	Index    uint64 `json:"index"`
	AtUS     int64  `json:"at_us" doc:"when it was recorded, in microseconds since 1970 in UTC"`
	Instance string `json:"instance"`
	Machine  string `json:"machine"`
	EAR      string `json:"ear" doc:"the signed result, a JWT"`
	Hash     string `json:"hash" doc:"over it and all before it"`
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

// Addresses are where a running control plane listens, as its directory tells
// those on the same host.
type Addresses struct {
	Admin    string `json:"admin"`
	Webhooks string `json:"webhooks"`
	Agents   string `json:"agents"`
	// Transparency is empty where no log is run.
	Transparency string `json:"transparency,omitempty"`
}

// The files in a control plane's directory that its clients on the same host
// read.
const (
	AddressesFile = "addresses.json"
	TokenFile     = "admin.token"
	SecretFile    = "webhook.secret"
)

// WebhookPath is where the control plane takes signup webhooks in.
const WebhookPath = "/webhooks/signup"
