package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
	"github.com/toolshed-cloud/shed/toolshed/kv/key"
	"github.com/toolshed-cloud/shed/toolshed/kv/pb"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// opened is a store of its own, of a schema.
func opened(t *testing.T, dir string, schema store.Schema) (*store.DB, func()) {
	t.Helper()
	d, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), schema)
	if err != nil {
		t.Fatal(err)
	}
	return db, sync.OnceFunc(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
}

func newStore(t *testing.T) *Store {
	t.Helper()
	db, closing := opened(t, t.TempDir(), Schema)
	t.Cleanup(closing)
	return New(db, time.Now)
}

func encoded(t *testing.T, parts ...key.Part) []byte {
	t.Helper()
	b, err := key.Key(parts).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *Store) set(t *testing.T, m Mutation) int64 {
	t.Helper()
	version, err := s.Put(t.Context(), m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// What the first form of the database held is there afterwards, under keys of
// one string, with its versions; and none of them is given again.
func TestMigration(t *testing.T) {
	dir := t.TempDir()
	old := Schema
	old.Migrations = old.Migrations[:1]
	db, closing := opened(t, dir, old)
	texts := []string{"a", "a\x00b", "é", "\U0010ffff", strings.Repeat("k", 512)}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		for i, text := range texts {
			if _, err := tx.Exec("INSERT INTO kv VALUES (?, ?, ?, ?)", text, bytes.Repeat([]byte(text), i*1000), i+1, 1000*i); err != nil {
				return err
			}
		}
		_, err := tx.Exec("UPDATE versions SET last = 41")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	closing()
	for range 2 {
		db, closing = opened(t, dir, Schema)
		s := New(db, time.Now)
		for i, text := range texts {
			e, err := s.Get(t.Context(), encoded(t, text))
			if err != nil || e.Value.Encoding != Bytes || !bytes.Equal(e.Value.Data, bytes.Repeat([]byte(text), i*1000)) || e.Version != int64(i+1) || e.UpdatedAt.UnixMilli() != int64(1000*i) || !e.ExpiresAt.IsZero() {
				t.Errorf("%.20q: %d bytes of version %d, %v", text, len(e.Value.Data), e.Version, err)
			}
		}
		if entries, _, err := s.ReadSome(t.Context(), Range{End: []byte{0xff}, Limit: 100}); err != nil || len(entries) != len(texts) {
			t.Errorf("%d entries, %v", len(entries), err)
		}
		closing()
	}
	db, closing = opened(t, dir, Schema)
	defer closing()
	if version := New(db, time.Now).set(t, Mutation{Key: encoded(t, "new"), Value: BytesValue(nil)}); version != 42 {
		t.Errorf("the next version is %d, want 42", version)
	}
}

// Versions grow, over stops, failures and many writers, and none is given
// twice.
func TestVersionsGrow(t *testing.T) {
	dir := t.TempDir()
	seen := map[int64]bool{}
	for round := range 3 {
		db, closing := opened(t, dir, Schema)
		s := New(db, time.Now)
		var mu sync.Mutex
		var all sync.WaitGroup
		for w := range 8 {
			all.Go(func() {
				for i := range 300 {
					k := encoded(t, fmt.Sprint(w))
					wanted := Condition(nil)
					if i%7 == 0 {
						wanted = func(int64) bool { return false }
					}
					version, err := s.Put(context.Background(), Mutation{Key: k, Value: BytesValue(nil)}, wanted)
					if errors.Is(err, ErrChanged) {
						continue
					}
					mu.Lock()
					if err != nil || seen[version] {
						t.Errorf("round %d: version %d again, %v", round, version, err)
					}
					seen[version] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		closing()
	}
}

// At each end of a reservation, and however much of it was used, a start goes on
// behind the versions that were given.
func TestVersionsAreReserved(t *testing.T) {
	dir := t.TempDir()
	last := int64(0)
	for round := range 3 {
		db, closing := opened(t, dir, Schema)
		s := New(db, time.Now)
		for range 5 {
			version := s.set(t, Mutation{Key: encoded(t, "k"), Value: BytesValue(nil)})
			if version <= last {
				t.Errorf("round %d: %d after %d", round, version, last)
			}
			// Two before the end of what is reserved.
			last = version
			if left := s.versions.ceiling.Load() - last; left > 2 {
				s.versions.last, last = last+left-2, last+left-2
			}
		}
		closing()
	}
}

// What expires is gone in time, and who watches it is told.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, nil, func(err error) { t.Error(err) }) })
		defer running.Wait()
		defer cancel()
		k := encoded(t, "k")
		s.set(t, Mutation{Key: k, Value: BytesValue(nil), ExpiresAt: time.Now().Add(time.Minute)})
		s.set(t, Mutation{Key: encoded(t, "stays"), Value: BytesValue(nil), ExpiresAt: time.Now().Add(time.Hour)})
		w := s.Watch(k)
		defer w.Close()
		synctest.Wait()
		began := time.Now()
		<-w.Changed()
		if waited := time.Since(began); waited < time.Minute || waited > time.Minute+time.Second {
			t.Errorf("gone after %s", waited)
		}
		if _, err := s.Get(t.Context(), k); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		// Also where nobody has deleted it yet.
		s.set(t, Mutation{Key: k, Value: BytesValue(nil), ExpiresAt: time.Now().Add(-time.Second)})
		if _, err := s.Atomic(t.Context(), Write{Checks: []Check{{Key: k}}}); err != nil {
			t.Errorf("a check for what has expired: %v", err)
		}
		if u, err := s.Usage(t.Context()); err != nil || u.Count > 2 {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

// At its very end an entry is gone for all: who reads, who checks, who sums and
// who sweeps.
func TestVeryEnd(t *testing.T) {
	s := newStore(t)
	now := time.Now().Truncate(time.Millisecond)
	s.now = func() time.Time { return now }
	k, one := encoded(t, "k"), Value{Encoding: V8, Data: jsvalue.Number{Float: 1}.Bytes()}
	for name, f := range map[string]func() error{
		"reading": func() error {
			_, err := s.Get(t.Context(), k)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			return fmt.Errorf("it is there: %w", err)
		},
		"checking": func() error {
			_, err := s.Atomic(t.Context(), Write{Checks: []Check{{Key: k}}})
			return err
		},
		"summing": func() error {
			_, err := s.Atomic(t.Context(), Write{Mutations: []Mutation{{Kind: Sum, Key: k, Value: one}}})
			e, got := s.Get(t.Context(), k)
			if string(e.Value.Data) != string(one.Data) {
				return errors.Join(err, got, errors.New("what is gone was added to"))
			}
			return err
		},
		"sweeping": func() error {
			_, err := s.sweep(t.Context())
			if u, used := s.Usage(t.Context()); u.Count != 0 {
				return errors.Join(err, used, errors.New("it is kept"))
			}
			return err
		},
	} {
		s.set(t, Mutation{Key: k, Value: one, ExpiresAt: now})
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.set(t, Mutation{Key: k, Value: one, ExpiresAt: now.Add(time.Millisecond)})
		if _, err := s.sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(t.Context(), k); err != nil {
			t.Errorf("before its end: %v", err)
		}
	}
}

func TestSums(t *testing.T) {
	float := func(f float64) Value { return Value{Encoding: V8, Data: jsvalue.Number{Float: f}.Bytes()} }
	huge := func(n int64) Value { return Value{Encoding: V8, Data: jsvalue.Number{Big: big.NewInt(n)}.Bytes()} }
	text, err := JSONValue([]byte(`"text"`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		there, value, want Value
		kind               Kind
		bounds             Bounds
	}{
		"numbers":            {float(1.5), float(2), float(3.5), Sum, Bounds{}},
		"bigints":            {huge(1 << 62), huge(1 << 62), Value{Encoding: V8, Data: jsvalue.Number{Big: new(big.Int).Lsh(big.NewInt(1), 63)}.Bytes()}, Sum, Bounds{}},
		"counters":           {U64Value(1), U64Value(2), U64Value(3), Sum, Bounds{}},
		"wrapping":           {U64Value(^uint64(0)), U64Value(2), U64Value(1), Sum, Bounds{}},
		"counter and bigint": {U64Value(1), huge(2), U64Value(3), Sum, Bounds{}},
		"clamped":            {huge(5), huge(9), huge(10), Sum, Bounds{Max: huge(10).Data, Clamp: true}},
		"clamped below":      {float(5), float(-9), float(0), Sum, Bounds{Min: float(0).Data, Clamp: true}},
		"min":                {U64Value(5), U64Value(3), U64Value(3), Min, Bounds{}},
		"max":                {U64Value(5), U64Value(3), U64Value(5), Max, Bounds{}},
		"out of bounds":      {huge(5), huge(9), Value{}, Sum, Bounds{Max: huge(10).Data}},
		"other types":        {huge(5), float(9), Value{}, Sum, Bounds{}},
		"other bounds":       {huge(5), huge(9), Value{}, Sum, Bounds{Max: float(10).Data}},
		"a text":             {text, float(9), Value{}, Sum, Bounds{}},
		"of a text":          {float(9), text, Value{}, Sum, Bounds{}},
		"min of bytes":       {BytesValue([]byte("x")), U64Value(1), Value{}, Min, Bounds{}},
	} {
		s := newStore(t)
		k := encoded(t, "k")
		first := s.set(t, Mutation{Key: k, Value: c.there})
		_, err := s.Atomic(t.Context(), Write{Mutations: []Mutation{
			{Kind: Set, Key: encoded(t, "other"), Value: BytesValue(nil)}, {Kind: c.kind, Key: k, Value: c.value, Bounds: c.bounds},
		}})
		e, got := s.Get(t.Context(), k)
		if got != nil {
			t.Fatal(got)
		}
		if c.want.Data == nil {
			_, other := s.Get(t.Context(), encoded(t, "other"))
			if !errors.Is(err, ErrInvalid) || e.Version != first || !errors.Is(other, ErrNotFound) {
				t.Errorf("%s: %v, and something was done", name, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(e.Value.Data, c.want.Data) || e.Value.Encoding != c.want.Encoding {
			t.Errorf("%s: %v, %v", name, e.Value, err)
		}
	}
}

// A message of a write that was done reaches the queue, again where that failed,
// and with one id; one of a write that was not does not.
func TestOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		q := &unreliable{}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		failures := 0
		running.Go(func() { s.Run(ctx, q, func(error) { failures++ }) })
		defer running.Wait()
		defer cancel()
		message := Message{Payload: jsvalue.Number{Float: 1}.Bytes(), DueAt: time.Now(), Backoff: []time.Duration{time.Second}, Undelivered: [][]byte{encoded(t, "dead")}}
		if _, err := s.Atomic(t.Context(), Write{Checks: []Check{{Key: encoded(t, "k"), Version: 1}}, Enqueues: []Message{message}}); !errors.Is(err, ErrChanged) {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := s.Atomic(t.Context(), Write{Enqueues: []Message{message}}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		slices.Sort(q.ids)
		if ids := slices.Compact(slices.Clone(q.ids)); len(ids) != 3 || len(q.ids) != 3 || failures != 2 {
			t.Errorf("posted %q with %d failures", q.ids, failures)
		}
		if q.last.Backoff[0] != time.Second || !bytes.Equal(q.last.Undelivered[0], message.Undelivered[0]) || !bytes.Equal(q.last.Payload, message.Payload) {
			t.Errorf("%+v", q.last)
		}
	})
}

// unreliable fails at first.
type unreliable struct {
	asked int
	ids   []string
	last  Message
}

func (q *unreliable) Post(_ context.Context, m Message) error {
	if q.asked++; q.asked < 3 {
		return errors.New("not now")
	}
	q.ids, q.last = append(q.ids, m.ID), m
	return nil
}

func TestWriteRefusals(t *testing.T) {
	s := newStore(t)
	k := encoded(t, "k")
	now := time.Now()
	for name, w := range map[string]Write{
		"no key":         {Mutations: []Mutation{{Kind: Set, Value: BytesValue(nil)}}},
		"a broken key":   {Mutations: []Mutation{{Kind: Set, Key: []byte{9}, Value: BytesValue(nil)}}},
		"a long key":     {Mutations: []Mutation{{Kind: Set, Key: make([]byte, MaxKeyBytes+1), Value: BytesValue(nil)}}},
		"no room":        {Mutations: []Mutation{{Kind: Append, Key: encoded(t, strings.Repeat("k", MaxKeyBytes-10)), Value: BytesValue(nil)}}},
		"a long value":   {Mutations: []Mutation{{Kind: Set, Key: k, Value: BytesValue(make([]byte, MaxValueBytes+1))}}},
		"no encoding":    {Mutations: []Mutation{{Kind: Set, Key: k}}},
		"a short number": {Mutations: []Mutation{{Kind: Set, Key: k, Value: Value{Encoding: U64, Data: []byte{1}}}}},
		"no kind":        {Mutations: []Mutation{{Key: k, Value: BytesValue(nil)}}},
		"checks":         {Checks: make([]Check, MaxChecks+1)},
		"mutations":      {Mutations: make([]Mutation, MaxMutations+1)},
		"a long delay":   {Enqueues: []Message{{DueAt: now.Add(31 * 24 * time.Hour)}}},
		"a backoff":      {Enqueues: []Message{{Backoff: []time.Duration{2 * time.Hour}}}},
		"too much":       {Mutations: slices.Repeat([]Mutation{{Kind: Set, Key: k, Value: BytesValue(make([]byte, MaxValueBytes))}}, 2)},
	} {
		if _, err := s.Atomic(t.Context(), w); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if u, err := s.Usage(t.Context()); err != nil || u.Count != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

// Whatever comes in on the data path is refused or makes a request within
// bounds.
func FuzzConnect(f *testing.F) {
	k, err := key.Of("k").Encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []proto.Message{
		&pb.SnapshotRead{Ranges: []*pb.ReadRange{{Start: k, End: []byte{0xff}, Limit: 100, Reverse: true}}},
		&pb.AtomicWrite{
			Checks:    []*pb.Check{{Key: k, Versionstamp: versionstamp(7)}},
			Mutations: []*pb.Mutation{{Key: k, MutationType: pb.MutationType_M_SUM, ExpireAtMs: 1, SumClamp: true, Value: &pb.KvValue{Data: []byte{0xff, 15, 'I', 2}, Encoding: pb.ValueEncoding_VE_V8}}},
			Enqueues:  []*pb.Enqueue{{Payload: []byte{0xff, 15, '0'}, DeadlineMs: 1, BackoffSchedule: []uint32{1, 2}, KeysIfUndelivered: [][]byte{k}}},
		},
		&pb.Watch{Keys: []*pb.WatchKey{{Key: k}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkMessage(b) != nil {
			return
		}
		if ranges, err := parseRead(b); err == nil {
			for _, r := range ranges {
				if r.Limit < 1 || r.Limit > MaxPage {
					t.Errorf("a limit of %d", r.Limit)
				}
			}
		}
		if keys, err := parseWatch(b); err == nil && len(keys) > MaxWatched {
			t.Errorf("%d keys", len(keys))
		}
		if w, err := parseAtomic(b); err == nil && w.check(time.Now()) == nil && len(w.Mutations) > MaxMutations {
			t.Errorf("%d mutations", len(w.Mutations))
		}
	})
}

func FuzzParseVersionstamp(f *testing.F) {
	for _, s := range []string{"", "00000000000000010000", "ffffffffffffffffffff", "xx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		version, err := ParseVersionstamp(text)
		if err == nil && version > 0 && !strings.EqualFold(Versionstamp(version), text) {
			t.Errorf("%q is %d", text, version)
		}
	})
}
