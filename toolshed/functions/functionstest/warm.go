// Package functionstest measures functions beside their floor.
//
// Invariants: floor and function run the same module with the same input, in
// turn in one process; what differs is what this project adds.
package functionstest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/functions"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Build compiles one Go file for WASI in a folder, and answers the module.
func Build(ctx context.Context, folder, source string) ([]byte, error) {
	file, out := filepath.Join(folder, "main.go"), filepath.Join(folder, "main.wasm")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		return nil, fmt.Errorf("writing the source: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, file)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building for WASI: %w: %s", err, said)
	}
	return os.ReadFile(out)
}

// Small is the source of a function that answers, of about a megabyte.
const Small = `package main

import "os"

func main() { os.Stdout.WriteString("Content-Type: text/plain\n\nhello") }
`

// Service is the functions on a new database in a folder.
func Service(ctx context.Context, folder string) (_ *functions.Service, closeAll func() error, err error) {
	data, err := store.OpenDirectory(folder)
	if err != nil {
		return nil, nil, err
	}
	db, err := data.Open(ctx, functions.Schema)
	if err != nil {
		return nil, nil, errors.Join(err, data.Close())
	}
	s, err := functions.New(ctx, functions.Options{
		DB: db, Folder: filepath.Join(folder, "compiled"), Now: time.Now, Random: rand.Reader, Concurrent: 8, Quota: 1 << 30, Log: zap.NewNop(),
	})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close(), data.Close())
	}
	return s, func() error { return errors.Join(s.Close(), db.Close(), data.Close()) }, nil
}

// Warm is how long a call takes by the functions and by wazero's own, each the
// median of rounds in turn.
func Warm(ctx context.Context, folder string, module []byte, rounds int) (function, floor time.Duration, err error) {
	s, closeAll, err := Service(ctx, folder)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	if _, _, err := s.Deploy(ctx, "warm", module); err != nil {
		return 0, 0, err
	}
	if err := s.Set(ctx, "warm", functions.Settings{Limits: functions.Limits{PerMinute: 100_000}}); err != nil {
		return 0, 0, err
	}
	bare, err := newBare(ctx, module)
	if err != nil {
		return 0, 0, err
	}
	defer bare.runtime.Close(ctx) //nolint:errcheck // it holds memory alone
	var ours, theirs []time.Duration
	for range rounds {
		began := time.Now()
		if _, err := s.Invoke(ctx, "warm", functions.TriggerHTTP, nil, nil); err != nil {
			return 0, 0, err
		}
		ours = append(ours, time.Since(began))
		began = time.Now()
		if err := bare.call(ctx); err != nil {
			return 0, 0, err
		}
		theirs = append(theirs, time.Since(began))
	}
	return median(ours), median(theirs), nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// bare is wazero as its documentation has it.
type bare struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
}

func newBare(ctx context.Context, module []byte) (*bare, error) {
	b := &bare{runtime: wazero.NewRuntime(ctx)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, b.runtime); err != nil {
		return nil, fmt.Errorf("preparing WASI: %w", err)
	}
	compiled, err := b.runtime.CompileModule(ctx, module)
	if err != nil {
		return nil, fmt.Errorf("compiling: %w", err)
	}
	b.compiled = compiled
	return b, nil
}

func (b *bare) call(ctx context.Context) error {
	var out bytes.Buffer
	m, err := b.runtime.InstantiateModule(ctx, b.compiled, wazero.NewModuleConfig().WithName("").WithStdout(&out).WithSysNanotime().WithSysWalltime())
	if err != nil {
		return fmt.Errorf("calling: %w", err)
	}
	return m.Close(ctx)
}
