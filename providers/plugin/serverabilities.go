package plugin

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

func lacks(c providers.Capability) *providers.Error {
	return providers.Errorf(providers.CodeUnimplemented, "this provider has not the capability %s", c)
}

// chunkBytes is how much of a console one message carries.
const chunkBytes = 32 << 10

func (s *server) Console(r *pb.ConsoleRequest, stream grpc.ServerStreamingServer[pb.ConsoleChunk]) error {
	consoler, ok := s.provider.(providers.Consoler)
	if !ok {
		return toStatus(lacks(providers.CapabilityConsole))
	}
	console, err := consoler.Console(stream.Context(), providers.MachineID(r.GetMachine()), r.GetFollow())
	if err != nil {
		return toStatus(err)
	}
	defer console.Close()
	if err := stream.Send(&pb.ConsoleChunk{}); err != nil {
		return err
	}
	for {
		// Send keeps the message for as long as it likes: each has its own
		// buffer.
		b := make([]byte, chunkBytes)
		n, err := console.Read(b)
		if n > 0 {
			if err := stream.Send(&pb.ConsoleChunk{Data: b[:n]}); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return toStatus(err)
		}
	}
}

func (s *server) Snapshot(ctx context.Context, r *pb.SnapshotRequest) (*pb.SnapshotResponse, error) {
	snapshotter, ok := s.provider.(providers.Snapshotter)
	if !ok {
		return nil, toStatus(lacks(providers.CapabilitySnapshot))
	}
	made, err := snapshotter.Snapshot(ctx, providers.MachineID(r.GetMachine()), providers.SnapshotID(r.GetSnapshot()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.SnapshotResponse{
		Snapshot: string(made.ID), Machine: string(made.Machine), Bytes: made.Bytes,
		CreatedAt: timeToPB(made.CreatedAt), Complete: made.Complete,
	}, nil
}

func (s *server) Restore(ctx context.Context, r *pb.RestoreRequest) (*pb.RestoreResponse, error) {
	snapshotter, ok := s.provider.(providers.Snapshotter)
	if !ok {
		return nil, toStatus(lacks(providers.CapabilitySnapshot))
	}
	if err := snapshotter.Restore(ctx, providers.MachineID(r.GetMachine()), providers.SnapshotID(r.GetSnapshot())); err != nil {
		return nil, toStatus(err)
	}
	return &pb.RestoreResponse{}, nil
}

func (s *server) DeleteSnapshot(ctx context.Context, r *pb.DeleteSnapshotRequest) (*pb.DeleteSnapshotResponse, error) {
	snapshotter, ok := s.provider.(providers.Snapshotter)
	if !ok {
		return nil, toStatus(lacks(providers.CapabilitySnapshot))
	}
	if err := snapshotter.DeleteSnapshot(ctx, providers.SnapshotID(r.GetSnapshot())); err != nil {
		return nil, toStatus(err)
	}
	return &pb.DeleteSnapshotResponse{}, nil
}

func (s *server) AttachData(ctx context.Context, r *pb.AttachDataRequest) (*pb.AttachDataResponse, error) {
	attacher, ok := s.provider.(providers.DataAttacher)
	if !ok {
		return nil, toStatus(lacks(providers.CapabilityAttachData))
	}
	if err := attacher.AttachData(ctx, providers.MachineID(r.GetMachine()), providers.MachineID(r.GetFrom())); err != nil {
		return nil, toStatus(err)
	}
	return &pb.AttachDataResponse{}, nil
}

func (s *server) EndorsementKey(ctx context.Context, r *pb.EndorsementKeyRequest) (*pb.EndorsementKeyResponse, error) {
	endorser, ok := s.provider.(providers.Endorser)
	if !ok {
		return nil, toStatus(lacks(providers.CapabilityEndorse))
	}
	key, err := endorser.EndorsementKey(ctx, providers.MachineID(r.GetMachine()))
	if err != nil {
		return nil, toStatus(err)
	}
	return &pb.EndorsementKeyResponse{Key: key}, nil
}

// Watch ends with the stream: a hint that cannot be sent is not missed by
// anybody.
func (s *server) Watch(r *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.Hint]) error {
	watcher, ok := s.provider.(providers.Watcher)
	if !ok {
		return toStatus(lacks(providers.CapabilityWatch))
	}
	if err := stream.Send(&pb.Hint{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	return toStatus(watcher.Watch(ctx, providers.InstallationID(r.GetInstallation()), func(id providers.MachineID) {
		if err := stream.Send(&pb.Hint{Machine: string(id)}); err != nil {
			cancel()
		}
	}))
}
