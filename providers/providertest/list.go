package providertest

import (
	"context"

	"github.com/toolshed-cloud/shed/providers"
)

var listCases = []testCase{
	{name: "list-of-nothing-is-empty", check: func(t T, s *suite) { s.bench(t).wantNothing() }},
	{name: "list-tells-every-machine-by-pages", check: listTells},
	{name: "list-tells-what-get-tells", check: listAsGet},
	{name: "list-keeps-installations-apart", check: func(t T, s *suite) {
		one, other := s.bench(t), s.bench(t)
		one.create()
		other.create()
		one.wantMachines(1)
		other.wantMachines(1)
		s.bench(t).wantNothing()
	}},
	{name: "list-of-a-page-that-is-none-ends", check: func(t T, s *suite) {
		b := s.bench(t)
		for _, page := range []string{"no such page", "../..", "-1"} {
			p, err := s.Provider.List(t.Context(), b.installation, page)
			switch {
			case err != nil:
				wantCode(t, "List("+page+")", err, providers.CodeInvalid)
			case p.Next == page:
				t.Errorf("page %q follows itself", page)
			}
		}
	}},
}

func listTells(t T, s *suite) {
	b := s.bench(t)
	want := map[providers.MachineID]bool{}
	for range 3 {
		req, _ := b.create()
		want[req.Machine] = true
	}
	told := map[string]bool{}
	for _, r := range b.list() {
		key := string(r.Kind) + " " + r.ID
		if told[key] {
			t.Errorf("%s is told twice", key)
		}
		told[key] = true
		if r.Kind == providers.ResourceMachine {
			delete(want, r.Machine)
		}
	}
	if len(want) > 0 {
		t.Errorf("not told of: %v", want)
	}
}

func listAsGet(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	told := map[string]bool{}
	for _, r := range b.list() {
		told[string(r.Kind)+" "+r.ID] = true
	}
	for _, r := range b.get(req.Machine).Resources {
		if !told[string(r.Kind)+" "+r.ID] {
			t.Errorf("%s %s is not told of: it would be an orphan", r.Kind, r.ID)
		}
	}
}

var watchCases = []testCase{
	{name: "watch-tells-of-a-change", needs: providers.CapabilityWatch, check: watchTells},
	{name: "watch-ends-with-its-caller", needs: providers.CapabilityWatch, check: func(t T, s *suite) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- s.watcher(t).Watch(ctx, providers.InstallationID(newID()), func(providers.MachineID) {})
		}()
		cancel()
		s.bench(t).within("the watch ends", ended)
	}},
}

func (s *suite) watcher(t T) providers.Watcher {
	t.Helper()
	w, ok := s.Provider.(providers.Watcher)
	if !ok {
		t.Fatalf("the provider says that it can be watched, and cannot")
	}
	return w
}

// watchTells makes changes until one is told of: a watch has no moment from
// which on it misses nothing.
func watchTells(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.watcher(t).Watch(ctx, b.installation, func(id providers.MachineID) {
			if id == req.Machine {
				select {
				case told <- struct{}{}:
				default:
				}
			}
		})
	}()
	generation := req.Generation
	b.eventually("a change is told of", func() (bool, string) {
		generation++
		b.apply(providers.Change{Machine: req.Machine, Generation: generation})
		b.power(req.Machine, generation%2 == 0)
		select {
		case <-told:
			return true, ""
		case err := <-ended:
			t.Fatalf("Watch: %v", err)
		default:
		}
		return false, "no hint came"
	})
	cancel()
	b.within("the watch ends", ended)
}

// within waits for a call that must end; how does not matter.
func (b *bench) within(what string, ended <-chan error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), b.Patience)
	defer cancel()
	select {
	case err := <-ended:
		b.t.Logf("it ended: %v", err)
	case <-ctx.Done():
		b.t.Fatalf("after %s it does not hold that %s", b.Patience, what)
	}
}
