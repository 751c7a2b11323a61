package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// save writes what each verification is made from, also where the machine is
// refused: a bad machine that was captured can be shown to others.
func (c *relyingParty) save(file string) {
	if file == "" {
		return
	}
	c.trust.Captured = func(b *bundle.Bundle) error {
		encoded, err := b.Encode()
		if err != nil {
			return err
		}
		return statefile.Write(file, 0o600, encoded)
	}
}

// verifyBundle judges a file, and asks nobody. Nothing is learned or remembered
// from what somebody saved.
func (o *verifyOptions) verifyBundle(cmd *cobra.Command) error {
	encoded, err := readCapped(o.bundle, bundle.MaxBytes)
	if err != nil {
		return fmt.Errorf("reading the bundle: %w", err)
	}
	b, err := bundle.Decode(encoded)
	if err != nil {
		return err
	}
	c, err := o.client.relyingParty(cmd)
	if err != nil {
		return err
	}
	at, assumed := time.Now(), !o.at.IsZero()
	if assumed {
		at, c.trust = o.at.Time, c.trust.Assuming(o.at.Time)
	}
	pin, err := c.pinOf(b.Machine)
	if err != nil {
		return err
	}
	judged, err := c.trust.JudgeBundle(b, pin, at)
	var refusal *client.RefusedError
	if err != nil && !errors.As(err, &refusal) {
		return judgedAt(err, at)
	}
	return errors.Join(claimsOf(b.Machine, judged.Result, judged.Evidence, judged.At).running(judged.Logged.Manifest).saved(b, assumed, at).show(cmd), err)
}

// pinOf is what was accepted of the machine that a bundle names; nil where
// nothing was.
func (c *relyingParty) pinOf(machine string) (*client.Pin, error) {
	u, err := url.Parse(machine)
	if err != nil || u.Host == "" {
		return nil, nil //nolint:nilerr // what names no machine was never accepted
	}
	return c.state.Pin(u.Host)
}
