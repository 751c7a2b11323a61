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
	// Tiers are the most that machines which had it have shown.
	Tiers attest.Tiers `json:"tiers"`
}

var (
	// ErrNothingLeft says that no data on the machine waits for its owner.
	ErrNothingLeft = fmt.Errorf("%w: no data on this machine waits for its owner", attest.ErrClaim)
	// ErrUnknownVolume says that this client has never seen the volume:
	// whoever made it may know the key that its owner is asked to hand over.
	ErrUnknownVolume = fmt.Errorf("%w: this client has never seen the data on this machine", attest.ErrClaim)
	// ErrLowerTier says that a machine shows less than the one that had the data:
	// whoever runs it could be who the other one kept the key from.
	ErrLowerTier = fmt.Errorf("%w: this machine shows less than the one that had the data", attest.ErrClaim)
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

// RememberVolume keeps a volume that its machine vouches for, for the day when the
// machine, of these tiers, is lost. The error is ErrUnknownVolume for any other, or
// the file's.
func (h ClientState) RememberVolume(left *channel.Left, tiers attest.Tiers) error {
	if !left.Vouched {
		return ErrUnknownVolume
	}
	return h.change(func(a *accepted) {
		if a.Volumes == nil {
			a.Volumes = map[string]Volume{}
		}
		before := a.Volumes[volumeName(left)].Tiers
		a.Volumes[volumeName(left)] = Volume{
			Claim: left.Claim, Wrapped: attest.Sum(left.Wrapped), Tiers: attest.Tiers{
				Memory: max(before.Memory, tiers.Memory), Identity: max(before.Identity, tiers.Identity),
			},
		}
	})
}

// KnowsVolume returns ErrUnknownVolume for what RememberVolume was never told and
// no machine vouches for.
func (h ClientState) KnowsVolume(left *channel.Left) error {
	known, err := h.volume(left)
	if err != nil {
		return err
	}
	if !left.Vouched && (known.Claim != left.Claim || known.Wrapped != attest.Sum(left.Wrapped)) {
		return ErrUnknownVolume
	}
	return nil
}

// MayHaveVolume returns ErrLowerTier for a machine that shows less of its memory or
// its identity than one did that the volume was remembered of, under whatever
// claim. A machine without an owner has no data whose tier it could show.
// One that vouches for the volume has its key already.
func (h ClientState) MayHaveVolume(left *channel.Left, shown attest.Tiers) error {
	known, err := h.volume(left)
	if err != nil || left.Vouched {
		return err
	}
	for _, t := range []struct {
		name      string
		was, here attest.Tier
	}{
		{"memory", known.Tiers.Memory, shown.Memory},
		{"identity", known.Tiers.Identity, shown.Identity},
	} {
		if t.here < t.was {
			return fmt.Errorf("%w: %s %s, and it was %s", ErrLowerTier, t.name, t.here, t.was)
		}
	}
	return nil
}

// volume is what was last remembered under a volume's id.
func (h ClientState) volume(left *channel.Left) (Volume, error) {
	a, err := h.accepted()
	return a.Volumes[volumeName(left)], err
}
