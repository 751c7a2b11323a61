package plugin

import (
	"context"
	"io"

	"github.com/toolshed-cloud/shed/providers"
)

// Console has the plugin stream a machine's console.
func (s *Supervisor) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	p, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	return p.Console(ctx, id, follow)
}

// Snapshot has the plugin copy a data disk.
func (s *Supervisor) Snapshot(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) (providers.Snapshot, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Snapshot, error) { return p.Snapshot(ctx, machine, id) })
}

// Restore has the plugin put a data disk back.
func (s *Supervisor) Restore(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) { return done(p.Restore(ctx, machine, id)) })
	return err
}

// DeleteSnapshot has the plugin remove a snapshot.
func (s *Supervisor) DeleteSnapshot(ctx context.Context, id providers.SnapshotID) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) { return done(p.DeleteSnapshot(ctx, id)) })
	return err
}

// AttachData has the plugin give a machine a disk that was kept.
func (s *Supervisor) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) { return done(p.AttachData(ctx, machine, from)) })
	return err
}

// EndorsementKey has the plugin say which key a machine's TPM has.
func (s *Supervisor) EndorsementKey(ctx context.Context, id providers.MachineID) ([]byte, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) ([]byte, error) { return p.EndorsementKey(ctx, id) })
}

// Watch passes the plugin's hints on until ctx ends or the plugin does.
func (s *Supervisor) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	p, err := s.live(ctx)
	if err != nil {
		return err
	}
	return p.Watch(ctx, installation, changed)
}
