package client

import (
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
)

// captured is the bundle of a verification that begins.
func (s *Session) captured(evidence []byte, nonce attest.Nonce, at time.Time) *bundle.Bundle {
	b := &bundle.Bundle{
		SavedAt: at, Machine: s.Conn.URL(), Channel: s.Conn.Channel, Nonce: nonce, Evidence: evidence,
	}
	for _, list := range s.trust.Policy.RevocationLists {
		b.RevocationLists = append(b.RevocationLists, list.Raw())
	}
	return b
}

func (t Trust) capture(b *bundle.Bundle) error {
	if t.Captured == nil {
		return nil
	}
	return t.Captured(b)
}

// JudgeBundle judges what somebody saved as this client would have judged it
// live at the given time: by the same policy and, where the machine was
// accepted before, by its pin. A result that is not accepted is a
// *RefusedError; other errors are bundle.Terms.Judge's, attest.ErrIdentity and
// attest.ErrClaim. What was judged comes beside an error too.
func (t Trust) JudgeBundle(b *bundle.Bundle, pin *Pin, at time.Time) (bundle.Judged, error) {
	if !t.assumed {
		at = pin.floored(at)
	}
	judged, err := b.Judge(t.terms(at))
	if err != nil {
		return judged, err
	}
	if pin != nil {
		if err := pin.Recognize(judged.Evidence); err != nil {
			return judged, err
		}
	}
	if !judged.Result.Accepted() {
		return judged, &RefusedError{Result: judged.Result, Evidence: judged.Evidence}
	}
	if pin != nil {
		return judged, pin.Holds(judged.Evidence)
	}
	return judged, nil
}

// Assuming is the same trust at an assumed time: the floor that keeps a clock
// from being set back gives way to it, since it is stated and no clock's.
func (t Trust) Assuming(at time.Time) Trust {
	t.Now, t.assumed = func() time.Time { return at }, true
	t.Log.TimeFloor, t.Log.Memory.Time = at, time.Time{}
	if t.Log.NotRequired {
		t.Log.TimeFloor = time.Time{}
	}
	return t
}
