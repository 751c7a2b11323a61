package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

// instance1 is an instance in the first format, which had no tags: these are
// its fields for ever, whatever those of today are called.
type instance1 struct {
	ID                          orchestrator.InstanceID
	User                        orchestrator.UserID
	SignedUp                    time.Time
	Desired                     orchestrator.Desired
	Generation, Version         uint64
	State                       orchestrator.State
	Reason                      string
	Since, Deadline, NextAt     time.Time
	Machine                     providers.MachineID
	Plan                        plan1
	Created, Uncertain, Cycling bool
	Attempts, Repairs           int
	Inbound                     string
	Enrolment                   enrolment1
	CreatedAt                   time.Time
}

type plan1 struct {
	Release                 attest.ReleaseDigest
	Region, Size            string
	DataBytes               int64
	Config                  []byte
	ConfigDigest, TokenHash attest.Digest
}

type enrolment1 struct {
	EK                  attest.Digest
	AK                  []byte
	ChallengedAt        time.Time
	Session             attest.Digest
	Judged, Accepted    bool
	Verdict             string
	Appraisal           []byte
	LastSeen            time.Time
	Running, Performing bool
}

// today is the same instance as it is kept now. The limit of its state stays
// what it was, and begins anew: how much of it had passed was only known by a
// clock that may have been set since.
func (i instance1) today() orchestrator.Instance {
	now := orchestrator.Instance{
		ID: i.ID, User: i.User, SignedUp: i.SignedUp, Desired: i.Desired, Generation: i.Generation,
		State: i.State, Reason: i.Reason, Since: i.Since, Entries: 1,
		Machine: i.Machine, Plan: orchestrator.Plan{
			Release: i.Plan.Release, Region: i.Plan.Region, Size: i.Plan.Size, DataBytes: i.Plan.DataBytes,
			Config: i.Plan.Config, ConfigDigest: i.Plan.ConfigDigest, TokenHash: i.Plan.TokenHash,
		},
		Created: i.Created, Uncertain: i.Uncertain, Cycling: i.Cycling, Attempts: i.Attempts, Repairs: i.Repairs,
		Endpoint: i.Inbound, CreatedAt: i.CreatedAt,
		Enrolment: orchestrator.Enrolment{
			EK: i.Enrolment.EK, AK: i.Enrolment.AK, ChallengedAt: i.Enrolment.ChallengedAt, Session: i.Enrolment.Session,
			Judged: i.Enrolment.Judged, Accepted: i.Enrolment.Accepted, Verdict: i.Enrolment.Verdict,
			AttestationResult: i.Enrolment.Appraisal, Running: i.Enrolment.Running, Healthy: i.Enrolment.Performing,
		},
	}
	if !i.Deadline.IsZero() {
		now.Limit = i.Deadline.Sub(i.Since)
	}
	return now
}

// fromFormat1 rewrites every document of the first format.
func fromFormat1(_ context.Context, c *conn) error {
	rows := make(map[int64]string)
	scan := func(r *sql.Rows) error {
		var seq int64
		var text string
		err := r.Scan(&seq, &text)
		rows[seq] = text
		return err
	}
	if err := c.each(scan, "SELECT seq, document FROM instances"); err != nil {
		return fmt.Errorf("reading instances: %w", err)
	}
	for seq, text := range rows {
		var old instance1
		if err := strictly(text, &old); err != nil {
			return fmt.Errorf("instance number %d: %w", seq, err)
		}
		document, err := encode(old.today())
		if err != nil {
			return err
		}
		if err := c.exec("UPDATE instances SET document = ? WHERE seq = ?", document, seq); err != nil {
			return fmt.Errorf("writing instance %s: %w", old.ID, err)
		}
	}
	return nil
}
