// Command bench-signup measures what a signup costs the control plane, for
// make bench-signup.
//
// Invariants: the control plane and the floor each run in a process of their
// own, on loopback and a state directory that is gone afterwards; what is
// measured is the whole control plane but for its provider, whose machines are
// entries of a map; a bound that does not hold is an exit status of 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// The parts that this program also is, as a child of itself.
const (
	partControl = "control"
	partFloor   = "floor"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench-signup: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := flag.String("dir", "", "state directory of a child")
	machines := flag.Int("machines", 0, "cap on machines of a child")
	profile := flag.String("cpuprofile", "", "file for a child's CPU profile")
	flag.Parse()
	switch flag.Arg(0) {
	case partControl:
		return withProfile(*profile, func() error { return serveControl(ctx, *dir, *machines) })
	case partFloor:
		return serveFloor(ctx, *dir)
	case "":
		return bench(ctx, *profile)
	default:
		return fmt.Errorf("unknown part %q", flag.Arg(0))
	}
}

// ratio is one measured value beside its floor.
type ratio struct {
	Value float64 `json:"value"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

func over(value, floor float64) ratio { return ratio{Value: value, Floor: floor, Ratio: value / floor} }

// The bounds.
const (
	intakeAtLeast = 0.5
	// startsAtLeast is machines a second; startsPeer what a durable peer
	// starts of its no-op jobs on two cores.
	startsAtLeast = 380
	startsPeer    = 76
	// idleAtMost and the next two are shares of a core.
	idleAtMost    = 0.05
	waitingAtMost = 0.02
	readyAtMost   = 0.003
	residentMiB   = 45
	// deletionWithin holds however many wait.
	deletionWithin = time.Second
)

// report collects lines for people, ratios for programs and broken bounds.
type report struct {
	ratios map[string]ratio
	broken []error
}

func (r *report) line(name, text string, holds bool) {
	verdict := "holds"
	if !holds {
		verdict = "BROKEN"
		r.broken = append(r.broken, fmt.Errorf("%s: %s", name, text))
	}
	fmt.Printf("%-14s %-86s %s\n", name, text, verdict)
}

// end prints the line for programs.
func (r *report) end() error {
	b, err := json.Marshal(map[string]any{
		"bench": "signup", "ratios": r.ratios,
		"machine": strings.Join([]string{runtime.GOOS, runtime.GOARCH, fmt.Sprintf("%d cores", runtime.NumCPU())}, " "),
	})
	if err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	for _, err := range r.broken {
		fmt.Fprintf(os.Stderr, "bench-signup: bound does not hold: %v\n", err)
	}
	fmt.Println(string(b))
	if len(r.broken) > 0 {
		return errors.New("a bound does not hold")
	}
	return nil
}
