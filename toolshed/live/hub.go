// Package live passes events on to whoever listens, by topics.
//
// Invariants: who subscribes after an event that is still known gets every later
// one, once and in the order of its topic, or is told that some are gone; nobody who publishes
// waits for a listener: one that is too slow is cut; what is known of the past
// is bounded, and in memory alone; a feed has only what its API says.
package live

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The bounds of what is passed on.
const (
	MaxDataBytes = 64 << 10
	MaxTopics    = 64
	// maxKnown and maxKnownBytes bound the past, of all topics together.
	maxKnown      = 4096
	maxKnownBytes = 4 << 20
	// maxWaiting events wait for a listener before it is cut.
	maxWaiting = 64
	// FeedPrefix begins the topics that APIs publish on, and nobody else.
	FeedPrefix = "feed/"
)

// The sentinels of the events.
var (
	ErrTopic = errors.New("a topic: want lower case letters, digits, dots, hyphens, underscores and slashes, at most 128")
	ErrAfter = errors.New("it is no event's id")
	// ErrTooLong says that an event has too much data.
	ErrTooLong = fmt.Errorf("the data has more than %d bytes", MaxDataBytes)
	// ErrSlow is why a listener is cut.
	ErrSlow = errors.New("this listener was too slow, and missed events")
)

