package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// claims are what verify says of a machine; --json prints them as they are, and
// docs/policy.md says what each means.
type claims struct {
	attest.AttestationResult
	Accepted bool   `json:"accepted"`
	Machine  string `json:"machine"`
	// At is the time at which it was judged.
	At time.Time `json:"at"`
	// Session is "proven" on a live connection, and Activation who says that the
	// attestation key lives beside the endorsement key: "this client",
	// "the saver's word" or "nobody".
	Session    string `json:"session"`
	Activation string `json:"activation"`
	// Owner is whose machine it is, on a live connection: "yours", "another" or
	// "nobody".
	Owner client.Whose `json:"owner,omitempty"`
	// Payload is what runs in the toolshed's place; nil for the toolshed, and
	// where the machine is refused.
	Payload *payload.Spec `json:"payload,omitempty"`
	// SecureBoot is how far the machine is with what its release changes of Secure
	// Boot's variables; nil where that is nothing, and where the machine is refused.
	SecureBoot *listClaim `json:"secure_boot,omitempty"`
	*savedClaims
	*machineClaims
}

// listClaim is db or dbx as the release has it, or as it was before.
type listClaim struct {
	Variable string `json:"variable"`
	Changed  bool   `json:"changed"`
}

func (l *listClaim) String() string {
	if l.Changed {
		return l.Variable + " is as the release has it"
	}
	return l.Variable + " is as it was before the release, which changes it once its owner approves that"
}

// savedClaims are there for a bundle alone.
type savedClaims struct {
	SavedAt     time.Time `json:"saved_at"`
	TimeAssumed bool      `json:"time_assumed"`
	// asked is the time that was to be judged at, which a later one that is
	// known to have been overrides.
	asked time.Time
}

// machineClaims are what was verified of the machine, whatever is made of it.
type machineClaims struct {
	AK        string                   `json:"ak"`
	EK        attest.Digest            `json:"ek"`
	Config    attest.Digest            `json:"config"`
	Claim     attest.Digest            `json:"claim"`
	Platforms []string                 `json:"platforms"`
	Registers map[string]attest.Digest `json:"registers"`
}

func claimsOf(machine string, a attest.AttestationResult, v *verifier.Verified, at time.Time) claims {
	c := claims{AttestationResult: a, Accepted: a.Accepted(), Machine: machine, At: at.UTC(), Session: "proven", Activation: "this client"}
	if v == nil {
		return c
	}
	if v.EK.IsZero() {
		// There is nothing to activate: a cloud's word stands for it.
		c.Activation = "nobody"
	}
	c.machineClaims = &machineClaims{
		AK: fmt.Sprintf("%x", v.AK), EK: v.EK, Config: v.Config, Claim: v.Claim,
		Platforms: v.Platforms(), Registers: map[string]attest.Digest{},
	}
	for _, r := range tpm.Selection {
		c.Registers[fmt.Sprint(r)] = v.Registers[r]
	}
	return c
}

// saved turns the claims into those of a bundle.
func (c claims) saved(b *bundle.Bundle, assumed bool, asked time.Time) claims {
	c.Session, c.Activation = "not proven", "the saver's word"
	if b.Activation == bundle.NotActivated {
		c.Activation = "nobody"
	}
	c.savedClaims = &savedClaims{SavedAt: b.SavedAt, TimeAssumed: assumed, asked: asked.UTC()}
	return c
}

func (c claims) show(cmd *cobra.Command) error {
	if cli.WantsJSON(cmd) {
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(c); err != nil {
			return fmt.Errorf("writing the claims: %w", err)
		}
		return nil
	}
	if c.savedClaims != nil {
		if err := c.showSaved(cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	if err := writeAppraisal(cmd.OutOrStdout(), c.AttestationResult); err != nil {
		return err
	}
	if c.Payload != nil {
		if err := showPayload(cmd.OutOrStdout(), c.Payload); err != nil {
			return err
		}
	}
	if c.SecureBoot != nil {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "secure boot: %s\n", c.SecureBoot); err != nil {
			return fmt.Errorf("writing the claims: %w", err)
		}
	}
	if c.Owner == "" {
		return nil
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "owner: %s\n", describeOwner(c.Owner, c.Claim))
	return err
}

func (c claims) showSaved(w io.Writer) error {
	when := "the clock's"
	if c.TimeAssumed {
		when = "assumed"
	}
	if !c.At.Equal(c.asked) {
		when += fmt.Sprintf("; judged as of %s, since the witnesses have cosigned by then", c.At.Format(time.RFC3339))
	}
	_, err := fmt.Fprintf(w, "bundle: %s, saved %s, by the saver's word\nsession not proven: a file cannot show that somebody is there\n"+
		"activation: %s\ntime: %s, %s\n", first(c.Machine, "no machine named"), c.SavedAt.Format(time.RFC3339), c.Activation, c.asked.Format(time.RFC3339), when)
	if err != nil {
		return fmt.Errorf("writing the claims: %w", err)
	}
	return nil
}
