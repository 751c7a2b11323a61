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
	"time"

	"github.com/toolshed-cloud/shed/attest"
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

// NewID draws a random id.
func NewID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("drawing an id: %w", err)
	}
	return idEncoding.EncodeToString(b[:]), nil
}

// CheckID reports whether s is an id as NewID draws them.
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
	Release   attest.ReleaseDigest
	Region    string
	Size      string
	DataBytes int64
	// Config is what the machine reads of itself. It holds the enrolment
	// token, and is wiped as soon as the machine is known to exist.
	Config []byte
	// ConfigDigest outlives it, and so does TokenHash until the machine has
	// enrolled; from then on the token is void.
	ConfigDigest attest.Digest
	TokenHash    attest.Digest
}

// Spec is the plan as the provider takes it.
func (p Plan) Spec() providers.Spec {
	return providers.Spec{
		Release: p.Release, Region: p.Region, Size: p.Size, DataBytes: p.DataBytes, Config: p.Config,
	}
}

// Enrolment is what a machine has proved. EK and AK stay; the rest belongs to
// one boot and is forgotten when the machine's power goes.
type Enrolment struct {
	// EK is the SHA-256 of the endorsement key's SubjectPublicKeyInfo. It
	// never changes once set.
	EK attest.Digest
	// AK is the TPM name of the attestation key.
	AK []byte
	// ChallengedAt is when the machine last introduced itself.
	ChallengedAt time.Time
	// Session is the SHA-256 of the TLS key that this boot enrolled with.
	Session attest.Digest
	// Judged says that evidence of this boot was appraised, Accepted with
	// which verdict, Verdict why. Appraisal is its JSON.
	Judged            bool
	Accepted          bool
	Verdict           string
	AttestationResult []byte
	// LastSeen, Running and Healthy are the last heartbeat's.
	LastSeen time.Time
	Running  bool
	Healthy  bool
}

// NextBoot forgets what only held for the boot that ended.
func (e Enrolment) NextBoot() Enrolment { return Enrolment{EK: e.EK, AK: e.AK} }

// Instance is a user's row.
type Instance struct {
	ID   InstanceID
	User UserID
	// SignedUp is the time of the event that made the instance, by the
	// source's clock: an older deletion cannot touch it.
	SignedUp time.Time
	Desired  Desired
	// Generation counts the changes of Desired, Version every change of the row.
	Generation uint64
	Version    uint64

	State  State
	Reason string
	Since  time.Time
	// Deadline is when State has lasted too long; zero where it may last.
	Deadline time.Time
	// NextAt is when the row wants to be looked at again; zero where only a
	// new request matters.
	NextAt time.Time

	Machine providers.MachineID
	Plan    Plan
	// Created says that the provider is known to have the machine, Uncertain
	// that it was asked and the answer is not known.
	Created   bool
	Uncertain bool
	// Cycling says that the machine must be seen off before it is switched on.
	Cycling bool
	// Attempts counts refusals in a row, Repairs restarts since the machine
	// was last well.
	Attempts int
	Repairs  int
	// Endpoint is where clients reach the machine; shown while Ready only.
	Endpoint string

	Enrolment Enrolment
	CreatedAt time.Time
}

// URL is where the owner's client goes; empty unless the machine is routed to.
func (i Instance) URL() string {
	if i.State != StateReady || i.Endpoint == "" {
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

// Image is the release's disk as a provider takes it.
func (r Release) Image() providers.Image {
	return providers.Image{Release: r.Digest, Path: r.DiskPath, SHA256: r.DiskSHA256, Bytes: r.DiskBytes}
}
