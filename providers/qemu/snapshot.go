package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const snapshotFile = "snapshot.json"

// snapshotRecord stands in a snapshot's directory from before the copy begins.
type snapshotRecord struct {
	Snapshot     providers.SnapshotID     `json:"snapshot"`
	Machine      providers.MachineID      `json:"machine"`
	Installation providers.InstallationID `json:"installation"`
	Bytes        int64                    `json:"bytes"`
	CreatedAt    time.Time                `json:"created_at"`
	// Complete is written once the copy is on the disk.
	Complete bool `json:"complete"`
}

func (s snapshotRecord) observe() providers.Snapshot {
	return providers.Snapshot{ID: s.Snapshot, Machine: s.Machine, Bytes: s.Bytes, CreatedAt: s.CreatedAt, Complete: s.Complete}
}

func (s snapshotRecord) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, snapshotFile), 0o600, append(b, '\n'))
}

// readSnapshot answers nil where there is none.
func (c *config) readSnapshot(id string) (*snapshotRecord, error) {
	b, err := os.ReadFile(c.path(snapshotDir, id, snapshotFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no snapshot is an answer
	}
	if err != nil {
		return nil, err
	}
	var s snapshotRecord
	if err := strictjson.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("reading the record of snapshot %s: %w", id, err)
	}
	return &s, nil
}

// Snapshot copies the disk while the guest runs, as a power cut would have
// left it: QEMU copies what is about to be overwritten first. A copy that a
// crash cut short begins anew.
func (p *Provider) Snapshot(_ context.Context, machine providers.MachineID, id providers.SnapshotID) (providers.Snapshot, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Snapshot{}, err
	}
	if err := sdk.CheckID("snapshot", id); err != nil {
		return providers.Snapshot{}, err
	}
	known, err := c.readSnapshot(string(id))
	switch {
	case err != nil:
		return providers.Snapshot{}, failure(err, "looking for the snapshot")
	case known != nil && known.Machine != machine:
		return providers.Snapshot{}, providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
	case known != nil && known.Complete:
		return known.observe(), nil
	}
	m, ok := p.find(machine)
	if !ok {
		return providers.Snapshot{}, sdk.NotFound(machine)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.record.Deleting:
		return providers.Snapshot{}, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", machine)
	case known != nil && m.task != nil && m.task.doing == copying+string(id):
		return known.observe(), nil
	case m.task != nil:
		return providers.Snapshot{}, providers.Errorf(providers.CodeAborted, "machine %s is busy: %s", machine, m.task.doing)
	}
	s := snapshotRecord{
		Snapshot: id, Machine: machine, Installation: m.record.Installation,
		Bytes: m.record.DataBytes, CreatedAt: p.opts.Now().UTC(),
	}
	if err := c.acceptSnapshot(s); err != nil {
		return providers.Snapshot{}, failure(err, "making the snapshot's directory")
	}
	p.beginSnapshot(c, m, s)
	return s.observe(), nil
}

// copying begins what a machine that is being copied says it is doing.
const copying = "copying the data disk to snapshot "

func (c *config) acceptSnapshot(s snapshotRecord) error {
	dir := c.path(snapshotDir, string(s.Snapshot))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := removeFile(filepath.Join(dir, dataFile)); err != nil {
		return err
	}
	if err := s.write(dir); err != nil {
		return err
	}
	return statefile.SyncDir(c.path(snapshotDir))
}

// beginSnapshot copies in the background. The caller holds m.mu.
func (p *Provider) beginSnapshot(c *config, m *machine, s snapshotRecord) {
	alive := m.alive()
	p.beginTask(c, m, &task{doing: copying + string(s.Snapshot), aside: true}, func(ctx context.Context) error {
		dir := c.path(snapshotDir, string(s.Snapshot))
		target := filepath.Join(dir, dataFile)
		var err error
		if alive {
			err = c.copyRunning(ctx, s.Machine, target)
		} else {
			err = copySparse(ctx, filepath.Join(c.machineDir(s.Machine), dataFile), target)
		}
		if err != nil {
			return err
		}
		s.Complete = true
		return s.write(dir)
	})
}

