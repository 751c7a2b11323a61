package plugin

import "google.golang.org/grpc"

const (
	// maxMessageBytes caps a message in either direction.
	maxMessageBytes = 4 << 20
	// windowBytes is how much one side may send before the other has read it.
	// A fixed one saves the pings that measure a network's delay, of which a
	// socket on one host has none.
	windowBytes = 1 << 20
	// streamWorkers wait for calls, so that none starts on a stack that has
	// to grow first; when all are busy, calls get a goroutine each.
	streamWorkers = 8
)

// serverOptions are those of a plugin's end (decision 0072).
func serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.StaticStreamWindowSize(windowBytes), grpc.StaticConnWindowSize(windowBytes),
		grpc.NumStreamWorkers(streamWorkers),
	}
}

// dialOptions are those of the host's end.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithStaticStreamWindowSize(windowBytes), grpc.WithStaticConnWindowSize(windowBytes),
	}
}
