package llm

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// spoken is a provider that says the same each time.
type spoken struct {
	events []Event
	asked  int
}

func (s *spoken) Chat(ctx context.Context, _ Request, emit func(Event) error) error {
	s.asked++
	for _, e := range s.events {
		if err := emit(e); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (*spoken) Models(context.Context) ([]Model, error) { return nil, nil }

// served is a service of one provider, with a clock of its own.
type served struct {
	*Service
	*spoken
	now time.Time
}

func newServed(t *testing.T, events ...Event) *served {
	t.Helper()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	s := &served{spoken: &spoken{events: events}, now: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}
	router := &Router{Providers: map[string]Provider{"p": s.spoken}, Tries: 1, Timeout: time.Minute}
	s.Service = New(router, map[string]Price{"p/m": {Input: 2, Output: 5}}, db, func() time.Time { return s.now })
	return s
}

var asking = Request{Model: "p/m", Messages: []Message{{Role: User, Parts: []Part{{Text: "hello"}}}}}

// An answer is kept for who asks for that, for the same request, as long as was
// said and no longer, and costs nothing then.
func TestAnswersAreKept(t *testing.T) {
	s := newServed(t, Event{Text: "hi"}, Event{Usage: &Usage{Input: 10, Output: 4}}, Event{Finish: FinishStop})
	ask := func(r Request, keep time.Duration, kept bool) {
		t.Helper()
		text := ""
		said, err := s.Service.Chat(t.Context(), r, keep, func(e Event) error { text += e.Text; return nil })
		if err != nil || said.Kept != kept || said.Text != "hi" || text != "hi" || (said.Cost == 0) != kept {
			t.Errorf("%+v, %q, %v; want kept: %t", said, text, err, kept)
		}
	}
	ask(asking, 0, false)
	ask(asking, time.Hour, false)
	ask(asking, time.Hour, true)
	ask(asking, 0, false)
	other := asking
	other.MaxTokens = 7
	ask(other, time.Hour, false)
	s.now = s.now.Add(time.Hour - time.Millisecond)
	ask(asking, time.Hour, true)
	s.now = s.now.Add(time.Millisecond)
	ask(asking, time.Hour, false)
	if s.asked != 5 {
		t.Errorf("asked %d times", s.asked)
	}
	spent, err := s.Accounts(t.Context(), s.now)
	if err != nil || len(spent) != 1 || spent[0].Calls != 5 || spent[0].Input != 50 || spent[0].Output != 20 || spent[0].Cost != 5*40e-6 {
		t.Errorf("%+v, %v", spent, err)
	}
}

// What was given up cost something too; what broke its promise is nobody's
// answer, and is not kept.
func TestHalfAnswersAreAccounted(t *testing.T) {
	s := newServed(t, Event{Usage: &Usage{Input: 10}}, Event{Text: "hi"}, Event{Text: "there"}, Event{Finish: FinishStop})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Service.Chat(ctx, asking, 0, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	promised := asking
	promised.Output = &Output{Name: "answer"}
	var fault *upstream.Error
	for range 2 {
		if _, err := s.Service.Chat(t.Context(), promised, time.Hour, nil); !errors.As(err, &fault) || fault.Kind != upstream.Broken || fault.Name != "p" {
			t.Errorf("no JSON: %v", err)
		}
	}
	if spent, err := s.Accounts(t.Context(), s.now); err != nil || len(spent) != 1 || spent[0].Calls != 3 || spent[0].Input != 30 {
		t.Errorf("%+v, %v", spent, err)
	}
}
