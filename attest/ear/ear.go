// Package ear writes and reads attestation results as signed EAT Attestation
// Results (draft-ietf-rats-ear-04), in a JWT (RFC 7519).
//
// Invariants: a token is read with the key of the one whose word it is and the
// role that is expected of them, both named by the reader, and nothing that the
// token says of itself is believed before its signature holds; there is one
// algorithm, so that none can be swapped for another; one spelling alone
// parses, and an unknown claim is refused (docs/decisions/0060). What is read
// stays a Claims: nothing here makes it the attest.AttestationResult that a
// client's sessions rest on, because a client believes its own appraisal alone.
package ear

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// Profile is the eat_profile of every token (draft-ietf-rats-ear-04, section 3).
const Profile = "tag:ietf.org,2026:rats/ear#04"

// Developer names who wrote the verifier, not who ran it: that is the signer.
const Developer = "https://github.com/toolshed-cloud/shed"

// Submodule is the label of the one attester that a token is about.
const Submodule = "machine"

// Caps, in bytes.
const (
	// MaxBytes caps a token.
	MaxBytes  = 32 << 10
	maxText   = 256
	maxReason = 1 << 10
	maxAK     = 128
)

// Role is whose word a result is.
type Role string

// The roles.
const (
	// OwnerClient is the client of the machine's owner, who asked for
	// themselves.
	OwnerClient Role = "owner-client"
	// ControlPlane is the operator's: it convinces nobody but the operator.
	ControlPlane Role = "control-plane"
	// ThirdParty is anybody else.
	ThirdParty Role = "third-party"
)

// Claims are a token's claims set.
type Claims struct {
	Profile string `json:"eat_profile"`
	// IssuedAt and Expires are seconds since 1970 in UTC; Expires is 0 where
	// the result is a record of its moment.
	IssuedAt int64        `json:"iat"`
	Expires  int64        `json:"exp,omitempty"`
	Status   string       `json:"ear_status"`
	Verifier Verifier     `json:"ear_verifier_id"`
	Submods  Submods      `json:"submods"`
	Issued   IssuedByRole `json:"https://github.com/toolshed-cloud/shed/ear/issuer"`
}

// Verifier is the software that appraised (AR4SI, section 3.3).
type Verifier struct {
	Developer string `json:"developer"`
	Build     string `json:"build"`
}

// IssuedByRole says whose word the token is.
type IssuedByRole struct {
	Role Role `json:"role"`
}

// Submods are the appraisals: there is one attester.
type Submods struct {
	Machine Appraisal `json:"machine"`
}

// Appraisal is the result for one attester.
type Appraisal struct {
	Status string `json:"ear_status"`
	// Vector holds each dimension as AR4SI's number (section 2.2 there).
	Vector map[attest.Dimension]int8 `json:"ear_trustworthiness_vector"`
	// Policies name what it was appraised against.
	Policies []string `json:"ear_appraisal_policy_ids,omitempty"`
	// Nonce is the verifier's that the evidence answered, base64url.
	Nonce string    `json:"eat_nonce,omitempty"`
	Shed  Appraised `json:"https://github.com/toolshed-cloud/shed/ear/appraisal"`
}

// Appraised is what of a result the standard has no claim for.
type Appraised struct {
	Accepted     bool                        `json:"accepted"`
	Tiers        attest.Tiers                `json:"tiers"`
	Release      attest.ReleaseDigest        `json:"release"`
	Transparency string                      `json:"transparency"`
	Reasons      map[attest.Dimension]string `json:"reasons"`
	Differs      []string                    `json:"differs,omitempty"`
	// AK is the TPM name of the attestation key in hex; EK, Config and Claim
	// are the digests that the evidence shows.
	AK     string        `json:"ak"`
	EK     attest.Digest `json:"ek"`
	Config attest.Digest `json:"config"`
	Claim  attest.Digest `json:"claim"`
}

// Subject is the machine that a result is about, as its evidence shows it.
type Subject struct {
	AK                []byte
	EK, Config, Claim attest.Digest
	// Nonce is the verifier's; zero leaves it out.
	Nonce attest.Nonce
}

// Issuer is who states a result, and when.
type Issuer struct {
	Role Role
	// Build names the program's version.
	Build string
	// Policies name what was appraised against, as PolicyID does.
	Policies []string
	At       time.Time
	// Lifetime is how long the result holds; zero for a record of its moment.
	Lifetime time.Duration
}

// Issue makes the claims of a result. Texts are cut where they are longer than
// a reader takes them.
func Issue(by Issuer, of Subject, a attest.AttestationResult) *Claims {
	status := statusOf(a).String()
	c := &Claims{
		Profile: Profile, IssuedAt: by.At.Unix(), Status: status,
		Verifier: Verifier{Developer: Developer, Build: short(by.Build, maxText)},
		Issued:   IssuedByRole{Role: by.Role},
		Submods: Submods{Machine: Appraisal{
			Status: status, Vector: map[attest.Dimension]int8{}, Policies: by.Policies,
			Shed: Appraised{
				Accepted: a.Accepted(), Tiers: a.Tiers, Release: a.Release, Transparency: short(a.Transparency, maxText),
				Reasons: map[attest.Dimension]string{}, Differs: a.Differs,
				AK: hex.EncodeToString(of.AK), EK: of.EK, Config: of.Config, Claim: of.Claim,
			},
		}},
	}
	if by.Lifetime > 0 {
		c.Expires = by.At.Add(by.Lifetime).Unix()
	}
	machine := &c.Submods.Machine
	if of.Nonce != (attest.Nonce{}) {
		machine.Nonce = base64.RawURLEncoding.EncodeToString(of.Nonce[:])
	}
	for _, d := range attest.Dimensions {
		f := a.Finding(d)
		machine.Vector[d], machine.Shed.Reasons[d] = int8(f.Verdict), short(f.Reason, maxReason)
	}
	return c
}

// statusOf is the result in one word. A machine that is not accepted for want
// of a claim gets no status better than that: whoever reads the status alone
// must not take it for a good one.
func statusOf(a attest.AttestationResult) attest.Verdict {
	if !a.Accepted() && a.Status < attest.Contraindicated {
		return attest.NoClaim
	}
	return a.Status
}

// short cuts a text and leaves nothing in it that JSON spells in two ways.
func short(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}

// PolicyID names a policy by the SHA-256 of an encoding of it (RFC 6920,
// section 3).
func PolicyID(encoded []byte) string {
	sum := sha256.Sum256(encoded)
	return "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Time is when the token was issued.
func (c *Claims) Time() time.Time { return time.Unix(c.IssuedAt, 0).UTC() }

// Current reports whether the token has been issued and has not expired. A
// record, which never expires, is current of its moment alone: it says so by
// being current for ever.
func (c *Claims) Current(at time.Time) bool {
	return at.Unix() >= c.IssuedAt && (c.Expires == 0 || at.Unix() < c.Expires)
}

// Dimension is one dimension as a person reads it.
func (c *Claims) Dimension(d attest.Dimension) string {
	machine := &c.Submods.Machine
	return fmt.Sprintf("%s: %s", attest.Verdict(machine.Vector[d]), machine.Shed.Reasons[d])
}
