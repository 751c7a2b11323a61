package enrol

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// signals is a payload, and its updates.
type signals struct {
	healthy atomic.Bool
	changed chan struct{}
	offered chan api.Offer
	// takenBack are offers that do not stand any more.
	takenBack chan api.Offer
	// awaiting and status are what it says beside that.
	awaiting atomic.Bool
	status   atomic.Pointer[api.UpdateStatus]
}

func (s *signals) Running() bool                                         { return true }
func (s *signals) Healthy() bool                                         { return s.healthy.Load() }
func (s *signals) Changed() <-chan struct{}                              { return s.changed }
func (s *signals) Status() *api.UpdateStatus                             { return s.status.Load() }
func (s *signals) Offered(o api.Offer)                                   { s.offered <- o }
func (s *signals) TakenBack(o api.Offer)                                 { s.takenBack <- o }
func (s *signals) Awaiting() bool                                        { return s.awaiting.Load() }
func (s *signals) Endorse([]byte) error                                  { return nil }
func (s *signals) EKCertificate() []byte                                 { return []byte{1} }
func (s *signals) EKPublic() []byte                                      { return nil }
func (s *signals) AKPublic() []byte                                      { return nil }
func (s *signals) Evidence(attest.Channel, attest.Nonce) ([]byte, error) { return nil, nil }
func (s *signals) Activate(attest.Channel, []byte, []byte) (attest.Digest, error) {
	return attest.Digest{}, nil
}

// beat is a heartbeat as a control plane hears it; closing answer lets it go.
type beat struct {
	api.Heartbeat
	remote string
	answer chan api.HeartbeatAnswer
	gone   <-chan struct{}
}

// plane is a control plane that accepts everybody, and whose every answer the test
// gives.
type plane struct {
	t       *testing.T
	beats   chan beat
	enrols  atomic.Int64
	holds   bool
	address string
}

func newPlane(t *testing.T, holds bool) (*plane, attest.Digest) {
	t.Helper()
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, holds: holds, beats: make(chan beat), address: l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.EnrolBeginPath, func(w http.ResponseWriter, _ *http.Request) { p.say(w, api.EnrolChallenge{}) })
	mux.HandleFunc("POST "+api.EnrolFinishPath, func(w http.ResponseWriter, _ *http.Request) {
		p.enrols.Add(1)
		p.say(w, api.EnrolResult{Accepted: true, HeartbeatMS: maxHeartbeat.Milliseconds(), Holds: p.holds})
	})
	mux.HandleFunc("POST "+api.HeartbeatPath, p.hear)
	config := channel.ServerConfig(certificate)
	config.ClientAuth = tls.RequireAnyClientCert
	server := &http.Server{Handler: mux, TLSConfig: config, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return p, attest.Sum(spki)
}

func (p *plane) say(w http.ResponseWriter, what any) {
	if err := json.NewEncoder(w).Encode(what); err != nil {
		p.t.Error(err)
	}
}

func (p *plane) hear(w http.ResponseWriter, r *http.Request) {
	b := beat{remote: r.RemoteAddr, answer: make(chan api.HeartbeatAnswer), gone: r.Context().Done()}
	if err := json.NewDecoder(r.Body).Decode(&b.Heartbeat); err != nil {
		p.t.Error(err)
	}
	select {
	case p.beats <- b:
	case <-b.gone:
		return
	}
	select {
	case answer := <-b.answer:
		p.say(w, answer)
	case <-b.gone:
	}
}

