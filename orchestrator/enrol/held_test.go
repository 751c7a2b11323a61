package enrol_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
)

// settled is a heartbeat of a machine about which nothing is new.
var settled = api.Heartbeat{Machine: machineID, Running: true, Healthy: true, Waits: true}

// waits has the machine wait for an answer, and is what came of that.
func (a *agent) waits() <-chan api.HeartbeatAnswer {
	a.t.Helper()
	heard := make(chan api.HeartbeatAnswer, 1)
	go func() {
		var answer api.HeartbeatAnswer
		if got := a.call(api.HeartbeatPath, settled, &answer); got != http.StatusOK {
			a.t.Errorf("heartbeat: %d", got)
		}
		heard <- answer
	}()
	a.holding(1)
	return heard
}

// holding waits until so many answers are held.
func (g *gate) holding(n int) {
	g.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for late := time.After(time.Minute); g.server.Holding() != n; {
		select {
		case <-ticker.C:
		case <-late:
			g.t.Fatalf("%d answers are held, want %d", g.server.Holding(), n)
		}
	}
}

// A machine that waits hears of an offer when it is made, and of nothing else.
func TestOfferEndsAWait(t *testing.T) {
	g := newGateEvery(t, swtpmtest.Start(t), time.Hour)
	a := g.dial()
	if r := a.enrol(); !r.Holds {
		t.Error("it does not say that it holds answers")
	}
	heard := a.waits()
	g.server.Wake("another")
	g.server.Wake(machineID)
	next := g.next()
	g.offerTo(next)
	g.server.Wake(machineID)
	if got := <-heard; got.Offer == nil || got.Offer.Release != next.Digest {
		t.Errorf("heard %+v", got)
	}
	// Until it names the offer it hears of it at once.
	var answer api.HeartbeatAnswer
	if a.call(api.HeartbeatPath, settled, &answer); answer.Offer == nil {
		t.Errorf("heard %+v", answer)
	}
}

// One answer is held for a machine: asking once more ends the wait before.
func TestWaitIsOneForAMachine(t *testing.T) {
	g := newGateEvery(t, swtpmtest.Start(t), time.Hour)
	a := g.dial()
	a.enrol()
	first := a.waits()
	second := a.again().waits()
	if got := <-first; got.Offer != nil {
		t.Errorf("heard %+v", got)
	}
	g.offerTo(g.next())
	g.server.Wake(machineID)
	if got := <-second; got.Offer == nil {
		t.Error("the offer was not heard")
	}
	if n := g.server.Holding(); n != 0 {
		t.Errorf("%d answers are held", n)
	}
}

// A wait is over when the next heartbeat is due.
func TestWaitIsBounded(t *testing.T) {
	g := newGateEvery(t, swtpmtest.Start(t), 10*time.Millisecond)
	a := g.dial()
	a.enrol()
	var answer api.HeartbeatAnswer
	if got := a.call(api.HeartbeatPath, settled, &answer); got != http.StatusOK || answer.Offer != nil {
		t.Errorf("heartbeat: %d, %+v", got, answer)
	}
}

// Nothing is held for a machine that has gone, nor for one that does not wait.
func TestNobodyWaits(t *testing.T) {
	g := newGateEvery(t, swtpmtest.Start(t), time.Hour)
	a := g.dial()
	a.enrol()
	if got := a.call(api.HeartbeatPath, api.Heartbeat{Machine: machineID, Running: true, Healthy: true}, nil); got != http.StatusOK {
		t.Errorf("heartbeat: %d", got)
	}
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := a.conn.Call(ctx, http.MethodPost, api.HeartbeatPath, "application/json", []byte(`{"machine":"`+machineID+`","waits":true}`), 1<<10)
		gone <- err
	}()
	g.holding(1)
	leave()
	if err := <-gone; err == nil {
		t.Error("it was answered")
	}
	g.holding(0)
}

// What is said between reading a row and waiting is not missed.
func TestWakeBeforeTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := enrol.NewHeld()
		since := h.Count()
		h.Wake("m")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		if !h.Wait(ctx, "m", since) || time.Since(began) != 0 {
			t.Errorf("it waited for %s", time.Since(began))
		}
		if h.Wait(ctx, "m", h.Count()) || time.Since(began) != time.Hour {
			t.Errorf("it waited for %s", time.Since(began))
		}
	})
}

// Who waits under a key that another boot has replaced meanwhile hears of nothing.
func TestWaitIsOfTheKeyThatEnrolled(t *testing.T) {
	g := newGateEvery(t, swtpmtest.Start(t), time.Hour)
	a := g.dial()
	a.enrol()
	status := make(chan int, 1)
	go func() { status <- a.call(api.HeartbeatPath, settled, nil) }()
	g.holding(1)
	g.offerTo(g.next())
	g.change(func(i *orchestrator.Instance) { i.Enrolment.Session[0]++ })
	g.server.Wake(machineID)
	if got := <-status; got != http.StatusForbidden {
		t.Errorf("heartbeat: %d", got)
	}
}

// late is an answer that tells until when it may be written.
type late struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (l *late) SetWriteDeadline(until time.Time) error {
	l.until = until
	return nil
}

// There is time to write an answer from when it is known, however long it was held.
func TestHeldAnswerHasTimeToBeWritten(t *testing.T) {
	g := newGate(t)
	w, began := &late{ResponseRecorder: httptest.NewRecorder()}, time.Now()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, api.HeartbeatPath, strings.NewReader(`{"machine":"nobody"}`))
	if g.server.Routes().ServeHTTP(w, r); w.Code != http.StatusForbidden || !w.until.After(began) {
		t.Errorf("%d, until %s", w.Code, w.until)
	}
}

// A wait that ends as another begins does not take that one's place with it.
func TestWaitThatEndsAsAnotherBegins(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			h := enrol.NewHeld()
			first, leave := context.WithCancel(t.Context())
			go h.Wait(first, "m", 0)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			leave()
			second := make(chan bool, 1)
			go func() { second <- h.Wait(ctx, "m", 0) }()
			synctest.Wait()
			h.Wake("m")
			if !<-second {
				t.Error("it is not woken")
			}
		})
	}
}
