package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// handshake tells a plugin that it was started by a host that speaks its
// contract. It protects people from running one by hand, nothing else.
var handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  providers.ContractVersion,
	MagicCookieKey:   "SHED_PROVIDER_PLUGIN",
	MagicCookieValue: "8d1b7b0ac2f54f6a9a0d3b6e3f1c5d27",
}

// dispensed is the one thing a plugin offers.
const dispensed = "provider"

// lifelineEnv names the descriptor of a socket whose other end the host holds:
// whichever process dies, the other reads the end of the stream.
const lifelineEnv = "SHED_PROVIDER_LIFELINE"

// tempPrefix begins the name of a plugin's temporary directory.
const tempPrefix = "shed-plugin-"

// lastBreath is how long a plugin whose host is gone may take to stop.
const lastBreath = 3 * time.Second

// bridge joins the contract to go-plugin.
type bridge struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

var _ goplugin.GRPCPlugin = (*bridge)(nil)

func (b *bridge) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	pb.RegisterProviderServer(s, b.server)
	return nil
}

func (*bridge) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return newClient(conn), nil
}

// Serve answers calls for p until the host says stop or is gone, then closes
// p. It is all that a plugin's main does. Errors are those of closing p, and
// of a start that no host made.
func Serve(p providers.Provider) error {
	grpcServer := make(chan *grpc.Server, 1)
	if err := watchHost(grpcServer); err != nil {
		return err
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshake,
		Plugins:         goplugin.PluginSet{dispensed: &bridge{server: &server{provider: p, width: newWidth()}}},
		Logger:          hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true}),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			s := grpc.NewServer(append(opts, serverOptions()...)...)
			grpcServer <- s
			return s
		},
	})
	if err := p.Close(); err != nil {
		return fmt.Errorf("closing the provider: %w", err)
	}
	return removeTemp()
}

// removeTemp removes the temporary directory that the host made for this
// process alone, since a host that was killed does not.
func removeTemp() error {
	dir := os.Getenv("TMPDIR")
	if os.Getenv(lifelineEnv) == "" || !strings.HasPrefix(filepath.Base(dir), tempPrefix) {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing the temporary directory: %w", err)
	}
	return nil
}

// watchHost stops the server when the lifeline ends. A plugin started by hand
// has none: go-plugin tells that person so.
func watchHost(server <-chan *grpc.Server) error {
	value := os.Getenv(lifelineEnv)
	if value == "" {
		return nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return fmt.Errorf("%s=%q is not a descriptor", lifelineEnv, value)
	}
	// What the plugin starts outlives it: with this end of the lifeline in
	// its hands the host would believe that the plugin lives.
	unix.CloseOnExec(fd)
	lifeline := os.NewFile(uintptr(fd), "lifeline")
	go func() {
		_, _ = io.Copy(io.Discard, lifeline)
		time.AfterFunc(lastBreath, func() { os.Exit(1) })
		(<-server).Stop()
	}()
	return nil
}

// Logger writes what the host's own log understands, to standard error.
func Logger() *zap.Logger {
	config := zapcore.EncoderConfig{
		MessageKey:  "@message",
		LevelKey:    "@level",
		TimeKey:     "@timestamp",
		NameKey:     "@module",
		EncodeLevel: zapcore.LowercaseLevelEncoder,
		// go-plugin reads times in this layout only.
		EncodeTime:     zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000000Z07:00"),
		EncodeDuration: zapcore.StringDurationEncoder,
	}
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), zapcore.Lock(os.Stderr), zapcore.InfoLevel))
}

// errNoDispense says that the plugin offers something else than a provider.
var errNoDispense = errors.New("plugin does not offer a provider")