// enrolled is a healthy machine at a control plane.
func enrolled(t *testing.T, holds bool) (*plane, *signals) {
	t.Helper()
	p, pin := newPlane(t, holds)
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &signals{changed: make(chan struct{}, 1), offered: make(chan api.Offer), takenBack: make(chan api.Offer)}
	s.healthy.Store(true)
	e := &Enroller{
		Config: api.Config{
			Version: api.ConfigVersion, Machine: strings.Repeat("a", 26), ControlPlane: p.address, ControlPlaneSPKI: pin,
		},
		Machine: s, Payload: s, Updates: s, Certificate: certificate, SPKI: spki, Log: zap.NewNop(),
		Enrolled: func(api.EnrolResult) {}, Refreshed: func([]byte) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p, s
}

// A machine about which nothing is new waits, and hears of an offer when it is made.
func TestOfferComesToOneThatWaits(t *testing.T) {
	p, s := enrolled(t, true)
	b := <-p.beats
	if !b.Waits {
		t.Errorf("it says %+v", b.Heartbeat)
	}
	want := api.Offer{Release: attest.ReleaseDigest{1}, Attempt: 7}
	b.answer <- api.HeartbeatAnswer{Offer: &want}
	if got := <-s.offered; got != want {
		t.Errorf("heard %+v", got)
	}
}

// A machine that goes after an offer hears that it was taken back, by the name that it
// said.
func TestOfferThatWasTakenBackIsHeardOf(t *testing.T) {
	p, s := enrolled(t, true)
	b := <-p.beats
	s.status.Store(&api.UpdateStatus{Release: attest.ReleaseDigest{1}, Attempt: 7, Step: api.UpdateFetching})
	// Nothing was said that could have been taken back.
	b.answer <- api.HeartbeatAnswer{TakenBack: true}
	s.changed <- struct{}{}
	b = <-p.beats
	b.answer <- api.HeartbeatAnswer{TakenBack: true}
	if got, want := <-s.takenBack, (api.Offer{Release: attest.ReleaseDigest{1}, Attempt: 7}); got != want {
		t.Errorf("heard of %+v, want %+v", got, want)
	}
}

// What is new is reported at once, on another connection where an answer is held,
// and without enrolling anew; nothing waits before the news is over.
func TestNewsEndsAWait(t *testing.T) {
	p, s := enrolled(t, true)
	first := <-p.beats
	s.healthy.Store(false)
	s.changed <- struct{}{}
	<-first.gone
	second := <-p.beats
	if second.Healthy || second.Waits || second.remote == first.remote {
		t.Errorf("%s says %+v, after %s", second.remote, second.Heartbeat, first.remote)
	}
	second.answer <- api.HeartbeatAnswer{}
	s.healthy.Store(true)
	s.changed <- struct{}{}
	third := <-p.beats
	if !third.Healthy || !third.Waits || third.remote != second.remote {
		t.Errorf("%s says %+v, after %s", third.remote, third.Heartbeat, second.remote)
	}
	if n := p.enrols.Load(); n != 1 {
		t.Errorf("it enrolled %d times", n)
	}
}

// A control plane that holds no answers is not asked to.
func TestNobodyIsAskedToHold(t *testing.T) {
	p, s := enrolled(t, false)
	for range 2 {
		b := <-p.beats
		if b.Waits {
			t.Errorf("it says %+v", b.Heartbeat)
		}
		b.answer <- api.HeartbeatAnswer{}
		s.changed <- struct{}{}
	}
	(<-p.beats).answer <- api.HeartbeatAnswer{}
}

// Nothing waits that will soon have something to say.
func TestWhoHasSomethingToSayDoesNotWait(t *testing.T) {
	p, s := enrolled(t, true)
	first := <-p.beats
	for _, c := range []struct {
		awaiting bool
		step     api.UpdateStep
		waits    bool
	}{{true, "", false}, {false, api.UpdateFetching, false}, {false, api.UpdateTrying, false}, {false, api.UpdateDone, true}} {
		s.awaiting.Store(c.awaiting)
		s.status.Store(nil)
		if c.step != "" {
			s.status.Store(&api.UpdateStatus{Release: attest.ReleaseDigest{1}, Attempt: 1, Step: c.step})
		}
		if first.answer != nil && first.Waits {
			s.changed <- struct{}{}
			<-first.gone
		} else {
			first.answer <- api.HeartbeatAnswer{}
			s.changed <- struct{}{}
		}
		if first = <-p.beats; first.Waits != c.waits {
			t.Errorf("%+v: it says %+v", c, first.Heartbeat)
		}
	}
}
