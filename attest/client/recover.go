package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Volume is what a client remembers of the owner's data on a machine.
type Volume struct {
	// Claim is the digest of the claim that the volume is under.
	Claim attest.Digest `json:"claim"`
	// Wrapped is the SHA-256 of its key as the machine wrapped it to the owner:
	// what anybody else wrapped is another.
	Wrapped attest.Digest `json:"wrapped"`
}

var (
	// ErrNothingLeft says that no data on the machine waits for its owner.
	ErrNothingLeft = fmt.Errorf("%w: no data on this machine waits for its owner", attest.ErrClaim)
	// ErrUnknownVolume says that this client has never seen the volume:
	// whoever made it may know the key that its owner is asked to hand over.
	ErrUnknownVolume = fmt.Errorf("%w: this client has never seen the data on this machine", attest.ErrClaim)
)

// Left is what stands on the machine's data disk. The error is ErrNothingLeft
// where nothing of ours does, a *channel.StatusError where the machine does not
// take the keys for its owner's, or the network's.
func (s *Session) Left(ctx context.Context, keys Keys) (*channel.Left, error) {
	b, err := s.ask(ctx, keys, channel.RecoveryPath, channel.MaxRequestBytes)
	var status *channel.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return nil, ErrNothingLeft
	}
	if err != nil {
		return nil, fmt.Errorf("asking what is on the data disk: %w", err)
	}
	left := new(channel.Left)
	if err := canon.Unmarshal("what is on the data disk", b, channel.MaxRequestBytes, left); err != nil {
		return nil, err
	}
	return left, nil
}

// Recover hands the session's machine, which another one is lost for, the key of
// the volume on its disk, makes the machine the owner's where it is nobody's,
// and verifies that it says so. Errors are as Claim's, and attest.ErrMalformed
// where the key was not wrapped for these keys.
func (s *Session) Recover(ctx context.Context, keys Keys, left *channel.Left) error {
	opened, err := ownership.OpenRecovery(keys.Recovery, ownership.RecoveryContext(left.Volume, left.Claim), left.Wrapped)
	if err != nil {
		return fmt.Errorf("opening the key of the data: %w", err)
	}
	defer clear(opened.VolumeKey)
	given := channel.Recovery{Volume: left.Volume, Key: opened.VolumeKey}
	want := s.Evidence.Claim
	if want.IsZero() {
		c, err := s.newClaim(ctx, keys)
		if err != nil {
			return err
		}
		given.Claim, want = c.Encode(), c.Digest()
	} else if err := s.ownClaim(ctx, keys); err != nil {
		return err
	}
	body, err := canon.Marshal(given)
	if err != nil {
		return fmt.Errorf("encoding the recovery: %w", err)
	}
	defer clear(body)
	req, err := s.Conn.Request(ctx, http.MethodPost, channel.RecoveryPath, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", channel.ContentType)
	req.Header.Set(ownership.Header, s.Token(keys))
	if _, err := s.Conn.Do(req, channel.MaxRequestBytes); err != nil {
		return fmt.Errorf("handing the key over: %w", err)
	}
	return s.holds(ctx, want)
}

func volumeName(left *channel.Left) string { return hex.EncodeToString(left.Volume[:]) }

func volumeOf(left *channel.Left) Volume {
	return Volume{Claim: left.Claim, Wrapped: attest.Sum(left.Wrapped)}
}

// RememberVolume keeps a volume that its machine vouches for, for the day when the
// machine is lost. The error is ErrUnknownVolume for any other, or the file's.
func (h ClientState) RememberVolume(left *channel.Left) error {
	if !left.Vouched {
		return ErrUnknownVolume
	}
	return h.change(func(a *accepted) {
		if a.Volumes == nil {
			a.Volumes = map[string]Volume{}
		}
		a.Volumes[volumeName(left)] = volumeOf(left)
	})
}

// KnowsVolume returns ErrUnknownVolume for what RememberVolume was never told and
// no machine vouches for.
func (h ClientState) KnowsVolume(left *channel.Left) error {
	a, err := h.accepted()
	if err != nil {
		return err
	}
	if !left.Vouched && a.Volumes[volumeName(left)] != volumeOf(left) {
		return ErrUnknownVolume
	}
	return nil
}