var validTopic = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]{0,127}$`)

// CheckTopic answers ErrTopic for what is none.
func CheckTopic(topic string) error {
	if !validTopic.MatchString(topic) {
		return fmt.Errorf("%.140q is no topic: %w", topic, ErrTopic)
	}
	return nil
}

// Kind is what an event is about.
type Kind string

// The kinds.
const (
	KindMessage  Kind = "message"
	KindPresence Kind = "presence"
	KindGap      Kind = "gap"
)

// Event is one that is passed on.
type Event struct {
	// ID is empty for what is not kept: presence and gaps.
	ID    string          `json:"id,omitempty"`
	Kind  Kind            `json:"kind" enum:"message,presence,gap"`
	Topic string          `json:"topic,omitempty"`
	At    time.Time       `json:"at"`
	Data  json.RawMessage `json:"data,omitempty"`

	sequence uint64
}

// Hub is where events meet listeners.
type Hub struct {
	now   func() time.Time
	epoch string
	// mu guards the rest.
	mu         sync.Mutex
	last       uint64
	known      []Event
	knownBytes int
	listeners  map[*Listener]bool
	joined     uint64
	// forgotten are the last events that were forgotten, by topics.
	forgotten map[string]uint64
}

// NewHub begins an epoch: ids of another are of before a start.
func NewHub(now func() time.Time, epoch string) *Hub {
	return &Hub{now: now, epoch: epoch, listeners: map[*Listener]bool{}, forgotten: map[string]uint64{}}
}

// Member is a listener as others see it.
type Member struct {
	ID    string    `json:"id"`
	As    string    `json:"as,omitempty" doc:"what it calls itself"`
	Since time.Time `json:"since"`
}

// Listener is somebody who listens.
type Listener struct {
	hub    *Hub
	member Member
	// topics is guarded by the hub's mu.
	topics map[string]bool
	// missed comes before what is in events, and is guarded by the hub's mu too.
	missed []Event
	behind chan struct{}
	events chan Event
	// cut is closed when it was too slow; isCut, guarded by the hub's mu, says so:
	// what came after would have a hole before it.
	cut   chan struct{}
	isCut bool
}

// Behind says that there is something in Missed.
func (l *Listener) Behind() <-chan struct{} { return l.behind }

// Missed is what was known already when topics were added. It is asked before
// an event is taken as the next, and answers each once.
func (l *Listener) Missed() []Event {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	missed := l.missed
	l.missed = nil
	return missed
}

// Events are what comes after what it missed.
func (l *Listener) Events() <-chan Event { return l.events }

// Cut is closed when the listener was too slow.
func (l *Listener) Cut() <-chan struct{} { return l.cut }

// Publish passes an event on. Errors are ErrTopic and ErrTooLong.
func (h *Hub) Publish(topic string, data json.RawMessage) (Event, error) {
	if err := CheckTopic(topic); err != nil {
		return Event{}, err
	}
	if len(data) > MaxDataBytes {
		return Event{}, ErrTooLong
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e := Event{ID: h.id(h.last), Kind: KindMessage, Topic: topic, At: h.now().UTC(), Data: data, sequence: h.last}
	h.known = append(h.known, e)
	h.knownBytes += len(data)
	drop := 0
	for ; len(h.known)-drop > maxKnown || h.knownBytes > maxKnownBytes; drop++ {
		h.knownBytes -= len(h.known[drop].Data)
	}
	h.known = slices.Delete(h.known, 0, drop)
	h.pass(e)
	return e, nil
}

// Forget forgets what is known of a feed: who asks for what came before is told
// of a gap.
func (h *Hub) Forget(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgotten[topic] = h.last
	h.known = slices.DeleteFunc(h.known, func(e Event) bool {
		if e.Topic != topic {
			return false
		}
		h.knownBytes -= len(e.Data)
		return true
	})
}

func (h *Hub) id(sequence uint64) string { return h.epoch + "-" + strconv.FormatUint(sequence, 10) }

// pass gives an event to who listens to its topic, and cuts who has no room for
// it. The caller holds mu.
func (h *Hub) pass(e Event) {
	for l := range h.listeners {
		if l.isCut || !l.topics[e.Topic] {
			continue
		}
		select {
		case l.events <- e:
		default:
			l.isCut = true
			close(l.cut)
		}
	}
}

// Join makes a listener of no topic. It has to leave.
func (h *Hub) Join(as string) *Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined++
	l := &Listener{
		hub: h, topics: map[string]bool{}, events: make(chan Event, maxWaiting), cut: make(chan struct{}), behind: make(chan struct{}, 1),
		member: Member{ID: strconv.FormatUint(h.joined, 10), As: as, Since: h.now().UTC()},
	}
	h.listeners[l] = true
	return l
}

// Leave ends a listener.
func (l *Listener) Leave() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	delete(l.hub.listeners, l)
	for topic := range l.topics {
		l.hub.present("leave", topic, l.member)
	}
	clear(l.topics)
}

// Subscribe adds topics; the events of them that are known after an id, none
// where it is empty, are missed. Where events after it may be gone the first of
// those is a gap. Errors are ErrTopic and ErrAfter.
func (l *Listener) Subscribe(topics []string, after string) error {
	for _, topic := range topics {
		if err := CheckTopic(topic); err != nil {
			return err
		}
	}
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	added := map[string]bool{}
	for _, topic := range topics {
		if !l.topics[topic] {
			added[topic] = true
		}
	}
	if len(l.topics)+len(added) > MaxTopics {
		return fmt.Errorf("%w; at most %d at once", ErrTopic, MaxTopics)
	}
	if after != "" {
		missed, err := h.since(added, after)
		if err != nil {
			return err
		}
		l.missed = append(l.missed, missed...)
		select {
		case l.behind <- struct{}{}:
		default:
		}
	}
	for topic := range added {
		l.topics[topic] = true
		h.present("join", topic, l.member)
	}
	return nil
}

// since is what is known of topics after an id. The caller holds mu.
func (h *Hub) since(topics map[string]bool, after string) (events []Event, err error) {
	epoch, digits, ok := strings.Cut(after, "-")
	sequence, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || epoch == "" || len(after) > 64 {
		return nil, fmt.Errorf("%.70q: %w", after, ErrAfter)
	}
	oldest := h.last + 1
	if len(h.known) > 0 {
		oldest = h.known[0].sequence
	}
	// What has no place among the present events is before all of them.
	if epoch != h.epoch || sequence > h.last {
		sequence, oldest = 0, h.last+2
	}
	gone := sequence+1 < oldest
	for topic := range topics {
		gone = gone || sequence < h.forgotten[topic]
	}
	if gone {
		events = append(events, Event{Kind: KindGap, At: h.now().UTC()})
	}
	for _, e := range h.known {
		if e.sequence > sequence && topics[e.Topic] {
			events = append(events, e)
		}
	}
	return events, nil
}

// Unsubscribe takes topics away.
func (l *Listener) Unsubscribe(topics []string) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	for _, topic := range topics {
		if l.topics[topic] {
			delete(l.topics, topic)
			l.hub.present("leave", topic, l.member)
		}
	}
}

// present tells the others of a topic who comes and goes. The caller holds mu.
func (h *Hub) present(what, topic string, m Member) {
	data, err := json.Marshal(struct {
		Event string `json:"event"`
		Member
	}{what, m})
	if err == nil {
		h.pass(Event{Kind: KindPresence, Topic: topic, At: h.now().UTC(), Data: data})
	}
}

// Present are the members of a topic, in the order that they came.
func (h *Hub) Present(topic string) []Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	members := []Member{}
	for l := range h.listeners {
		if l.topics[topic] {
			members = append(members, l.member)
		}
	}
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return members
}

// Recent are the latest known events of a topic, the oldest first.
func (h *Hub) Recent(topic string, limit int) (events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.known) - 1; i >= 0 && len(events) < limit; i-- {
		if h.known[i].Topic == topic {
			events = append(events, h.known[i])
		}
	}
	slices.Reverse(events)
	return events
}
