// Command bench-providers measures what the plugin boundary costs, how the
// control plane keeps up with a cloud that limits it, and how fast an image gets
// to one, for make bench-providers.
//
// Invariants: a value and its floor are measured in the same run; what is timed
// is checked too; a bound that does not hold is an exit status of 1.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// ratio is one measured value beside its floor.
type ratio struct {
	Value float64 `json:"value"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

// measure is one benchmark. ok says whether its bound holds.
type measure struct {
	name string
	run  func(context.Context) (r ratio, ok bool, err error)
}

var measures = []measure{
	{"plugin_call", pluginCall},
	{"create_1000", createMany},
	{"image_upload", imageUpload},
}

var errBound = errors.New("a bound does not hold")

func main() {
	if len(os.Args) == 3 && os.Args[1] == rolePlugin {
		if err := servePlugin(os.Args[2]); err != nil {
			fmt.Fprintf(os.Stderr, "bench-providers: %v\n", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench-providers: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ratios := map[string]ratio{}
	held := true
	for _, m := range measures {
		r, ok, err := m.run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		ratios[m.name] = r
		held = held && ok
	}
	last := map[string]any{
		"bench": "providers", "ratios": ratios,
		"machine": fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	}
	if err := json.NewEncoder(os.Stdout).Encode(last); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if !held {
		return errBound
	}
	return nil
}
