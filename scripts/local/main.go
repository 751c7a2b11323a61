// Command local runs the main job on this machine, for make up, down, clean,
// demo and bench-boot.
//
// Invariants: it uses the programs in bin/ through the same doors that
// everybody uses; everything of a run lives in its state directory; whatever
// it started has ended when it has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// defaultState is the programs' own.
const defaultState = ".shed"

const usage = `usage: local [--state DIR] [--provider qemu|libvirt] up|down|clean|demo|bench-boot`

func main() {
	if len(os.Args) > 1 && os.Args[1] == confinedCommand {
		fmt.Fprintln(os.Stderr, "local:", execConfined(os.Args[2:]))
		os.Exit(1)
	}
	state := flag.String("state", "", "state directory (default .shed; demo and bench-boot make one of their own)")
	provider := flag.String("provider", onQEMU, "what demo makes machines with: qemu, or libvirt on two daemons of its own")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, flag.Arg(0), *state, *provider)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "local: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command, state, provider string) error {
	if provider != onQEMU && (provider != onLibvirt || command != "demo") {
		return fmt.Errorf("--provider %s is none, or not for %s", provider, command)
	}
	switch command {
	case "up":
		return withPlace(state, defaultState, func(p place) error { return up(ctx, p) })
	case "down":
		return withPlace(state, defaultState, func(p place) error { return down(ctx, p) })
	case "clean":
		return withPlace(state, defaultState, func(p place) error { return clean(ctx, p) })
	case "demo":
		return withFreshPlace(state, func(p place) error { return demo(ctx, p, provider) })
	case "bench-boot":
		return withFreshPlace(state, func(p place) error { return benchBoot(ctx, p) })
	default:
		return errors.New(usage)
	}
}
