package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Apply grows the data disk, under a running guest too, and writes the
// generation down last: one that is written was applied.
func (p *Provider) Apply(ctx context.Context, change providers.Change) (providers.Machine, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Machine{}, err
	}
	m, ok := p.find(change.Machine)
	if !ok {
		return providers.Machine{}, sdk.NotFound(change.Machine)
	}
	quota := p.promise(c, m, change.DataBytes)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.promised.Store(m.record.DataBytes) }()
	if err := m.checkChange(change); err != nil {
		return providers.Machine{}, err
	}
	before := m.record
	if change.DataBytes > before.DataBytes {
		if quota != nil {
			return providers.Machine{}, quota
		}
		if err := m.growData(ctx, c, change.DataBytes); err != nil {
			return providers.Machine{}, failure(err, "growing the data disk")
		}
		m.record.DataBytes = change.DataBytes
	}
	m.record.Generation = change.Generation
	if m.record != before {
		if err := m.record.write(c.machineDir(change.Machine)); err != nil {
			m.record = before
			return providers.Machine{}, failure(err, "recording the generation")
		}
		p.changed(m.record)
	}
	return m.observe(c), nil
}

// checkChange refuses what cannot be done, or not now. The caller holds m.mu.
func (m *machine) checkChange(change providers.Change) error {
	r := m.record
	if r.Deleting {
		return providers.Errorf(providers.CodeAborted, "machine %s is being deleted", r.Machine)
	}
	if err := sdk.CheckChange(providers.Machine{Generation: r.Generation}, r.DataBytes, change); err != nil {
		return err
	}
	switch {
	case change.DataBytes == 0 || change.DataBytes == r.DataBytes:
		return nil
	case change.DataBytes > maxDataBytes || change.DataBytes%sectorBytes != 0:
		return providers.Errorf(providers.CodeInvalid, "data_bytes is %d, want a multiple of %d up to %d", change.DataBytes, sectorBytes, maxDataBytes)
	case m.task != nil:
		return providers.Errorf(providers.CodeAborted, "machine %s is busy: %s", r.Machine, m.task.doing)
	}
	return nil
}

// growData makes the disk larger: by QEMU where it runs, which tells the
// guest. The caller holds m.mu.
func (m *machine) growData(ctx context.Context, c *config, bytes int64) error {
	if m.alive() {
		monitor, err := qmp.Dial(ctx, c.socket(m.record.Machine))
		if err != nil {
			return err
		}
		err = monitor.Call(ctx, "block_resize", map[string]any{"device": board.DataDrive, "size": bytes}, nil)
		return errors.Join(err, monitor.Close())
	}
	path := filepath.Join(c.machineDir(m.record.Machine), dataFile)
	there, err := exists(path)
	if err != nil || !there {
		// It is made as large as the record will say.
		return err
	}
	return os.Truncate(path, bytes)
}

// AttachData writes down whose disk the machine gets, and moves it there.
func (p *Provider) AttachData(_ context.Context, machine, from providers.MachineID) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("from", from); err != nil {
		return err
	}
	m, ok := p.find(machine)
	if !ok {
		return sdk.NotFound(machine)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.DataFrom == from {
		return failure(c.takeKept(m.record), "attaching the disk that was kept")
	}
	kept, err := m.checkAttach(c, from)
	if err != nil {
		return err
	}
	before := m.record
	m.record.DataFrom, m.record.DataBytes = from, kept.DataBytes
	m.promised.Store(kept.DataBytes)
	if err := m.record.write(c.machineDir(machine)); err != nil {
		m.record = before
		return failure(err, "recording whose disk it gets")
	}
	return failure(c.takeKept(m.record), "attaching the disk that was kept")
}

// checkAttach answers the record of the machine that the kept disk is of, or
// why it cannot be attached. The caller holds m.mu.
func (m *machine) checkAttach(c *config, from providers.MachineID) (record, error) {
	r := m.record
	kept, err := c.readKept(from)
	if err != nil {
		return kept, err
	}
	data := filepath.Join(c.machineDir(r.Machine), dataFile)
	blank, err := isBlank(data)
	switch {
	case err != nil:
		return kept, failure(err, "looking at the machine's own disk")
	case kept.Installation != r.Installation:
		return kept, providers.Errorf(providers.CodeConflict, "the disk of machine %s belongs to another installation", from)
	case r.Deleting:
		return kept, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", r.Machine)
	case m.task != nil:
		return kept, providers.Errorf(providers.CodeAborted, "machine %s is busy: %s", r.Machine, m.task.doing)
	case r.On || m.alive():
		return kept, providers.Errorf(providers.CodeConflict, "machine %s is on", r.Machine)
	case r.DataFrom != "" || !blank:
		return kept, providers.Errorf(providers.CodeConflict, "the disk of machine %s has been used", r.Machine)
	}
	return kept, nil
}

// readKept is CodeNotFound where no disk is kept of the machine.
func (c *config) readKept(from providers.MachineID) (record, error) {
	dir := c.path(keptDir, string(from))
	there, err := exists(filepath.Join(dir, dataFile))
	if err != nil {
		return record{}, failure(err, "looking for a kept data disk")
	}
	if !there {
		return record{}, providers.Errorf(providers.CodeNotFound, "no data disk is kept of machine %s", from)
	}
	kept, err := readRecord(dir)
	return kept, failure(err, "reading whose the kept disk is")
}

// takeKept moves the disk that the record names, unless that was done.
func (c *config) takeKept(r record) error {
	if r.DataFrom == "" {
		return nil
	}
	kept := c.path(keptDir, string(r.DataFrom))
	source := filepath.Join(kept, dataFile)
	there, err := exists(source)
	if err != nil {
		return err
	}
	if there {
		dir := c.machineDir(r.Machine)
		if err := os.Rename(source, filepath.Join(dir, dataFile)); err != nil {
			return err
		}
		if err := statefile.SyncDir(dir); err != nil {
			return err
		}
	}
	return c.discard(kept)
}

// isBlank reports whether nothing was ever written to a disk; one that is not
// made yet is.
func isBlank(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, err = unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for data in %s: %w", path, err)
	}
	return false, nil
}
