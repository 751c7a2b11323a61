package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Delete writes down that the machine is to go, and waits until it is gone.
// Once written down, the next plugin goes on with it.
func (p *Provider) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("machine", id); err != nil {
		return err
	}
	m, ok := p.find(id)
	if !ok {
		return failure(c.deleteLeftovers(ctx, id, keepData), "deleting what is left of machine "+string(id))
	}
	t, err := p.deletion(c, m, keepData)
	if err != nil {
		return err
	}
	if err := t.wait(ctx); err != nil {
		return failure(err, "deleting machine "+string(id))
	}
	return nil
}

// deletion answers the deletion under way, or begins one.
func (p *Provider) deletion(c *config, m *machine, keepData bool) (*task, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record
	if r.Deleting && r.KeepData != keepData {
		return nil, providers.Errorf(providers.CodeAborted, "machine %s is being deleted with keep_data=%t", r.Machine, r.KeepData)
	}
	if r.Deleting && m.task != nil {
		return m.task, nil
	}
	m.record.Deleting, m.record.KeepData = true, keepData
	if err := m.record.write(c.machineDir(r.Machine)); err != nil {
		m.record = r
		return nil, failure(err, "recording the deletion")
	}
	return p.beginDelete(c, m), nil
}

// beginDelete destroys the machine. The caller holds m.mu.
func (p *Provider) beginDelete(c *config, m *machine) *task {
	r := m.record
	return p.begin(c, m, "deleting", func(ctx context.Context) error {
		if err := m.endProcesses(ctx); err != nil {
			return err
		}
		if err := c.endStrays(ctx, r.Machine); err != nil {
			return err
		}
		if err := c.removeGroup(ctx, r.Machine); err != nil {
			return err
		}
		if r.KeepData {
			if err := c.keepData(r); err != nil {
				return fmt.Errorf("keeping the data disk: %w", err)
			}
		}
		if err := errors.Join(removeFile(c.socket(r.Machine)), c.discard(c.machineDir(r.Machine))); err != nil {
			return err
		}
		p.forget(r)
		return nil
	})
}

func (p *Provider) forget(r record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.machines[r.Machine]
	delete(p.machines, r.Machine)
	delete(p.ports, r.Port)
	delete(p.addresses, r.Address)
	if m != nil {
		m.letGo()
	}
}

// discard makes a directory disappear as a whole before it is taken apart.
func (c *config) discard(dir string) error {
	there, err := exists(dir)
	if err != nil || !there {
		return err
	}
	bin, err := os.MkdirTemp(c.path(tempDir), "discarded-")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(bin, filepath.Base(dir))); err != nil {
		return errors.Join(err, os.Remove(bin))
	}
	return errors.Join(statefile.SyncDir(filepath.Dir(dir)), os.RemoveAll(bin))
}

// keepData moves the data disk to where no deletion of a machine reaches, with
// the record that says whose it was. A machine that never got one leaves none.
func (c *config) keepData(r record) error {
	data := filepath.Join(c.machineDir(r.Machine), dataFile)
	there, err := exists(data)
	if err != nil || !there {
		return err
	}
	kept := c.path(keptDir, string(r.Machine))
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	if err := r.write(kept); err != nil {
		return err
	}
	if err := os.Rename(data, filepath.Join(kept, dataFile)); err != nil {
		return err
	}
	return errors.Join(statefile.SyncDir(kept), statefile.SyncDir(c.path(keptDir)))
}

// deleteLeftovers cleans what is left of a machine that is not there.
func (c *config) deleteLeftovers(ctx context.Context, id providers.MachineID, keepData bool) error {
	if err := c.endStrays(ctx, id); err != nil {
		return err
	}
	if err := errors.Join(c.removeGroup(ctx, id), removeFile(c.socket(id))); err != nil {
		return err
	}
	if keepData {
		return nil
	}
	return c.discard(c.path(keptDir, string(id)))
}

// endStrays ends processes of the machine that its record does not name.
func (c *config) endStrays(ctx context.Context, id providers.MachineID) error {
	running, err := c.scan()
	if err != nil {
		return err
	}
	for _, o := range running {
		if o.machine != id {
			continue
		}
		if err := endStray(ctx, o.id); err != nil {
			return err
		}
	}
	return nil
}

// endStray ends a process, if it is still there.
func endStray(ctx context.Context, id proc.ID) error {
	stray, err := proc.Open(id)
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(stray.End(ctx, stopPatience), stray.Close())
}
