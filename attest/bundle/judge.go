package bundle

import (
	"crypto"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Terms are what evidence is judged by.
type Terms struct {
	// Verifier keeps what it parsed between verifications.
	Verifier *verifier.Verifier
	// Releases keeps the releases that were accepted; nil keeps none.
	Releases *release.Verifier
	// Policy is what is accepted of a machine; its releases, its transparency
	// and its time are set for each verification.
	Policy verifier.Policy
	// Keys sign releases. At least one.
	Keys []crypto.PublicKey
	// Log says which transparency log has to vouch for a release.
	Log release.LogPolicy
	// At is the time by the clock, or an assumed one.
	At time.Time
}

// Given is evidence with what this end knows of its own: the nonce that it
// drew and the connection that it derived.
type Given struct {
	Evidence []byte
	Nonce    attest.Nonce
	Channel  attest.Channel
}

// Judged is what became of evidence, as far as it came.
type Judged struct {
	Evidence *verifier.Verified
	// Logged is the release that the machine shows. What was learned of the
	// log is there beside an error too.
	Logged release.Logged
	// At is the time that the result is of: the terms', or a later one that is
	// known to have been.
	At     time.Time
	Result attest.AttestationResult
}

// Judge verifies evidence, then the release that it shows and what the log says
// of it, asks activate how the attestation key was activated, and appraises.
// It is the one way to a result, live or not. A machine that proves what it is
// and is not what the policy accepts has a result that is not Accepted. Errors
// are those of verifier.Verify, release.VerifyLogged, activate and
// verifier.Appraise, and ErrShowsNone.
func (t Terms) Judge(g Given, activate func(*verifier.Verified) (verifier.Activation, error)) (j Judged, err error) {
	if j.Evidence, err = t.Verifier.Verify(g.Evidence, g.Nonce, g.Channel); err != nil {
		return j, err
	}
	shown := j.Evidence.ReferenceValues
	if len(shown.Manifest) == 0 {
		return j, ErrShowsNone
	}
	if j.Logged, err = t.VerifyRelease(shown); err != nil {
		return j, err
	}
	activation, err := activate(j.Evidence)
	if err != nil {
		return j, err
	}
	p := t.policy(j.Logged)
	j.At = p.Now
	j.Result, err = verifier.Appraise(j.Evidence, activation, p)
	return j, err
}

// ErrShowsNone says that a machine shows no release, as one that has just booted. It
// is an attest.ErrRelease.
var ErrShowsNone = fmt.Errorf("%w: the machine shows no signed release; it may not have enrolled yet", attest.ErrRelease)

// VerifyRelease verifies a release as that of evidence, and what the log says of it.
// What was learned of the log is there beside an error too. Errors are those of
// release.VerifyLogged.
func (t Terms) VerifyRelease(shown evidence.ReferenceValues) (release.Logged, error) {
	if t.Releases == nil {
		return release.VerifyLogged(shown.Manifest, shown.Bundle, shown.Proof, t.Keys, t.Log, t.At)
	}
	return t.Releases.VerifyLogged(shown.Manifest, shown.Bundle, shown.Proof, t.Keys, t.Log, t.At)
}

// policy is that of this verification. The clock is the host's, or the
// network's, to set back: the witnesses' and what was seen before are a floor.
func (t Terms) policy(logged release.Logged) verifier.Policy {
	p := t.Policy
	p.Now = t.Log.Now(t.At, logged)
	p.Releases = map[attest.ReleaseDigest]*release.Manifest{logged.Digest: logged.Manifest}
	p.Transparency = logged.Transparency(p.Now)
	return p
}
