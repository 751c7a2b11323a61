package plugin

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

func (c *client) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.wire.Console(ctx, &pb.ConsoleRequest{Machine: string(id), Follow: follow})
	if err != nil {
		cancel()
		return nil, fromStatus(err, providers.CodeUnavailable)
	}
	// The first message, which may be empty, says that there is a console at
	// all: a refusal must be the call's own error, not a read's.
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, fromStatus(err, providers.CodeUnavailable)
	}
	r := &consoleReader{stream: stream, cancel: cancel, rest: first.GetData()}
	if err != nil {
		r.ended = io.EOF
	}
	return r, nil
}

// consoleReader turns the stream's messages into bytes.
type consoleReader struct {
	stream grpc.ServerStreamingClient[pb.ConsoleChunk]
	cancel context.CancelFunc
	rest   []byte
	ended  error
}

func (r *consoleReader) fill() error {
	for r.ended == nil && len(r.rest) == 0 {
		chunk, err := r.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			r.ended = io.EOF
		case err != nil:
			r.ended = fromStatus(err, providers.CodeUnavailable)
		default:
			r.rest = chunk.GetData()
		}
	}
	return r.ended
}

func (r *consoleReader) Read(b []byte) (int, error) {
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *consoleReader) Close() error {
	r.cancel()
	return nil
}

func (c *client) Snapshot(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) (providers.Snapshot, error) {
	r, err := c.wire.Snapshot(ctx, &pb.SnapshotRequest{Machine: string(machine), Snapshot: string(id)})
	if err != nil {
		return providers.Snapshot{}, fromStatus(err, providers.CodeUnavailable)
	}
	created, err := timeFromPB("created_at", r.GetCreatedAt())
	if err != nil {
		return providers.Snapshot{}, unreadable(err)
	}
	return providers.Snapshot{
		ID: providers.SnapshotID(r.GetSnapshot()), Machine: providers.MachineID(r.GetMachine()),
		Bytes: r.GetBytes(), CreatedAt: created, Complete: r.GetComplete(),
	}, nil
}

func (c *client) Restore(ctx context.Context, machine providers.MachineID, id providers.SnapshotID) error {
	_, err := c.wire.Restore(ctx, &pb.RestoreRequest{Machine: string(machine), Snapshot: string(id)})
	return fromStatus(err, providers.CodeUnavailable)
}

func (c *client) DeleteSnapshot(ctx context.Context, id providers.SnapshotID) error {
	_, err := c.wire.DeleteSnapshot(ctx, &pb.DeleteSnapshotRequest{Snapshot: string(id)})
	return fromStatus(err, providers.CodeUnavailable)
}

func (c *client) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	_, err := c.wire.AttachData(ctx, &pb.AttachDataRequest{Machine: string(machine), From: string(from)})
	return fromStatus(err, providers.CodeUnavailable)
}

func (c *client) EndorsementKey(ctx context.Context, id providers.MachineID) ([]byte, error) {
	r, err := c.wire.EndorsementKey(ctx, &pb.EndorsementKeyRequest{Machine: string(id)})
	if err != nil {
		return nil, fromStatus(err, providers.CodeUnavailable)
	}
	return r.GetKey(), nil
}

func (c *client) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	stream, err := c.wire.Watch(ctx, &pb.WatchRequest{Installation: string(installation)})
	if err != nil {
		return fromStatus(err, providers.CodeUnavailable)
	}
	for {
		hint, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fromStatus(err, providers.CodeUnavailable)
		}
		if m := providers.MachineID(hint.GetMachine()); m != "" {
			changed(m)
		}
	}
}
