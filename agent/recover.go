package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// await finds out whether the disk holds a volume that waits for its owner:
// any on an unclaimed machine, else the claim's own, or one where the claim has
// none yet.
func (m *Machine) await(s seal.State) {
	left, err := m.volume.Left()
	if err != nil {
		m.log.Error("the data disk says nothing of itself", zap.Error(err))
		return
	}
	waits := left != nil && (s.Volume == (seal.VolumeID{}) || s.Volume == left.Volume)
	if waits {
		m.log.Warn("the data disk waits for its owner's key", zap.Stringer("volume", left.Volume))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.awaiting = waits
}

// Awaiting says that there is data which only its owner's key opens.
func (m *Machine) Awaiting() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.awaiting
}

// Left implements ingress.Machine.
func (m *Machine) Left() (*seal.Left, error) { return m.volume.Left() }

// Recover implements ingress.Machine: design promise 13. A key that is not the
// volume's changes nothing; from the claim on, what a crash leaves is a machine
// of the owner's that waits for the key once more.
func (m *Machine) Recover(ctx context.Context, c *ownership.Claim, id seal.VolumeID, key []byte) error {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	if !m.Awaiting() {
		return seal.ErrNothingLeft
	}
	if err := m.volume.CheckKey(id, key); err != nil {
		return err
	}
	if m.Owner() == nil {
		if err := m.claimAwaiting(c); err != nil {
			return err
		}
	}
	// From here on the client's patience no longer counts.
	err := m.takeOver(context.WithoutCancel(ctx), id, key)
	if err != nil {
		m.log.Error("the data could not be taken over", zap.Error(err))
	}
	return err
}

// claimAwaiting makes c the claim of a machine whose disk is not blank.
func (m *Machine) claimAwaiting(c *ownership.Claim) error {
	if c == nil {
		return fmt.Errorf("%w: the machine has no owner yet, and no claim came with the key", attest.ErrClaim)
	}
	if !bytes.Equal(c.Body.AKName, m.tpm.AKName()) {
		return fmt.Errorf("%w: it was made for another machine", attest.ErrClaim)
	}
	err := m.commit(c)
	if errors.Is(err, seal.ErrClaimed) {
		// One of this boot that was not followed through.
		state, err := seal.Load(m.tpm)
		if err != nil {
			return err
		}
		return errors.Join(m.hold(state.Claim), seal.ErrClaimed)
	}
	return err
}

func (m *Machine) takeOver(ctx context.Context, id seal.VolumeID, key []byte) error {
	state, err := seal.Load(m.tpm)
	if err != nil {
		return err
	}
	// A try before this one may have come as far as the mapping.
	if err := m.Close(); err != nil {
		return err
	}
	path, err := m.volume.Adopt(state, id, key)
	if err != nil {
		return err
	}
	if err := m.startOn(path); err != nil {
		return err
	}
	m.mu.Lock()
	m.awaiting = false
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, mountWait)
	defer cancel()
	return m.payload.WaitHealthy(ctx)
}
