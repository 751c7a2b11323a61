// Command local runs the main job on this machine, for make up, down, clean,
// demo, bench-boot and bench-image.
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

	"github.com/toolshed-cloud/shed/attest/board"
)

// defaultState is the programs' own.
const defaultState = ".shed"

const usage = `usage: local [--state DIR] [--provider qemu|libvirt] [--arch amd64|arm64] [--secure-boot=false] up|down|clean|demo|bench-boot|bench-image [PART...]`

func main() {
	if len(os.Args) > 1 && os.Args[1] == confinedCommand {
		fmt.Fprintln(os.Stderr, "local:", execConfined(os.Args[2:]))
		os.Exit(1)
	}
	state := flag.String("state", "", "state directory (default .shed; demo and the benchmarks make one of their own)")
	provider := flag.String("provider", onQEMU, "what demo makes machines with: qemu, or libvirt on two daemons of its own")
	architecture := flag.String("arch", board.AMD64, "what demo's machine is: amd64 or arm64, whose programs are in bin/arm64")
	secureBoot := flag.Bool("secure-boot", true, "have machines start with Secure Boot on, by keys made for this run")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, flag.Args(), place{root: *state, architecture: *architecture, plain: !*secureBoot}, *provider)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "local: %v\n", err)
		os.Exit(1)
	}
}

// run does a command on a place like the one asked for.
func run(ctx context.Context, args []string, like place, provider string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	command, parts := args[0], args[1:]
	if len(parts) > 0 && command != "bench-image" {
		return errors.New(usage)
	}
	if provider != onQEMU && (provider != onLibvirt || command != "demo") {
		return fmt.Errorf("--provider %s is none, or not for %s", provider, command)
	}
	if like.architecture != board.AMD64 && (like.architecture != board.ARM64 || command != "demo" || provider != onQEMU) {
		return fmt.Errorf("--arch %s is none, or not for %s on %s", like.architecture, command, provider)
	}
	switch command {
	case "up":
		return withPlace(like, defaultState, func(p place) error { return up(ctx, p) })
	case "down":
		return withPlace(like, defaultState, func(p place) error { return down(ctx, p) })
	case "clean":
		return withPlace(like, defaultState, func(p place) error { return clean(ctx, p) })
	case "demo":
		return withFreshPlace(like, func(p place) error { return demo(ctx, p, provider) })
	case "bench-boot":
		return withFreshPlace(like, func(p place) error { return benchBoot(ctx, p) })
	case "bench-image":
		return withFreshPlace(like, func(p place) error { return benchImage(ctx, p, parts) })
	default:
		return errors.New(usage)
	}
}
