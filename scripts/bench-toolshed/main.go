// Command bench-toolshed measures what the toolshed's store and queue cost
// beside raw SQLite, what a function costs beside wazero, and what reading a
// page costs beside its extraction, for make bench-toolshed.
//
// Invariants: a value and its floor are measured in the same run, on the same
// disk with the same durability, in turns, so that what else the machine does
// touches both; a bound that does not hold is an exit status of 1.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ratio is one measured value beside its floor.
type ratio struct {
	Value float64 `json:"value"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

// measured is a ratio by its name, and whether its bound holds.
type measured struct {
	name string
	ratio
	held bool
}

// measure is one benchmark. It prints a line for people.
type measure func(dir string) (measured, error)

// measures are all of them, in their order.
var measures = []measure{kvWrite, queueShare, functionWarm, readPage}

var errBound = errors.New("a bound does not hold")

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench-toolshed: %v\n", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ratios := map[string]ratio{}
	held := true
	for _, m := range measures {
		one, err := inDirectory(m)
		if err != nil {
			return err
		}
		ratios[one.name] = one.ratio
		held = held && one.held
	}
	last := map[string]any{
		"bench": "toolshed", "ratios": ratios,
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

func inDirectory(m measure) (one measured, err error) {
	dir, err := os.MkdirTemp("", "bench-toolshed-")
	if err != nil {
		return one, fmt.Errorf("making a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return m(dir)
}
