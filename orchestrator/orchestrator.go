// Package orchestrator is the control plane's nouns: the instance that a
// signup asks for, the states it goes through, and the events that say why.
//
// Invariants: an instance points at one machine at a time, whose id is drawn
// and stored before a provider hears of it; a user's identifier stays in the
// store and never reaches a provider or a log; nothing but a request for absence,
// made by the user's own deletion or by an operator, destroys a machine.
package orchestrator

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/providers"
)

// InstanceID names one instance.
type InstanceID string

// UserID is the signup source's own name for a person.
type UserID string

// The sentinels that the control plane's parts answer with.
var (
	// ErrNotFound says that nothing has that name.
	ErrNotFound = errors.New("not found")
	// ErrStale says that the row changed since it was read: read it again.
	ErrStale = errors.New("changed meanwhile")
	// ErrConflict says that what is there does not allow what was asked.
	ErrConflict = errors.New("conflict")
	// ErrFull says that the store has no room left; nothing was written.
	ErrFull = errors.New("the disk is full")
)

// IDLength is the length of every id: 128 bits in base32.
const IDLength = 26

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID draws a random id. Errors are those of random.
func NewID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("drawing an id: %w", err)
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// CheckID reports whether s is an id as NewID draws them. The error says what
// is not.
func CheckID(s string) error {
	if len(s) != IDLength {
		return fmt.Errorf("id has %d characters, want %d", len(s), IDLength)
	}
	b, err := idEncoding.DecodeString(s)
	if err != nil {
		return fmt.Errorf("id is not lowercase base32: %w", err)
	}
	// The last character carries three bits only; others would be aliases.
	if idEncoding.EncodeToString(b) != s {
		return errors.New("id is not in its shortest form")
	}
	return nil
}

// Desired is what should be.
type Desired string

// The desired states.
const (
	Present Desired = "present"
	Absent  Desired = "absent"
)

// Plan is what a machine is made from, fixed before the provider hears of it
// so that every repeated Create asks for the same.
type Plan struct {
	// Provider is empty in the plans of control planes that had but one.
	Provider  string               `json:"provider,omitempty"`
	Release   attest.ReleaseDigest `json:"release,omitzero"`
	Region    string               `json:"region,omitempty"`
	Size      string               `json:"size,omitempty"`
	DataBytes int64                `json:"data_bytes,omitempty"`
	// Config is what the machine reads of itself. It holds the enrolment
	// token, and is wiped as soon as the machine is known to exist.
	Config []byte `json:"config,omitempty"`
	// ConfigDigest outlives it, and so does TokenHash until the machine has
	// enrolled; from then on the token is void.
	ConfigDigest attest.Digest `json:"config_digest,omitzero"`
	TokenHash    attest.Digest `json:"token_hash,omitzero"`
}

// Spec is the plan as the provider takes it.
func (p Plan) Spec() providers.Spec {
	return providers.Spec{
		Release: p.Release, Region: p.Region, Size: p.Size, DataBytes: p.DataBytes, Config: p.Config,
	}
}

// Wish is what a signup asks of the place; both may be empty.
type Wish struct {
	// Plan names a list of places in the configuration.
	Plan string `json:"plan,omitempty"`
	// Region keeps to the places of the plan that are there.
	Region string `json:"region,omitempty"`
}

// Enrolment is what a machine has proved. EK and AK stay; the rest belongs to
// one boot and is forgotten when the machine's power goes.
type Enrolment struct {
	// EK is the SHA-256 of the endorsement key's SubjectPublicKeyInfo. It
	// never changes once set.
	EK attest.Digest `json:"ek,omitzero"`
	// AK is the TPM name of the attestation key.
	AK []byte `json:"ak,omitempty"`
	// ChallengedAt is when the machine last introduced itself.
	ChallengedAt time.Time `json:"challenged_at,omitzero"`
	// Session is the SHA-256 of the TLS key that this boot enrolled with.
	Session attest.Digest `json:"session,omitzero"`
	// Judged says that evidence of this boot was appraised, Accepted with
	// which verdict, Verdict why. AttestationResult is its JSON.
	Judged            bool   `json:"judged,omitempty"`
	Accepted          bool   `json:"accepted,omitempty"`
	Verdict           string `json:"verdict,omitempty"`
	AttestationResult []byte `json:"attestation_result,omitempty"`
	// Release is the one whose registers it showed; zero where it showed none's.
	Release attest.ReleaseDigest `json:"release,omitzero"`
	// LastSeen is the wall clock's time of the last heartbeat. It has a column
	// of its own, which Tx.Seen writes.
	LastSeen time.Time `json:"-"`
	// Running and Healthy are the last heartbeat's.
	Running bool `json:"running,omitempty"`
	Healthy bool `json:"healthy,omitempty"`
	// AwaitingOwner is the last heartbeat's too.
	AwaitingOwner bool `json:"awaiting_owner,omitempty"`
}

// NextBoot forgets what only held for the boot that ended.
func (e Enrolment) NextBoot() Enrolment { return Enrolment{EK: e.EK, AK: e.AK} }

