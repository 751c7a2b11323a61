package client

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"
	"unsafe"
)

// asleep is the time after a sleep, which the clock that only runs has not seen: of
// a time.Time's two readings the wall clock's alone is later. Nothing but its layout
// has the two disagree.
func asleep(t *testing.T, at time.Time, sleep time.Duration) time.Time {
	t.Helper()
	wall := (*uint64)(unsafe.Pointer(&at))   //nolint:gosec // as above
	*wall += uint64(sleep/time.Second) << 30 // back in time wraps around
	return at
}

// A computer that slept wakes with connections that are as old as its sleep was
// long, though one of its clocks stood still.
func TestTrustExpiresAsleep(t *testing.T) {
	verified := time.Now()
	woken := asleep(t, verified, 2*time.Hour)
	if woken.Sub(verified) != 0 || woken.Round(0).Sub(verified.Round(0)) != 2*time.Hour {
		t.Fatalf("the two clocks do not disagree: %s", woken)
	}
	machine := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	tr := newTransport(t, machine, 0)
	s := &Session{Conn: dial(t, machine), VerifiedAt: verified}
	ours, theirs := net.Pipe()
	// Where it is read at all, it has ended.
	theirs.Close()
	now := verified
	c := (&Dialer{Trust: Trust{Now: func() time.Time { return now }}, Lifetime: time.Hour}).expiring(ours, s)
	defer c.Close()
	for at, want := range map[time.Time]bool{verified: true, woken: false} {
		now = at
		tr.Trust.Now = func() time.Time { return at }
		if got := tr.trusted(s); got != want {
			t.Errorf("at %s the transport's connection is trusted: %t", at, got)
		}
	}
	now = woken
	if _, err := c.Read(nil); !errors.Is(err, ErrExpired) {
		t.Errorf("the dialer's connection: %v", err)
	}
}

// A wall clock that was set back makes no trust last longer.
func TestTrustExpiresWithTheClockSetBack(t *testing.T) {
	verified := time.Now()
	back := asleep(t, verified.Add(2*time.Hour), -24*time.Hour)
	if got := age(back, verified); got != 2*time.Hour {
		t.Errorf("two hours old, by a clock set back: %s", got)
	}
}
