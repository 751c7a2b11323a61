// Package sandbox runs WebAssembly commands of WASI preview 1.
//
// Invariants: each call has an instance and a memory of its own, and nothing of
// it is there for the next; a module reaches nothing but its standard streams,
// its scratch in memory, the host's clocks and randomness, and the one function
// of the host's that it is given; time, memory, tables, output and the number
// of host calls are bounded, and a module that cannot be bounded is refused.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// The bounds of a module.
const (
	MaxModuleBytes = 16 << 20
	MaxMemoryBytes = 128 << 20
	pageBytes      = 64 << 10
	// startTime is for what runs when a module is only tried.
	startTime = time.Second
)

// ErrModule says that a module is none that can be run here.
var ErrModule = errors.New("the module cannot be run")

var errFolder = errors.New("opening the folder of what was compiled")

// Environment is what programs share.
type Environment struct {
	// Its readings have a clock that nobody sets too, as time.Now's have.
	Now    func() time.Time
	Random io.Reader
}

// Program is a compiled module.
type Program struct {
	env      Environment
	cache    wazero.CompilationCache
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	// least is the memory that an instance begins with.
	least  int64
	spares spares
}

// Compile makes a program, or takes what an earlier Compile left in the folder,
// which is this module's alone; what is unreadable there is made anew. Where
// nothing can be written there it makes a program all the same. The error is
// ErrModule where the module is at fault.
func Compile(ctx context.Context, env Environment, folder string, module []byte) (*Program, error) {
	features, err := scan(module)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	_, found := os.Stat(folder)
	p, err := compileInto(ctx, env, features, folder, module)
	if err != nil && found == nil {
		// What was there may be damaged, which looks like a module that is.
		if err := os.RemoveAll(folder); err != nil {
			return nil, fmt.Errorf("removing what was compiled: %w", err)
		}
		p, err = compileInto(ctx, env, features, folder, module)
	}
	if _, write := errors.AsType[*fs.PathError](err); write || errors.Is(err, errFolder) {
		p, err = compile(ctx, env, features, wazero.NewCompilationCache(), module)
	}
	return p, err
}

func compileInto(ctx context.Context, env Environment, features api.CoreFeatures, folder string, module []byte) (*Program, error) {
	cache, err := wazero.NewCompilationCacheWithDir(folder)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFolder, err)
	}
	return compile(ctx, env, features, cache, module)
}

func compile(ctx context.Context, env Environment, features api.CoreFeatures, cache wazero.CompilationCache, module []byte) (_ *Program, err error) {
	p := &Program{env: env, cache: cache}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	p.runtime = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCompilationCache(cache).
		WithCloseOnContextDone(true).WithDebugInfoEnabled(false).WithCoreFeatures(features).
		WithMemoryLimitPages(MaxMemoryBytes/pageBytes))
	if err := p.host(ctx); err != nil {
		return nil, err
	}
	if p.compiled, err = p.runtime.CompileModule(ctx, module); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Program) host(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, p.runtime); err != nil {
		return fmt.Errorf("preparing WASI: %w", err)
	}
	i32 := api.ValueTypeI32
	_, err := p.runtime.NewHostModuleBuilder(HostModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(hostCall), []api.ValueType{i32, i32}, []api.ValueType{i32}).Export("call").
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(hostAnswer), []api.ValueType{i32, i32}, []api.ValueType{i32}).Export("answer").
		Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("preparing the host's functions: %w", err)
	}
	return nil
}

// check sees that the module is a command that imports what there is.
func (p *Program) check() error {
	for _, f := range p.compiled.ImportedFunctions() {
		module, name, _ := f.Import()
		known := module == wasi_snapshot_preview1.ModuleName || module == HostModule && slices.Contains([]string{"call", "answer"}, name)
		if !known {
			return fmt.Errorf("%w: it imports %.64q from %.64q, which is not there", ErrModule, name, module)
		}
	}
	if len(p.compiled.ImportedMemories()) > 0 {
		return fmt.Errorf("%w: it imports a memory", ErrModule)
	}
	start := p.compiled.ExportedFunctions()["_start"]
	if start == nil || len(start.ParamTypes())+len(start.ResultTypes()) > 0 {
		return fmt.Errorf("%w: it exports no _start, as a WASI command does", ErrModule)
	}
	memory := p.compiled.ExportedMemories()["memory"]
	if memory == nil {
		return fmt.Errorf("%w: it exports no memory by the name memory", ErrModule)
	}
	p.least = int64(memory.Min()) * pageBytes
	return nil
}

// Try makes an instance without starting it, which shows that its imports are
// of the right types.
func (p *Program) Try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	c := &Call{Memory: MaxMemoryBytes, Output: 1, Log: 1}
	m, err := p.instantiate(ctx, c.begin(), p.config(ctx, c).WithStartFunctions())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	return m.Close(ctx)
}

// Close gives everything back. No call may be under way.
func (p *Program) Close() error {
	var errs []error
	if p.runtime != nil {
		errs = append(errs, p.runtime.Close(context.Background()))
	}
	return errors.Join(append(errs, p.cache.Close(context.Background()))...)
}