// Instance is a user's row. Its JSON is what the store keeps: a field that is
// added, renamed or gone is a new format of rows.
type Instance struct {
	ID   InstanceID `json:"id"`
	User UserID     `json:"user,omitempty"`
	// SignedUp is the time of the event that made the instance, by the
	// source's clock: an older deletion cannot touch it.
	SignedUp time.Time `json:"signed_up,omitzero"`
	Wish     Wish      `json:"wish,omitzero"`
	Desired  Desired   `json:"desired"`
	// DataBytes is the size that the data disk shall have; 0 for that of the
	// plan.
	DataBytes int64 `json:"data_bytes,omitempty"`
	// Generation counts the changes of what is desired.
	Generation uint64 `json:"generation"`
	// Version counts every change of the row and has a column of its own.
	Version uint64 `json:"-"`

	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Since is when State was entered by the wall clock, for people to read:
	// nothing is decided by it.
	Since time.Time `json:"since,omitzero"`
	// Entries counts the states that were entered, so that two stays in the
	// same one can be told apart.
	Entries uint64 `json:"entries,omitempty"`
	// Limit is how long State may last, 0 where it may for ever; Lasted how
	// long it had when the row was written, by clocks that are never set. Time
	// in which no control plane ran does not count.
	Limit  time.Duration `json:"limit_ns,omitempty"`
	Lasted time.Duration `json:"lasted_ns,omitempty"`

	Machine providers.MachineID `json:"machine,omitempty"`
	Plan    Plan                `json:"plan,omitzero"`
	// Updated is the release that the machine runs since it was made, where that is
	// another than the plan's: a provider knows it by that for good.
	Updated attest.ReleaseDigest `json:"updated,omitzero"`
	Update  Update               `json:"update,omitzero"`
	// Created says that the provider is known to have the machine, Uncertain
	// that it was asked and the answer is not known.
	Created   bool `json:"created,omitempty"`
	Uncertain bool `json:"uncertain,omitempty"`
	// Cycling says that the machine must be seen off before it is switched on.
	Cycling bool `json:"cycling,omitempty"`
	// Restoring is the snapshot that the data disk is set back to once the
	// machine is off; empty for none.
	Restoring providers.SnapshotID `json:"restoring,omitempty"`
	// DataOf is the machine before, whose data disk was kept and is to be this
	// one's; empty for none.
	DataOf providers.MachineID `json:"data_of,omitempty"`
	// Attempts counts refusals in a row, Repairs restarts since the machine
	// was last well.
	Attempts int `json:"attempts,omitempty"`
	Repairs  int `json:"repairs,omitempty"`
	// Endpoint is where clients reach the machine; shown while it is routed to.
	Endpoint string `json:"endpoint,omitempty"`

	Enrolment Enrolment `json:"enrolment,omitzero"`
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// URL is where the owner's client goes; empty unless the machine is routed to.
func (i Instance) URL() string {
	if i.State != StateReady && i.State != StateAwaitingOwner || i.Endpoint == "" {
		return ""
	}
	return "https://" + i.Endpoint
}

// Event is one line of an instance's history.
type Event struct {
	ID       int64
	At       time.Time
	Instance InstanceID
	From     State
	To       State
	Reason   string
}

// Release is a signed release that machines can be made from.
type Release struct {
	Digest   attest.ReleaseDigest
	Version  string
	Epoch    uint64
	Manifest []byte
	Bundle   []byte
	// DiskPath is where the provider reads the disk, DiskSHA256 and DiskBytes
	// what the signed manifest says it holds.
	DiskPath   string
	DiskSHA256 attest.Digest
	DiskBytes  int64
	AddedAt    time.Time
}

// Image is the release's disk, with its firmware where it has its own and else
// Secure Boot's keys where it has some, as a provider takes it. Both lie beside
// the disk. Errors are those of release.ParseManifest.
func (r Release) Image() (providers.Image, error) {
	image := providers.Image{Release: r.Digest, Path: r.DiskPath, SHA256: r.DiskSHA256, Bytes: r.DiskBytes}
	m, err := release.ParseManifest(r.Manifest)
	if err != nil {
		return providers.Image{}, fmt.Errorf("reading the manifest of release %s: %w", r.Digest, err)
	}
	image.Architecture = m.Architecture
	beside := func(f release.File) providers.File {
		return providers.File{Path: filepath.Join(filepath.Dir(r.DiskPath), f.Name), SHA256: f.SHA256, Bytes: f.Bytes}
	}
	if m.Firmware == nil {
		for _, in := range m.Inputs {
			if name, ok := strings.CutSuffix(in.Name, ".esl"); ok {
				image.SecureBoot = append(image.SecureBoot, providers.Key{Name: name, File: beside(release.File(in))})
			}
		}
		return image, nil
	}
	image.Firmware = &providers.Firmware{
		Code: beside(m.Firmware.Code), Variables: beside(m.Firmware.Variables), SecureBoot: m.Firmware.SecureBoot,
	}
	for _, s := range m.Firmware.Shapes {
		image.Firmware.Shapes = append(image.Firmware.Shapes, s.Shape)
	}
	return image, nil
}
