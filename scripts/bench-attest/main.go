// Command bench-attest measures what verifying evidence costs beside the
// signatures in it, and how many pieces of evidence one TPM's quotes answer,
// for make bench-attest.
//
// Invariants: a value and its floor are measured in the same run, in turns, so
// that what else the machine does touches both; what is timed is verified too;
// a bound that does not hold is an exit status of 1.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
)

// The bounds, as issue and docs/attestation.md name them.
const (
	verifyAtMost = 1.3
	allocsAtMost = 100
	batchAtLeast = 20
)

// ratio is one measured value beside its floor.
type ratio struct {
	Value float64 `json:"value"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

var errBound = errors.New("a bound does not hold")

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench-attest: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	testing.Init()
	ratios := map[string]ratio{}
	held := true
	for _, c := range cases() {
		r, ok, err := c.measure()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		ratios[c.name] = r
		held = held && ok
	}
	r, ok, err := batch()
	if err != nil {
		return fmt.Errorf("batch: %w", err)
	}
	ratios["batch"] = r
	last := map[string]any{
		"bench": "attest", "ratios": ratios,
		"machine": fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	}
	if err := json.NewEncoder(os.Stdout).Encode(last); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if !held || !ok {
		return errBound
	}
	return nil
}

// within gives f a real testing.TB, which the software TPM and the stand-ins
// need, and answers how it failed.
func within(f func(b *testing.B) error) error {
	var err error
	done := false
	r := testing.Benchmark(func(b *testing.B) {
		if !done {
			done, err = true, f(b)
		}
	})
	if err == nil && (!done || r.N == 0) {
		return errors.New("it could not be set up")
	}
	return err
}
