package toolshed

import (
	"context"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/backup"
	"github.com/toolshed-cloud/shed/toolshed/mount"
)

// registerBackup comes after every API was opened: all of them are backed up.
func (r *Root) registerBackup() {
	source := backup.Source{Dir: r.Data.Path(""), Databases: r.databases, Folders: r.folders, Now: r.Now}
	restart := r.Restart
	if restart == nil {
		restart = func() {}
	}
	backup.Register(r.mount("backup", backup.Limits), &backup.API{Source: source, Fresh: r.fresh, Seal: r.seal.close, Restart: restart, Log: r.Log})
}

// fresh says why nothing may be restored here: what an API keeps would be lost.
func (r *Root) fresh(ctx context.Context) error {
	for _, m := range r.mounts {
		if err := keepsNothing(ctx, m); err != nil {
			return err
		}
	}
	crons, err := r.queue.Crons(ctx)
	if err != nil {
		return fmt.Errorf("asking queue what it keeps: %w", err)
	}
	if len(crons) > 0 {
		return fmt.Errorf("%w: queue has %d schedules", backup.ErrNotFresh, len(crons))
	}
	uploads, err := r.blobs.Pending(ctx)
	if err != nil {
		return fmt.Errorf("asking blobs what it keeps: %w", err)
	}
	if uploads > 0 {
		return fmt.Errorf("%w: blobs has %d uploads that have not ended", backup.ErrNotFresh, uploads)
	}
	return nil
}

func keepsNothing(ctx context.Context, m *mount.Mount) error {
	reporter := m.Reporter()
	if reporter == nil {
		return nil
	}
	u, err := reporter.Usage(ctx)
	if err != nil {
		return fmt.Errorf("asking %s what it keeps: %w", m.Name, err)
	}
	if u.Count > 0 {
		return fmt.Errorf("%w: %s has %d %s", backup.ErrNotFresh, m.Name, u.Count, u.Of)
	}
	return nil
}
