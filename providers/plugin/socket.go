package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// ServeSocket answers the contract's calls on a listener until ctx ends. It is
// for fake clouds: nobody proves who they are, so the listener is to be one
// that only their own user reaches. Errors are the listener's.
func ServeSocket(ctx context.Context, l net.Listener, p providers.Provider) error {
	s := grpc.NewServer(serverOptions()...)
	pb.RegisterProviderServer(s, &server{provider: p})
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	if err := s.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving the contract: %w", err)
	}
	return nil
}

// Socket is a provider that ServeSocket answers for.
type Socket struct {
	*client
	conn *grpc.ClientConn
}

var (
	_ providers.Provider     = (*Socket)(nil)
	_ providers.Consoler     = (*Socket)(nil)
	_ providers.Snapshotter  = (*Socket)(nil)
	_ providers.DataAttacher = (*Socket)(nil)
	_ providers.Watcher      = (*Socket)(nil)
	_ providers.Endorser     = (*Socket)(nil)
)

// Dial answers the provider at the other end of what dial connects to, which it
// does with the first call, and anew where a connection was lost: so its errors
// are the calls'.
func Dial(dial func(context.Context) (net.Conn, error)) (*Socket, error) {
	conn, err := grpc.NewClient("passthrough:", append(dialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))...)
	if err != nil {
		return nil, fmt.Errorf("preparing to dial: %w", err)
	}
	return &Socket{client: newClient(conn), conn: conn}, nil
}

// Redial tries at once where a connection could not be had.
func (s *Socket) Redial() { s.conn.ResetConnectBackoff() }

// Close ends the connection.
func (s *Socket) Close() error { return s.conn.Close() }
