package client

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Updates is what a claim lets the machine do about new releases by itself. The
// zero value has it ask.
type Updates struct {
	// Standing takes each release that the client's own trust vouches for, once
	// the machine has known it for Delay.
	Standing bool
	Delay    time.Duration
}

// updatePolicy is what this client trusts of releases, as a claim gives it to the
// machine. Errors are attest.ErrPolicy.
func (t Trust) updatePolicy() (ownership.UpdatePolicy, error) {
	p := ownership.UpdatePolicy{Consent: ownership.UpdateAsk}
	if t.Updates.Standing {
		p.Consent, p.Delay = ownership.UpdateStanding, uint64(t.Updates.Delay/time.Second)
	}
	for _, key := range t.Keys() {
		der, err := logentry.MarshalKey(key)
		if err != nil {
			return p, fmt.Errorf("%w: release key: %w", attest.ErrPolicy, err)
		}
		p.Keys = append(p.Keys, der)
	}
	if t.Log.NotRequired {
		return p, nil
	}
	p.Log, p.Quorum, p.MaxAge = t.Log.Log.String(), uint64(t.Log.Quorum), uint64(t.Log.MaxAge/time.Second)
	for _, w := range t.Log.Witnesses {
		p.Witnesses = append(p.Witnesses, w.Key.String())
	}
	return p, nil
}
