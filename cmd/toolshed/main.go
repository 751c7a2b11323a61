// Command toolshed serves the personal API on a Unix socket. Invariant: it is
// wiring, and takes two settings from its environment: SHED_SOCKET, where to
// listen, and SHED_DATA, the directory for its data.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv("SHED_SOCKET"), os.Getenv("SHED_DATA"))
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "toolshed: %v\n", err)
		os.Exit(1)
	}
}

// newLog writes JSON lines to standard error.
func newLog() *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), os.Stderr, zap.InfoLevel))
}

func run(ctx context.Context, socket, data string) error {
	if socket == "" || data == "" {
		return errors.New("SHED_SOCKET and SHED_DATA must be set")
	}
	log := newLog()
	dir, err := store.OpenDirectory(data)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // every answered write is on disk already
	db, err := dir.Open(ctx, kv.Schema)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // as above
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{Handler: toolshed.Handler(kv.New(db, time.Now), log), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		server.Shutdown(grace) //nolint:errcheck // what is still open then is cut
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
