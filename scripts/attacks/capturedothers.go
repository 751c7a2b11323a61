package main

import (
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// anotherOne is a machine of the same installation, with the same authority
// behind its endorsement key.
const anotherOne = "AnotherMachine"

// onOthers are a good machine's evidence with what is another good machine's,
// or was said over another connection.
func onOthers(good *captured) ([]attack, error) {
	another, err := readCaptured(anotherOne)
	if err != nil {
		return nil, err
	}
	twin, err := good.verified(good.bundle.Evidence)
	if err != nil {
		return nil, err
	}
	foreign, err := good.withEKOf(another)
	if err != nil {
		return nil, err
	}
	all := []attack{
		{name: "foreign EK", reason: reason{kind: attest.ErrIdentity}, good: good.activated(twin, good.bundle.Channel), bad: another.activated(foreign, another.bundle.Channel)},
		{name: "foreign EK, key pinned", reason: reason{kind: attest.ErrIdentity}, good: recognized(twin, twin), bad: recognized(twin, foreign)},
	}
	for _, c := range []struct {
		name  string
		relay func(*attest.Channel)
	}{
		{"relayed activation (exporter)", func(ch *attest.Channel) { ch.Exporter[0]++ }},
		{"relayed activation (key)", func(ch *attest.Channel) { ch.SPKI = another.bundle.Channel.SPKI }},
		{"reflected activation (role)", func(ch *attest.Channel) { ch.Role = attest.RoleEnrol }},
	} {
		elsewhere := good.bundle.Channel
		c.relay(&elsewhere)
		all = append(all, attack{
			name: c.name, reason: reason{kind: attest.ErrIdentity},
			good: good.activated(twin, good.bundle.Channel), bad: good.activated(twin, elsewhere),
		})
	}
	return all, nil
}

// verified is evidence under the capture's own nonce and channel.
func (c *captured) verified(encoded []byte) (*verifier.Verified, error) {
	return c.terms.Verifier.Verify(encoded, c.bundle.Nonce, c.bundle.Channel)
}

// withEKOf is the capture's evidence with the other's endorsement.
func (c *captured) withEKOf(other *captured) (*verifier.Verified, error) {
	theirs, err := evidence.Decode(other.bundle.Evidence)
	if err != nil {
		return nil, err
	}
	b, err := c.altered(func(e *evidence.Evidence) { e.Endorsements = theirs.Endorsements })
	if err != nil {
		return nil, err
	}
	return c.verified(b.Evidence)
}

// activated holds the machine's answer against a challenge for the keys that
// evidence shows.
func (c *captured) activated(v *verifier.Verified, ch attest.Channel) outcome {
	challenge, err := v.Challenge(zeros{})
	if err == nil {
		err = challenge.Answered(c.activation, ch)
	}
	return outcome{accepted: err == nil, err: err}
}

// recognized holds evidence against what the client pinned.
func recognized(pinned, v *verifier.Verified) outcome {
	pin := client.Pin{AK: pinned.AK, EK: pinned.EK}
	err := pin.Recognize(v)
	return outcome{accepted: err == nil, err: err}
}

// onReleaseLog have the good machine's release come from another log, with
// other witnesses, too late, or without a proof.
func onReleaseLog(good, stranger *captured, twin outcome) ([]attack, error) {
	var all []attack
	for _, c := range []struct {
		name   string
		reason reason
		change func(*bundle.Terms)
	}{
		{"another log's release", reason{kind: attest.ErrTransparency, says: "shed.local"}, func(t *bundle.Terms) { t.Log.Log = stranger.terms.Log.Log }},
		{"no witness that is pinned", reason{kind: attest.ErrTransparency, says: "witnesses"}, func(t *bundle.Terms) {
			t.Log.Witnesses = stranger.terms.Log.Witnesses
		}},
		{"a stale cosignature", reason{kind: attest.ErrTransparency, says: "stale"}, func(t *bundle.Terms) { t.At = t.At.Add(t.Log.MaxAge + time.Hour) }},
	} {
		terms := good.terms
		c.change(&terms)
		all = append(all, attack{name: c.name, reason: c.reason, good: twin, bad: good.judge(good.bundle, terms)})
	}
	unproven, err := good.altered(func(e *evidence.Evidence) { e.ReferenceValues.Proof = nil })
	if err != nil {
		return nil, err
	}
	return append(all, attack{
		name: "a release without a proof", reason: reason{kind: attest.ErrTransparency, says: "shed.local"},
		good: twin, bad: good.judge(unproven, good.terms),
	}), nil
}
