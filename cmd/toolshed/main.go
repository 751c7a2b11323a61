// Command toolshed serves the personal API, behind the agent or alone.
// Invariant: it is wiring; a setting comes from a flag, else from its variable,
// and what is secret is printed once, to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/backup"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/url2text"
)

// stopGrace is how long requests under way have at the end. The agent waits
// longer.
const stopGrace = 2 * time.Second

func main() {
	url2text.ParsePDFIfAsked()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	s, err := parse(os.Args[1:], os.LookupEnv, os.Stderr)
	if err == nil {
		err = run(ctx, s, os.Stdout)
	}
	stop()
	os.Exit(report(err))
}

// report says what went wrong, and answers the exit status.
func report(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "toolshed: %v\nhint: toolshed --help lists the settings\n", err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "toolshed: %v\n", err)
	return 1
}

// run serves until ctx ends, and once more with what was restored each time
// that a backup has arrived.
func run(ctx context.Context, s settings, out io.Writer) error {
	for {
		once, end := context.WithCancel(ctx)
		var again atomic.Bool
		address, err := open(once, s, out, func() {
			again.Store(true)
			end()
		})
		end()
		if err != nil || !again.Load() {
			return err
		}
		if s.socket == "" {
			// The same port, where any was asked for.
			s.listen = address
		}
	}
}

// open serves until ctx ends, and answers where.
func open(ctx context.Context, s settings, out io.Writer, restart func()) (address string, err error) {
	log := newLog()
	dir, err := store.OpenDirectory(s.data)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := backup.PutInPlace(dir.Path("")); err != nil {
		return "", err
	}
	file, err := config.Load(s.configPath(dir), s.config != "", os.LookupEnv)
	if err != nil {
		return "", err
	}
	root, err := toolshed.Open(ctx, toolshed.Options{Data: dir, Config: file, BehindAgent: s.socket != "", Machine: s.machine, Log: log, Restart: restart})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	listener, err := s.listenOn()
	if err != nil {
		return "", err
	}
	address = listener.Addr().String()
	if s.socket == "" {
		if err := welcome(ctx, out, root.Tokens(), listener.Addr(), s.newToken); err != nil {
			return address, errors.Join(err, listener.Close())
		}
	}
	// What starting took is given back: most of it is never needed again.
	debug.FreeOSMemory()
	return address, serve(ctx, listener, root)
}

// welcome prints where the toolshed is, and the owner's token where it is new.
func welcome(ctx context.Context, out io.Writer, tokens *auth.Keeper, address net.Addr, another bool) error {
	token, err := tokens.First(ctx)
	if err == nil && token == "" && another {
		token, _, err = tokens.Mint(ctx, "", "owner", auth.Scopes{auth.Everything}, time.Time{})
	}
	if err != nil {
		return err
	}
	url := "http://" + address.String()
	if token == "" {
		fmt.Fprintf(out, "toolshed is at %s\n", url)
		return nil
	}
	fmt.Fprintf(out, "toolshed is at %s\nyour token, which is not shown again: %s\nin a browser: %s/login#%s\n", url, token, url, token)
	return nil
}

// serve answers until ctx ends, and lets what is under way end.
func serve(ctx context.Context, listener net.Listener, root *toolshed.Root) error {
	server := &http.Server{
		Handler: root.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	// KV Connect wants both; Deno speaks HTTP/2 alone, without asking.
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		root.Stop()
		grace, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			// What is still open then is cut.
			ended <- server.Close()
			return
		}
		ended <- nil
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serving: %w", err)
	}
	return <-ended
}

// newLog writes JSON lines to standard error.
func newLog() *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(c), os.Stderr, zap.InfoLevel))
}
