package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func hub() *Hub {
	return NewHub(func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }, "e")
}

func publish(t testing.TB, h *Hub, topic, data string) string {
	t.Helper()
	e, err := h.Publish(topic, json.RawMessage(data))
	if err != nil {
		t.Fatal(err)
	}
	return e.ID
}

func subscribe(l *Listener, topics []string, after string) ([]Event, error) {
	err := l.Subscribe(topics, after)
	return l.Missed(), err
}

func ids(events []Event) string {
	var all []string
	for _, e := range events {
		if e.Kind == KindGap {
			all = append(all, "gap")
		} else {
			all = append(all, e.ID)
		}
	}
	return strings.Join(all, " ")
}

// What is forgotten is a gap, and other topics have theirs once.
func TestForget(t *testing.T) {
	h := hub()
	for range 2 {
		publish(t, h, "a", "1")
		publish(t, h, "b", "2")
	}
	h.Forget("a")
	publish(t, h, "a", "3")
	for _, c := range []struct{ topics, after, want string }{
		{"a", "e-1", "gap e-5"}, {"b", "e-1", "e-2 e-4"}, {"a b", "e-3", "gap e-4 e-5"}, {"a", "e-4", "e-5"}, {"a", "other-1", "gap e-5"},
	} {
		missed, err := subscribe(h.Join(""), strings.Fields(c.topics), c.after)
		if err != nil || ids(missed) != c.want {
			t.Errorf("%s after %s: %q, %v, want %q", c.topics, c.after, ids(missed), err, c.want)
		}
	}
	if got := h.Recent("a", 10); ids(got) != "e-5" || h.knownBytes != 3 {
		t.Errorf("%q, %d bytes", ids(got), h.knownBytes)
	}
}

func TestResume(t *testing.T) {
	h := hub()
	for range 3 {
		publish(t, h, "a", "1")
		publish(t, h, "b", "2")
	}
	for after, want := range map[string]string{
		"": "", "e-0": "e-1 e-3 e-5", "e-3": "e-5", "e-6": "", "e-7": "gap e-1 e-3 e-5", "other-3": "gap e-1 e-3 e-5",
	} {
		missed, err := subscribe(h.Join(""), []string{"a"}, after)
		if err != nil || ids(missed) != want {
			t.Errorf("after %q: %q, %v, want %q", after, ids(missed), err, want)
		}
	}
	for _, after := range []string{"x", "-1", "e-", "e--1", "e-1x", strings.Repeat("e", 70) + "-1"} {
		if _, err := subscribe(h.Join(""), []string{"a"}, after); !errors.Is(err, ErrAfter) {
			t.Errorf("after %q: %v", after, err)
		}
	}
	for range maxKnown {
		publish(t, h, "b", "2")
	}
	if missed, err := subscribe(h.Join(""), []string{"a"}, "e-3"); err != nil || ids(missed) != "gap" {
		t.Errorf("what is gone: %q, %v", ids(missed), err)
	}
	large := `"` + strings.Repeat("x", MaxDataBytes-2) + `"`
	for range 200 {
		publish(t, h, "b", large)
	}
	if h.knownBytes > maxKnownBytes || len(h.known) > maxKnownBytes/MaxDataBytes {
		t.Errorf("%d bytes of %d events are kept", h.knownBytes, len(h.known))
	}
	if _, err := h.Publish("b", json.RawMessage(large+" ")); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

// Whoever comes and goes while others publish gets each event once, in order.
func TestNothingIsLostBetween(t *testing.T) {
	h := hub()
	const events = 2000
	var all sync.WaitGroup
	all.Go(func() {
		for n := range events {
			publish(t, h, "a", fmt.Sprint(n))
		}
	})
	for range 4 {
		all.Go(func() {
			after, next := "e-0", 0
			for next < events {
				l := h.Join("")
				missed, err := subscribe(l, []string{"a"}, after)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range append(missed, drain(l)...) {
					if e.Kind == KindMessage {
						if string(e.Data) != fmt.Sprint(next) {
							t.Errorf("%s, want %d", e.Data, next)
							return
						}
						after, next = e.ID, next+1
					}
				}
				l.Leave()
			}
		})
	}
	all.Wait()
}

func drain(l *Listener) (events []Event) {
	for {
		select {
		case e := <-l.Events():
			events = append(events, e)
		default:
			return events
		}
	}
}

// Who publishes waits for nobody: who does not listen is cut.
func TestSlowIsCut(t *testing.T) {
	h := hub()
	slow, quick := h.Join("slow"), h.Join("quick")
	for _, l := range []*Listener{slow, quick} {
		if err := l.Subscribe([]string{"a"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	for range maxWaiting + 2 {
		publish(t, h, "a", "1")
		drain(quick)
	}
	select {
	case <-slow.Cut():
	default:
		t.Error("the slow one is not cut")
	}
	select {
	case <-quick.Cut():
		t.Error("the quick one is cut")
	default:
	}
}

func TestPresence(t *testing.T) {
	h := hub()
	a, b := h.Join("ann"), h.Join("ben")
	for _, l := range []*Listener{a, b} {
		if err := l.Subscribe([]string{"room"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.Present("room"); len(got) != 2 || got[0].As != "ann" || got[1].As != "ben" {
		t.Errorf("%v", got)
	}
	b.Unsubscribe([]string{"room", "other"})
	a.Leave()
	if got := h.Present("room"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	var told []string
	for _, e := range drain(a) {
		var p struct{ Event, As string }
		if err := json.Unmarshal(e.Data, &p); err != nil || e.Kind != KindPresence || e.ID != "" {
			t.Errorf("%+v, %v", e, err)
		}
		told = append(told, p.Event+" "+p.As)
	}
	if strings.Join(told, ", ") != "join ann, join ben, leave ben" {
		t.Errorf("ann is told %q", told)
	}
	var many []string
	for n := range MaxTopics + 1 {
		many = append(many, fmt.Sprint("t", n))
	}
	if _, err := subscribe(h.Join(""), many, ""); !errors.Is(err, ErrTopic) {
		t.Error(err)
	}
}

// An id of anybody's is one of ours, an older one, or refused.
func FuzzAfter(f *testing.F) {
	for _, seed := range []string{"e-1", "e-99", "x-1", "-", "", "e-18446744073709551615", "e-+1"} {
		f.Add(seed, "a")
	}
	f.Fuzz(func(t *testing.T, after, topic string) {
		h := hub()
		publish(t, h, "a", "1")
		publish(t, h, "a", "2")
		missed, err := subscribe(h.Join(""), []string{topic}, after)
		if err != nil && !errors.Is(err, ErrAfter) && !errors.Is(err, ErrTopic) {
			t.Fatal(err)
		}
		if len(missed) > 3 || err != nil && missed != nil {
			t.Errorf("%q: %d events, %v", after, len(missed), err)
		}
	})
}
