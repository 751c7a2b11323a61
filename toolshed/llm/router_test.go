package llm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// script is a provider that fails as it is told to, and then answers.
type script struct {
	faults []error
	asked  int
	// before passes a part on before it fails, every before each part.
	before bool
	every  time.Duration
}

var _ Provider = (*script)(nil)

func (s *script) Chat(ctx context.Context, _ Request, emit func(Event) error) error {
	s.asked++
	wait := func() error {
		select {
		case <-time.After(s.every):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(s.faults) > 0 {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		if s.before {
			fault = errors.Join(emit(Event{Text: "half"}), fault)
		}
		return fault
	}
	for _, e := range []Event{{Text: "who"}, {Text: "le"}, {Finish: FinishStop}} {
		if err := errors.Join(wait(), emit(e)); err != nil {
			return err
		}
	}
	return nil
}

func (*script) Models(context.Context) ([]Model, error) { return nil, nil }

// Another try, and another provider, are asked where they may do better, after
// the wait that is wanted, and never once a part was passed on.
func TestRouterTriesAgain(t *testing.T) {
	is := func(k upstream.Kind, after time.Duration) error { return &upstream.Error{Kind: k, RetryAfter: after} }
	for name, c := range map[string]struct {
		first, second script
		// asked are how often each was, waits what was slept.
		asked [2]int
		waits []time.Duration
		text  string
		kind  upstream.Kind
	}{
		"a limit":           {first: script{faults: []error{is(upstream.Limited, 7*time.Second)}}, asked: [2]int{2, 0}, waits: []time.Duration{7 * time.Second}, text: "whole"},
		"failures":          {first: script{faults: []error{is(upstream.Failed, 0), is(upstream.Failed, 0)}}, asked: [2]int{3, 0}, waits: []time.Duration{time.Second, 2 * time.Second}, text: "whole"},
		"too many failures": {first: script{faults: slices.Repeat([]error{is(upstream.Failed, 0)}, 9)}, asked: [2]int{3, 1}, waits: []time.Duration{time.Second, 2 * time.Second}, text: "whole"},
		"too long a wait":   {first: script{faults: []error{is(upstream.Limited, time.Hour)}}, asked: [2]int{1, 1}, text: "whole"},
		"a denied key":      {first: script{faults: []error{is(upstream.Denied, 0)}}, asked: [2]int{1, 1}, text: "whole"},
		"a broken answer":   {first: script{faults: []error{is(upstream.Broken, 0)}}, asked: [2]int{1, 1}, text: "whole"},
		"a request that is refused": {
			first: script{faults: []error{upstream.Refuse("model", "no")}}, asked: [2]int{1, 0},
		},
		"half an answer": {first: script{faults: []error{is(upstream.Failed, 0)}, before: true}, asked: [2]int{1, 0}, text: "half", kind: upstream.Failed},
		"both": {
			first: script{faults: []error{is(upstream.Denied, 0)}}, second: script{faults: []error{is(upstream.Broken, 0)}},
			asked: [2]int{1, 1}, kind: upstream.Broken,
		},
	} {
		var waits []time.Duration
		r := &Router{
			Providers: map[string]Provider{"a": &c.first, "b": &c.second}, Aliases: map[string][]Target{"x": {{"a", "m"}, {"b", "m"}}},
			Tries: 3, Patience: time.Minute, Timeout: time.Minute,
			Sleep: func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil },
		}
		text := ""
		_, err := r.Chat(t.Context(), Request{Model: "x"}, func(e Event) error { text += e.Text; return nil })
		if got := [2]int{c.first.asked, c.second.asked}; got != c.asked || !slices.Equal(waits, c.waits) || text != c.text {
			t.Errorf("%s: asked %d, waited %s, got %q: %v", name, got, waits, text, err)
		}
		var fault *upstream.Error
		if errors.As(err, &fault) != (c.kind != "") || fault != nil && fault.Kind != c.kind || (err == nil) != (c.text == "whole") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A provider that says nothing for too long is slow, and one that only takes its
// time is not.
func TestRouterWaits(t *testing.T) {
	for every, want := range map[time.Duration]upstream.Kind{50 * time.Second: "", 70 * time.Second: upstream.Slow} {
		synctest.Test(t, func(t *testing.T) {
			r := &Router{
				Providers: map[string]Provider{"a": &script{every: every}}, Tries: 1, Timeout: time.Minute,
				Sleep: func(context.Context, time.Duration) error { return nil },
			}
			_, err := r.Chat(t.Context(), Request{Model: "a/m"}, func(Event) error { return nil })
			var fault *upstream.Error
			if errors.As(err, &fault); (err == nil) != (want == "") || fault != nil && fault.Kind != want {
				t.Errorf("a part each %s: %v", every, err)
			}
		})
	}
}
