package agent

import (
	"context"
	"errors"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/enrol"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// here is this machine as a release finds it.
func (m *Machine) here() (update.Here, error) {
	h := update.Here{Architecture: runtime.GOARCH, Epoch: m.volume.Epoch, Firmware: m.volume.Firmware}
	sealed := attest.SealedRegisters(h.Firmware)
	values, err := m.tpm.Registers(sealed...)
	if err != nil {
		return h, err
	}
	for i, n := range sealed {
		h.Registers[n] = values[i]
	}
	return h, nil
}

// vouching is what the control plane says vouches for this release.
func (m *Machine) vouching() api.UpdateRelease {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := m.referenceValues
	return api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle, Proof: r.Proof}
}

// predecessor is the release that may hand over to this one under the owner's
// standing policy.
func (m *Machine) predecessor(c *ownership.Claim) (from []attest.Digest, epoch uint64, err error) {
	h, err := m.here()
	if err != nil {
		return nil, 0, err
	}
	if h.SecureBoot, err = m.firmware.SecureBoot(); err != nil {
		return nil, 0, err
	}
	return m.slots.Predecessor(c, h, time.Now())
}

// use is what the data is mounted for: the volume says which release has opened it,
// and whether that was healthy on trial. The firmware's word is its host's.
func (m *Machine) use() boot.Use {
	handing, taking := m.volume.HandingOver()
	switch {
	case !handing:
		return boot.UseSettled
	case !taking:
		return boot.UseRestored
	case m.volume.Passed():
		return boot.UseKept
	}
	return boot.UseTrial
}

// goOn takes an update on from where this boot finds it, once the data is mounted.
func (m *Machine) goOn(use boot.Use) error {
	m.updates.Load()
	switch use {
	case boot.UseTrial:
		m.updates.Trying()
		return m.firmware.Forget()
	case boot.UseRestored:
		m.log.Warn("the next release did not hold: this one goes on")
		m.updates.FellBack()
	case boot.UseKept:
		m.updates.Done()
	default:
		m.updates.Settled()
		return nil
	}
	if err := m.volume.Keep(); err != nil {
		return err
	}
	return errors.Join(m.data.Tidy(), m.firmware.Forget())
}

// WasTried says, of a boot in which the data stayed closed, that it may be for a
// release that was tried: this one, or one that the firmware found no way to start
// and has left a trace of in a register. It is so once.
func WasTried(f Firmware, log *zap.Logger) bool {
	asked, err := f.Asked()
	if err != nil {
		log.Warn("the firmware does not say what it was to start", zap.Error(err))
	}
	if !asked {
		return false
	}
	if err := f.Forget(); err != nil {
		log.Warn("the firmware may start it once more", zap.Error(err))
		return false
	}
	return true
}

// Trying implements ingress.Machine: what is done on trial may be undone.
func (m *Machine) Trying() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.trying
}

func (m *Machine) setTrying(trying bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trying = trying
}

// try waits until this release, which is on trial, is healthy, and keeps it. One that
// is not in time gives everything back. The error is update.ErrRestart then, or ctx's,
// which says nothing of the release.
func (m *Machine) try(ctx context.Context) error {
	reason := m.tried(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if reason != "" {
		m.log.Error("this release is not kept", zap.String("reason", string(reason)))
		m.updates.Failing(reason)
		return update.ErrRestart
	}
	if err := m.keep(); err != nil {
		m.log.Error("this release could not be kept", zap.Error(err))
		return update.ErrRestart
	}
	return nil
}

// settle has the TPM remember this release's epoch once it is healthy.
func (m *Machine) settle(ctx context.Context) {
	if m.payload.WaitHealthy(ctx) != nil {
		return
	}
	if resident, err := boot.Resident(); err == nil {
		m.log.Info("healthy", zap.Int64("resident_bytes", resident))
	}
	if err := m.volume.Settle(); err != nil && !errors.Is(err, seal.ErrNoHandover) {
		m.log.Warn("the floor of the epoch stays", zap.Error(err))
	}
}

// tried is why a trial fails; empty where it does not.
func (m *Machine) tried(ctx context.Context) api.UpdateReason {
	ctx, cancel := context.WithTimeout(ctx, m.trialWait)
	defer cancel()
	select {
	case accepted := <-m.verdicts:
		if !accepted {
			return api.ReasonNotEnrolled
		}
	case <-ctx.Done():
		return api.ReasonNotEnrolled
	}
	if err := m.payload.WaitSettled(ctx, maxTrialRestarts); err != nil {
		return api.ReasonUnhealthy
	}
	return ""
}

// maxTrialRestarts is how often a payload may end by itself before it is healthy.
const maxTrialRestarts = 4

// keep commits the trial: with the first step the machine starts with this release,
// and whatever a crash leaves after it, the next boot makes good.
func (m *Machine) keep() error {
	if err := m.volume.Pass(); err != nil {
		return err
	}
	if err := m.slots.Swap(); err != nil {
		m.updates.Failing(api.ReasonInstallFailed)
		return err
	}
	if err := m.data.KeepTrial(); err != nil {
		return err
	}
	// Before the header stops saying that there was a trial.
	m.updates.Done()
	if err := m.volume.Keep(); err != nil {
		return err
	}
	m.setTrying(false)
	if err := m.data.Tidy(); err != nil {
		m.log.Warn("the data of the release before is still there", zap.Error(err))
	}
	return nil
}

// FollowUpdates ends this release's trial, where it is on one, and then tries what the
// operator offers and the owner lets it, from source. It ends with
// update.ErrRestart, or ctx's error.
func (m *Machine) FollowUpdates(ctx context.Context, source update.Source) error {
	if m.Trying() {
		if err := m.try(ctx); err != nil {
			return err
		}
	} else {
		go m.settle(ctx)
	}
	m.updates.Source = source
	return m.updates.Run(ctx)
}

// Releases are those that the control plane offers.
func (m *Machine) Releases() update.Source {
	return &enrol.Source{Config: m.config, Certificate: m.certificate, SPKI: m.spki}
}

// ShownUpdate implements ingress.Machine.
func (m *Machine) ShownUpdate() (channel.Update, error) { return m.updates.Shown() }

// ApproveUpdate implements ingress.Machine.
func (m *Machine) ApproveUpdate(approval []byte) error { return m.updates.Approve(approval) }