// copyRunning has QEMU copy the disk and waits for the end of that.
func (c *config) copyRunning(ctx context.Context, machine providers.MachineID, target string) (err error) {
	monitor, err := qmp.Dial(ctx, c.socket(machine))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, monitor.Close()) }()
	const job = "snapshot"
	// One that an earlier plugin began writes to a file that is gone.
	_ = monitor.Call(ctx, "block-job-cancel", map[string]any{"device": job, "force": true}, nil)
	if err := awaitJob(ctx, monitor, job); err != nil && !errors.Is(err, errJob) {
		return err
	}
	if err := monitor.Call(ctx, "drive-backup", map[string]any{
		"job-id": job, "device": board.DataDrive, "sync": "full", "target": target, "format": "raw", "auto-dismiss": false,
	}, nil); err != nil {
		return err
	}
	if err := awaitJob(ctx, monitor, job); err != nil {
		return err
	}
	f, err := os.Open(target)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// errJob says that QEMU's own job failed.
var errJob = errors.New("copying failed")

// jobPoll is how often a job is asked after.
const jobPoll = 50 * time.Millisecond

// awaitJob waits for a job's end and dismisses it. A job that is not there has
// ended.
func awaitJob(ctx context.Context, monitor *qmp.Conn, job string) error {
	tick := time.NewTicker(jobPoll)
	defer tick.Stop()
	for {
		var jobs []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
			Error  string `json:"error"`
		}
		if err := monitor.Call(ctx, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		here := false
		for _, j := range jobs {
			if j.ID != job {
				continue
			}
			here = true
			if j.Status != "concluded" {
				continue
			}
			err := monitor.Call(ctx, "job-dismiss", map[string]any{"id": job}, nil)
			if j.Error != "" {
				err = errors.Join(fmt.Errorf("%w: %s", errJob, j.Error), err)
			}
			return err
		}
		if !here {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Restore puts a snapshot's contents in the place of the machine's data disk,
// as a whole.
func (p *Provider) Restore(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("snapshot", id); err != nil {
		return err
	}
	m, ok := p.find(machine)
	if !ok {
		return sdk.NotFound(machine)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := c.readSnapshot(string(id))
	switch {
	case err != nil:
		return failure(err, "looking for the snapshot")
	case s == nil:
		return providers.Errorf(providers.CodeNotFound, "snapshot %s is not here", id)
	case s.Machine != machine:
		return providers.Errorf(providers.CodeConflict, "snapshot %s is of another machine", id)
	case !s.Complete:
		return providers.Errorf(providers.CodeConflict, "snapshot %s is not complete", id)
	case m.task != nil:
		return providers.Errorf(providers.CodeAborted, "machine %s is busy: %s", machine, m.task.doing)
	case m.record.On || m.alive():
		return providers.Errorf(providers.CodeConflict, "machine %s is on", machine)
	}
	return failure(c.restore(ctx, m.record, *s), "restoring the data disk")
}

func (c *config) restore(ctx context.Context, r record, s snapshotRecord) (err error) {
	fresh, err := os.MkdirTemp(c.path(tempDir), "restored-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	copied := filepath.Join(fresh, dataFile)
	if err := copySparse(ctx, c.path(snapshotDir, string(s.Snapshot), dataFile), copied); err != nil {
		return err
	}
	// The disk may have grown since, and never shrinks.
	if r.DataBytes > s.Bytes {
		if err := os.Truncate(copied, r.DataBytes); err != nil {
			return err
		}
	}
	dir := c.machineDir(r.Machine)
	if err := os.Rename(copied, filepath.Join(dir, dataFile)); err != nil {
		return err
	}
	return statefile.SyncDir(dir)
}

// DeleteSnapshot removes one as a whole. A copy under way has nowhere to go,
// and its task says so.
func (p *Provider) DeleteSnapshot(_ context.Context, id providers.SnapshotID) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("snapshot", id); err != nil {
		return err
	}
	return failure(c.discard(c.path(snapshotDir, string(id))), "deleting the snapshot")
}

func (c *config) listSnapshots(installation providers.InstallationID) ([]providers.Resource, error) {
	entries, err := os.ReadDir(c.path(snapshotDir))
	if err != nil {
		return nil, err
	}
	var out []providers.Resource
	for _, entry := range entries {
		s, err := c.readSnapshot(entry.Name())
		if err != nil {
			return nil, err
		}
		if s == nil || s.Installation != installation {
			continue
		}
		out = append(out, providers.Resource{
			Kind: providers.ResourceSnapshot, ID: string(s.Snapshot), Machine: s.Machine,
			Bytes: usedBytes(c.path(snapshotDir, entry.Name(), dataFile)),
		})
	}
	return out, nil
}
