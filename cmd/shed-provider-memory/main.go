// Command shed-provider-memory is a fake cloud for tests and simulations: the
// provider, and as "shed-provider-memory cloud" the cloud that it speaks with.
// Invariant: it is wiring, and no machine of it is real.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/memory/remote"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

func main() {
	run := runPlugin
	if len(os.Args) > 1 && os.Args[1] == "cloud" {
		run = runCloud
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "shed-provider-memory: %v\n", err)
		os.Exit(1)
	}
}

func runPlugin() error {
	p, err := remote.New()
	if err != nil {
		return err
	}
	return plugin.Serve(p)
}

// runCloud serves the cloud, and where its faults are injected, until it is
// told to end.
func runCloud() error {
	flags := flag.NewFlagSet("shed-provider-memory cloud", flag.ExitOnError)
	socket := flags.String("socket", "", "Unix socket at which the provider finds the cloud")
	faults := flags.String("faults", "127.0.0.1:0", "host:port at which faults are injected, for shed provider test --faults")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	if *socket == "" {
		return errors.New("--socket is needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	calls, err := (&net.ListenConfig{}).Listen(ctx, "unix", *socket)
	if err != nil {
		return err
	}
	inject, err := (&net.ListenConfig{}).Listen(ctx, "tcp", *faults)
	if err != nil {
		return errors.Join(err, calls.Close())
	}
	cloud := memory.New(time.Now)
	injector := &http.Server{Handler: providertest.InjectorHandler(cloud), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = injector.Close() })
	go func() { _ = injector.Serve(inject) }()
	fmt.Printf("http://%s\n", inject.Addr())
	return plugin.ServeSocket(ctx, calls, cloud)
}
