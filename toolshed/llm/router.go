package llm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// Router asks the providers that are configured.
type Router struct {
	// Providers by their configured names.
	Providers map[string]Provider
	// Aliases are names for models, each with where it is found, the best
	// first.
	Aliases map[string][]Target
	// Tries is how often one target is asked at most, 1 or more; Patience how
	// long a wait between tries may be.
	Tries    int
	Patience time.Duration
	// Timeout bounds the wait for the next part of an answer.
	Timeout time.Duration
	// Sleep waits, or ends with ctx.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Target is a model of a provider.
type Target struct{ Provider, Model string }

func (t Target) String() string { return t.Provider + "/" + t.Model }

// ParseTarget reads PROVIDER/MODEL.
func ParseTarget(text string) (Target, error) {
	provider, model, ok := strings.Cut(text, "/")
	if !ok || provider == "" || model == "" {
		return Target{}, fmt.Errorf("%.64q is not of the form PROVIDER/MODEL", text)
	}
	return Target{Provider: provider, Model: model}, nil
}

// Resolve is where a name is found: an alias, or PROVIDER/MODEL. The error is
// ErrNoModel.
func (r *Router) Resolve(name string) ([]Target, error) {
	if targets, ok := r.Aliases[name]; ok {
		return targets, nil
	}
	t, err := ParseTarget(name)
	if err == nil && r.Providers[t.Provider] != nil {
		return []Target{t}, nil
	}
	known := slices.Sorted(maps.Keys(r.Aliases))
	for _, p := range slices.Sorted(maps.Keys(r.Providers)) {
		known = append(known, p+"/…")
	}
	return nil, fmt.Errorf("%w: %.64q; there are %s", ErrNoModel, name, strings.Join(known, ", "))
}

// Chat asks the targets of the request's model, one after another, until one
// answers, and says which did. Errors are ErrNoModel, a *upstream.RequestError, the last
// target's *upstream.Error, emit's, and ctx's.
func (r *Router) Chat(ctx context.Context, req Request, emit func(Event) error) (Target, error) {
	targets, err := r.Resolve(req.Model)
	if err != nil {
		return Target{}, err
	}
	var last error
	for _, t := range targets {
		begun, err := r.ask(ctx, t, req, emit)
		if err == nil {
			return t, nil
		}
		last = err
		var fault *upstream.Error
		if begun || !errors.As(err, &fault) {
			return t, err
		}
	}
	return targets[len(targets)-1], last
}

// ask asks one target as often as makes sense. begun says that a part of an
// answer was passed on.
func (r *Router) ask(ctx context.Context, t Target, req Request, emit func(Event) error) (begun bool, err error) {
	req.Model = t.Model
	for try := 1; ; try++ {
		err = r.once(ctx, t, req, func(e Event) error {
			begun = true
			return emit(e)
		})
		var fault *upstream.Error
		if !errors.As(err, &fault) {
			return begun, err
		}
		fault.Name = t.Provider
		wait := max(fault.RetryAfter, time.Duration(try)*time.Second)
		if begun || !fault.Again() || try >= r.Tries || wait > r.Patience {
			return begun, err
		}
		if err := r.Sleep(ctx, wait); err != nil {
			return false, err
		}
	}
}

// errSilent is the cause of a context whose provider said nothing for too long.
var errSilent = errors.New("it says nothing for too long")

// once asks one target, and gives up when nothing comes for too long.
func (r *Router) once(ctx context.Context, t Target, req Request, emit func(Event) error) error {
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(r.Timeout, func() { cancel(errSilent) })
	defer silence.Stop()
	err := r.Providers[t.Provider].Chat(limited, req, func(e Event) error {
		silence.Reset(r.Timeout)
		return emit(e)
	})
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(limited), errSilent) {
		return &upstream.Error{Kind: upstream.Slow, Err: fmt.Errorf("nothing came for %s", r.Timeout)}
	}
	return err
}

// Found is a model with the name that it is asked for by.
type Found struct {
	Model
	Provider string `json:"provider,omitempty"`
	// Alias is where the name leads, the best first.
	Alias []string `json:"alias,omitempty"`
}

// Models lists aliases, and what the providers have; a provider that does not
// answer is named among the errors, and the others' models are there.
func (r *Router) Models(ctx context.Context) (all []Found, failed map[string]error) {
	for _, name := range slices.Sorted(maps.Keys(r.Aliases)) {
		f := Found{Model: Model{ID: name}}
		for _, t := range r.Aliases[name] {
			f.Alias = append(f.Alias, t.String())
		}
		all = append(all, f)
	}
	failed = map[string]error{}
	for _, name := range slices.Sorted(maps.Keys(r.Providers)) {
		limited, cancel := context.WithTimeout(ctx, r.Timeout)
		models, err := r.Providers[name].Models(limited)
		cancel()
		if err != nil {
			failed[name] = err
			continue
		}
		for _, m := range models {
			m.ID = Target{Provider: name, Model: m.ID}.String()
			all = append(all, Found{Model: m, Provider: name})
		}
	}
	return all, failed
}
