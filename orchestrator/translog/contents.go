package translog

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// contents are what stands in a log, by what is asked for. Audit heads, of
// which there are many, are not remembered.
type contents struct {
	byHash   map[attest.Digest]int64
	releases map[attest.ReleaseDigest]int64
	// withdrawals and rotations are indices, in the log's order.
	withdrawals, rotations []int64
	// withdrawn are the latest withdrawals.
	withdrawn map[attest.ReleaseDigest]withdrawal
	// signers are the release key and those that it was rotated to; the last
	// is the one in use.
	signers []crypto.PublicKey
}

// withdrawal is where one stands, and what makes another of the same release a new one:
// its reason, and which of the signers made it, counted from 1. Its bytes do not: ECDSA
// signs nothing the same twice.
type withdrawal struct {
	index  int64
	reason logentry.Reason
	signer int
}

func newContents(key crypto.PublicKey) contents {
	return contents{
		byHash: map[attest.Digest]int64{}, releases: map[attest.ReleaseDigest]int64{}, withdrawn: map[attest.ReleaseDigest]withdrawal{},
		signers: []crypto.PublicKey{key},
	}
}

// take remembers an entry that stands in the log.
func (c *contents) take(record []byte, index int64) error {
	e, err := logentry.Parse(record)
	if err != nil {
		return err
	}
	if e.Body.Kind == logentry.KindAuditHead {
		return nil
	}
	c.byHash[attest.Sum(record)] = index
	switch e.Body.Kind {
	case logentry.KindRelease:
		c.releases[e.Body.Release.Manifest] = index
	case logentry.KindWithdrawal:
		c.withdrawals = append(c.withdrawals, index)
		c.withdrawn[e.Body.Withdrawal.Manifest] = withdrawal{index, e.Body.Withdrawal.Reason, len(c.signers)}
	case logentry.KindRotation:
		c.rotations = append(c.rotations, index)
		return c.rotate(e.Body.Rotation)
	}
	return nil
}

// stands is where a withdrawal that is accepted stands already, as the latest of its
// release. Whoever takes another key for the operator's has to be told again, and of
// another reason everybody has.
func (c *contents) stands(e *logentry.Entry) (index int64, ok bool) {
	if e.Body.Kind != logentry.KindWithdrawal {
		return 0, false
	}
	latest, ok := c.withdrawn[e.Body.Withdrawal.Manifest]
	return latest.index, ok && latest.reason == e.Body.Withdrawal.Reason && latest.signer == len(c.signers)
}

// rotate follows the rotations of the release key, which no other key's has
// the spelling of.
func (c *contents) rotate(r *logentry.Rotation) error {
	rotates, err := c.isCurrent(r.Old)
	if err != nil || !rotates {
		return err
	}
	next, err := logentry.ParseReleaseKey(r.New)
	if err == nil {
		c.signers = append(c.signers, next)
	}
	return err
}

func (c *contents) current() crypto.PublicKey { return c.signers[len(c.signers)-1] }

func (c *contents) isCurrent(key []byte) (bool, error) {
	current, err := logentry.MarshalKey(c.current())
	return bytes.Equal(current, key), err
}

// accepts refuses what is not its signer's to state: anybody who reads the log
// takes what stands in it for the operator's word.
func (c *contents) accepts(e *logentry.Entry, auditKey crypto.PublicKey, keys []checkpoint.Key) error {
	switch e.Body.Kind {
	case logentry.KindAuditHead:
		if auditKey == nil {
			return refused("no key signs audit heads here")
		}
		return because(e.Verify(auditKey))
	case logentry.KindRotation:
		return c.acceptsRotation(e, keys)
	case logentry.KindRelease:
		if _, twice := c.releases[e.Body.Release.Manifest]; twice {
			return refused("release %s stands in the log already", e.Body.Release.Manifest)
		}
	case logentry.KindWithdrawal:
		// A digest that was mistyped would stand there for good, and every
		// audit from then on would call it foreign.
		if _, there := c.releases[e.Body.Withdrawal.Manifest]; !there {
			return refused("release %s, to be withdrawn, does not stand in the log", e.Body.Withdrawal.Manifest)
		}
	}
	return because(e.Verify(c.current()))
}

func (c *contents) acceptsRotation(e *logentry.Entry, keys []checkpoint.Key) error {
	r := e.Body.Rotation
	if r.Use == logentry.UseRelease {
		if rotates, err := c.isCurrent(r.Old); err != nil || !rotates {
			return errors.Join(err, refused("the release key that rotates is not the one in use"))
		}
		return because(e.VerifyRotation())
	}
	if !slices.ContainsFunc(keys, func(k checkpoint.Key) bool { return k.String() == string(r.Old) }) {
		return refused("the %s key that rotates is none of this log's", r.Use)
	}
	return because(e.VerifyRotation())
}

func because(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", attest.ErrTransparency, err)
	}
	return nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrTransparency, fmt.Errorf(format, args...))
}
