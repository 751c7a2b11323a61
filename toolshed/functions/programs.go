package functions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
)

const (
	// maxLoaded programs stay in memory, and for idleFor without a call.
	maxLoaded = 8
	idleFor   = 10 * time.Minute
)

// programs are the compiled modules: on disk as machine code, each in a folder
// by its hash, and the ones in use in memory.
type programs struct {
	folder string
	env    sandbox.Environment
	// mu guards loaded and what is in it, but for the programs themselves.
	mu     sync.Mutex
	loaded map[Hash]*program
	// compiling is held by who compiles: it takes much memory.
	compiling sync.Mutex
}

type program struct {
	*sandbox.Program
	uses int
	used time.Time
	// gone says that nobody new gets it: who lets go of it last closes it.
	gone bool
}

func newPrograms(folder string, env sandbox.Environment) *programs {
	return &programs{folder: folder, env: env, loaded: map[Hash]*program{}}
}

// use answers a program and how to let go of it. Module is asked for the bytes
// where it is not in memory.
func (p *programs) use(ctx context.Context, h Hash, module func() ([]byte, error)) (*sandbox.Program, func(), error) {
	if found := p.take(h); found != nil {
		return found.Program, func() { p.release(found) }, nil
	}
	p.compiling.Lock()
	defer p.compiling.Unlock()
	if found := p.take(h); found != nil {
		return found.Program, func() { p.release(found) }, nil
	}
	b, err := module()
	if err != nil {
		return nil, nil, err
	}
	// What is compiled serves others too: it does not end with this caller.
	compiled, err := sandbox.Compile(context.WithoutCancel(ctx), p.env, filepath.Join(p.folder, h.String()), b)
	if err != nil {
		return nil, nil, err
	}
	made := &program{Program: compiled, uses: 1, used: p.env.Now()}
	p.mu.Lock()
	p.loaded[h] = made
	p.mu.Unlock()
	p.sweep(maxLoaded, p.env.Now().Add(-idleFor))
	return compiled, func() { p.release(made) }, nil
}

func (p *programs) take(h Hash) *program {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.loaded[h]
	if found != nil {
		found.uses++
		found.used = p.env.Now()
	}
	return found
}

func (p *programs) release(one *program) {
	p.mu.Lock()
	one.uses--
	last := one.gone && one.uses == 0
	p.mu.Unlock()
	if last {
		// Memory of its own is all that it has.
		_ = one.Close()
	}
}

// sweep lets go of what was not used since, and of the rest but the most last
// used that fit.
func (p *programs) sweep(most int, since time.Time) {
	for {
		p.mu.Lock()
		var oldest *program
		var of Hash
		for h, one := range p.loaded {
			if one.uses == 0 && (oldest == nil || one.used.Before(oldest.used)) {
				oldest, of = one, h
			}
		}
		if oldest == nil || len(p.loaded) <= most && oldest.used.After(since) {
			p.mu.Unlock()
			return
		}
		delete(p.loaded, of)
		p.mu.Unlock()
		_ = oldest.Close()
	}
}

// remove forgets modules, on disk too.
func (p *programs) remove(hashes ...Hash) error {
	var errs []error
	for _, h := range hashes {
		p.mu.Lock()
		one := p.loaded[h]
		delete(p.loaded, h)
		idle := one != nil && one.uses == 0
		if one != nil {
			one.gone = true
		}
		p.mu.Unlock()
		if idle {
			errs = append(errs, one.Close())
		}
		errs = append(errs, os.RemoveAll(filepath.Join(p.folder, h.String())))
	}
	return wrap("removing what was compiled", errors.Join(errs...))
}

// tidy removes the folders of modules that are not kept, as a crash leaves them.
func (p *programs) tidy(kept map[Hash]bool) error {
	entries, err := os.ReadDir(p.folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the folder of what was compiled: %w", err)
	}
	names := map[string]bool{}
	for h := range kept {
		names[h.String()] = true
	}
	var errs []error
	for _, e := range entries {
		if !names[e.Name()] {
			errs = append(errs, os.RemoveAll(filepath.Join(p.folder, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (p *programs) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for h, one := range p.loaded {
		errs = append(errs, one.Close())
		delete(p.loaded, h)
	}
	return errors.Join(errs...)
}
