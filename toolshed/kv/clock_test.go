package kv

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clock that is set forward, or a machine that slept, keeps who watches not
// for long.
func TestClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var offset atomic.Int64
		s.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx, nil, func(err error) { t.Error(err) }) })
		defer running.Wait()
		defer cancel()
		k := encoded(t, "k")
		s.set(t, Mutation{Key: k, Value: BytesValue(nil), ExpiresAt: s.now().Add(10 * time.Hour)})
		w := s.Watch(k)
		defer w.Close()
		synctest.Wait()
		offset.Store(int64(11 * time.Hour))
		if _, err := s.Get(t.Context(), k); !errors.Is(err, ErrNotFound) {
			t.Errorf("it is read after its end: %v", err)
		}
		began := time.Now()
		<-w.Changed()
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("told after %s", waited)
		}
	})
}

// An expiry that no calendar writes is shown as none, and hides nothing else.
func TestFarExpiry(t *testing.T) {
	s := newStore(t)
	k := encoded(t, "k")
	s.set(t, Mutation{Key: k, Value: BytesValue(nil), ExpiresAt: time.UnixMilli(1 << 60)})
	e, err := s.Get(t.Context(), k)
	if err != nil || !e.ExpiresAt.IsZero() {
		t.Errorf("%s, %v", e.ExpiresAt, err)
	}
	year := handlers{kept: s}.after(int64(365 * 24 * time.Hour / time.Millisecond))
	if left := time.Until(year); left > 365*24*time.Hour || left < 364*24*time.Hour {
		t.Errorf("a year ends in %s", left)
	}
	if far := (handlers{kept: s}).after(315360000000000); far.Before(year) {
		t.Errorf("ten thousand years end at %s", far)
	}
}

// A sweep takes what has expired and nothing that is about to.
func TestSweepTakesNoMore(t *testing.T) {
	s := newStore(t)
	now := time.Now()
	s.now = func() time.Time { return now }
	over, soon := encoded(t, "over"), encoded(t, "soon")
	s.set(t, Mutation{Key: over, Value: BytesValue(nil), ExpiresAt: now})
	s.set(t, Mutation{Key: soon, Value: BytesValue(nil), ExpiresAt: now.Add(time.Second)})
	next, err := s.sweep(t.Context())
	if u, used := s.Usage(t.Context()); err != nil || used != nil || u.Count != 1 || next.UnixMilli() != now.Add(time.Second).UnixMilli() {
		t.Errorf("%d keys are left, next %s, %v", u.Count, next, errors.Join(err, used))
	}
	if _, err := s.Get(t.Context(), soon); err != nil {
		t.Error(err)
	}
}
