package providertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Options choose what Check does.
type Options struct {
	// Only are the names of the cases to run; nil for all.
	Only []string
	// Started is called before each case; nil for nobody.
	Started func(name string, index, of int)
}

// Names are the cases there are, in their order.
func Names() []string {
	var out []string
	for _, c := range cases() {
		out = append(out, c.name)
	}
	return out
}

// ErrNoSuchCase says that Options.Only names a case that there is not.
var ErrNoSuchCase = errors.New("there is no such case")

// Check runs the suite outside of a test. A ctx that ends fails the cases that
// are left. Errors are the provider's that does not say who it is, and
// ErrNoSuchCase.
func Check(ctx context.Context, subject Subject, o Options) (Report, error) {
	chosen, err := choose(o.Only)
	if err != nil {
		return Report{}, err
	}
	s := &suite{Subject: subject}
	if s.info, err = s.Provider.Info(ctx); err != nil {
		return Report{}, fmt.Errorf("asking the provider who it is: %w", err)
	}
	r := Report{Provider: cmp.Or(s.Name, s.info.Name), Version: s.info.Version}
	for i, c := range chosen {
		if o.Started != nil {
			o.Started(c.name, i, len(chosen))
		}
		r.Cases = append(r.Cases, s.check(ctx, c))
	}
	r.Leaks = s.leaks
	return r, nil
}

func choose(only []string) ([]testCase, error) {
	all := cases()
	if only == nil {
		return all, nil
	}
	for _, name := range only {
		if !slices.ContainsFunc(all, func(c testCase) bool { return c.name == name }) {
			return nil, fmt.Errorf("%w: %s", ErrNoSuchCase, name)
		}
	}
	return slices.DeleteFunc(all, func(c testCase) bool { return !slices.Contains(only, c.name) }), nil
}

// check runs one case on a goroutine of its own, which Fatalf and Skipf end.
func (s *suite) check(ctx context.Context, c testCase) CaseReport {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &recorder{ctx: ctx}
	began := time.Now()
	r.guarded(func() { s.run(r, c) })
	r.clean()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := CaseReport{Name: c.name, Outcome: Passed, Said: r.said, Duration: Millis(time.Since(began))}
	switch {
	case r.failed:
		out.Outcome = Failed
	case r.skipped:
		out.Outcome = Skipped
	}
	return out
}

// recorder is a T that writes down.
type recorder struct {
	ctx context.Context //nolint:containedctx // it is T's to hand out

	mu sync.Mutex
	// The fields below are guarded by mu.
	said            []string
	failed, skipped bool
	cleanups        []func()
}

var _ T = (*recorder)(nil)

// guarded runs f on a goroutine that may end early, and takes a panic for a
// failure.
func (r *recorder) guarded(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f()
	}()
	<-done
}

// clean runs the cleanups, the last first, each on its own.
func (r *recorder) clean() {
	for {
		r.mu.Lock()
		n := len(r.cleanups)
		if n == 0 {
			r.mu.Unlock()
			return
		}
		f := r.cleanups[n-1]
		r.cleanups = r.cleanups[:n-1]
		r.mu.Unlock()
		r.guarded(f)
	}
}

func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.Logf(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.Logf(format, args...)
	r.mu.Lock()
	r.skipped = true
	r.mu.Unlock()
	runtime.Goexit()
}

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) TempDir() string {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		r.Fatalf("making a temporary directory: %v", err)
	}
	r.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			r.Errorf("removing a temporary directory: %v", err)
		}
	})
	return dir
}
