package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/toolshed/functions/functionstest"
)

const (
	functionBound = 1.5
	functionCalls = 200
	// functionTries are compared by their best: the others are what else the
	// machine does.
	functionTries = 3
)

// functionWarm is a call of a function that was called before, beside wazero's
// own of the same module.
func functionWarm(dir string) (measured, error) {
	ctx := context.Background()
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		return measured{}, fmt.Errorf("making a directory: %w", err)
	}
	module, err := functionstest.Build(ctx, source, functionstest.Small)
	if err != nil {
		return measured{}, err
	}
	var best ratio
	for n := range functionTries {
		function, floor, err := functionstest.Warm(ctx, filepath.Join(dir, fmt.Sprint(n)), module, functionCalls)
		if err != nil {
			return measured{}, err
		}
		r := ratio{Value: float64(function.Microseconds()) / 1000, Floor: float64(floor.Microseconds()) / 1000}
		r.Ratio = r.Value / r.Floor
		if n == 0 || r.Ratio < best.Ratio {
			best = r
		}
	}
	fmt.Printf("function_warm, a Go module of %d bytes: %.2f ms, wazero alone %.2f ms: %.2f (at most %.1f)\n", len(module), best.Value, best.Floor, best.Ratio, functionBound)
	return measured{name: "function_warm", ratio: best, held: best.Ratio <= functionBound}, nil
}
