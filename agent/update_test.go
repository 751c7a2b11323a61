package agent_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/update"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// releases stands where the control plane is, which package orchestrator has: it
// gives out releases, and images that are texts.
type releases struct {
	of    map[attest.ReleaseDigest]api.UpdateRelease
	files map[attest.ReleaseDigest]string
	// write is what a change of a list is fetched as.
	write []byte
}

func (r *releases) Release(_ context.Context, d attest.ReleaseDigest) (api.UpdateRelease, error) {
	return r.of[d], nil
}

func (r *releases) File(_ context.Context, d attest.ReleaseDigest, name string, offset int64) ([]byte, error) {
	b := []byte(r.files[d])
	if name == writeName {
		b = r.write
	}
	return b[offset:min(len(b), int(offset)+3)], nil
}

// add offers a release of an image, whose text is what is fetched.
func (m *machine) add(r *releases, version, image string, epoch uint64) attest.ReleaseDigest {
	m.t.Helper()
	e := m.releaseOf(version, image, epoch)
	d := attest.ReleaseDigest(attest.Sum(e.Manifest))
	if r.of == nil {
		r.of, r.files = map[attest.ReleaseDigest]api.UpdateRelease{}, map[attest.ReleaseDigest]string{}
	}
	r.of[d], r.files[d] = api.UpdateRelease{Manifest: e.Manifest, Bundle: e.Bundle}, image
	m.epoch[image] = epoch
	return d
}

// follow runs the machine's updates until it is to start anew, and starts it.
func (m *machine) follow(r *releases) {
	m.t.Helper()
	if err := m.FollowUpdates(m.t.Context(), r); !errors.Is(err, update.ErrRestart) {
		m.t.Fatalf("updates ended with %v", err)
	}
	m.reboot()
}

// until follows updates until a step, without a restart.
func (m *machine) until(r *releases, step api.UpdateStep) *api.UpdateStatus {
	m.t.Helper()
	ctx, cancel := context.WithCancel(m.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.FollowUpdates(ctx, r) }()
	defer func() { cancel(); <-ended }()
	for {
		if s := m.status(); s != nil && s.Step == step {
			return s
		}
		select {
		case <-m.Enroller().Updates.Changed():
		case err := <-ended:
			ended <- err
			m.t.Fatalf("updates ended with %v at %+v", err, m.status())
		}
	}
}

func (m *machine) status() *api.UpdateStatus { return m.Enroller().Updates.Status() }

func (m *machine) offer(d attest.ReleaseDigest, attempt uint64) {
	m.Enroller().Updates.Offered(api.Offer{Release: d, Attempt: attempt})
}

// shown is what the owner is told.
func (m *machine) shown(keys client.Keys) channel.Update {
	m.t.Helper()
	s := m.connect()
	req, err := s.Conn.Request(m.t.Context(), http.MethodGet, channel.UpdatePath, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set(ownership.Header, s.Token(keys))
	b, err := s.Conn.Do(req, channel.MaxUpdateBytes)
	if err != nil {
		m.t.Fatal(err)
	}
	var u channel.Update
	if err := canon.Unmarshal("update", b, channel.MaxUpdateBytes, &u); err != nil {
		m.t.Fatal(err)
	}
	return u
}

// approve is the owner's word for a release, over the machine's own port.
func (m *machine) approve(keys client.Keys, d attest.ReleaseDigest, epoch uint64, change func(*ownership.ApprovalBody)) error {
	m.t.Helper()
	s := m.connect()
	body := ownership.ApprovalBody{
		Claim: s.Evidence.Claim, Number: m.shown(keys).Number, Release: d, Epoch: epoch,
		From: s.Evidence.Registers.SealDigest(false),
	}
	if change != nil {
		change(&body)
	}
	a, err := ownership.Approve(keys.Owner, body)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.send(s, keys, a.Encode())
}

func (m *machine) send(s *client.Session, keys client.Keys, approval []byte) error {
	m.t.Helper()
	req, err := s.Conn.Request(m.t.Context(), http.MethodPost, channel.UpdatePath, approval)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", channel.ContentType)
	req.Header.Set(ownership.Header, s.Token(keys))
	_, err = s.Conn.Do(req, channel.MaxRequestBytes)
	return err
}

// serves asks the payload something, as the owner.
func (m *machine) serves(keys client.Keys) int {
	m.t.Helper()
	if !m.Trying() {
		if err := m.payload.WaitHealthy(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
	s := m.connect()
	req, err := s.Conn.Request(m.t.Context(), http.MethodGet, "/note", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set(ownership.Header, s.Token(keys))
	_, err = s.Conn.Do(req, 1<<12)
	if err != nil {
		return status(err)
	}
	return http.StatusOK
}

// Forward: design promise 12, from an offer to the next release alone.
func TestUpdateForward(t *testing.T) {
	m, keys, _ := claimed(t)
	r := new(releases)
	d := m.add(r, "1.1.0", "next", 2)
	m.offer(d, 1)
	m.until(r, api.UpdateAwaiting)
	shown := m.shown(keys)
	if shown.Release != d || shown.Number != 1 || attest.ReleaseDigest(attest.Sum(shown.Manifest)) != d {
		t.Errorf("the owner is told of release %s, update %d", shown.Release, shown.Number)
	}
	if err := m.approve(keys, d, 2, nil); err != nil {
		t.Fatal(err)
	}
	m.follow(r)
	if s := m.status(); s == nil || s.Step != api.UpdateTrying || !m.Trying() {
		t.Fatalf("on trial: %+v", s)
	}
	m.runs("next")
	if got := m.serves(keys); got != http.StatusServiceUnavailable {
		t.Errorf("the payload is asked on trial: %d", got)
	}
	m.until(r, api.UpdateDone)
	if got := m.serves(keys); got != http.StatusOK {
		t.Errorf("the payload answers %d afterwards", got)
	}
	if want := []string{"trial", "keep", "tidy"}; !slices.Equal(m.data.used, want) {
		t.Errorf("the data was used for %q, want %q", m.data.used, want)
	}
	m.reboot()
	m.runs("next")
	if want := []string{"settled"}; !slices.Equal(m.data.used, want) || m.Trying() {
		t.Errorf("the data was used for %q, want %q", m.data.used, want)
	}
	if s := m.status(); s == nil || s.Step != api.UpdateDone || s.Release != d {
		t.Errorf("afterwards: %+v", s)
	}
	if n := m.shown(keys).Number; n != 2 {
		t.Errorf("the next update is number %d", n)
	}
}

// runs wants the machine to show an image, whose release its evidence then has.
func (m *machine) runs(image string) {
	m.t.Helper()
	if image != "image" {
		m.SetReferenceValues(m.releaseOf("1.1.0", image, m.epoch[image]))
	}
	if s := m.connect(); s.Release.UKI.SHA256 != attest.Sum([]byte(image)) {
		m.t.Errorf("the machine runs %s, want %s", s.Release.UKI.SHA256, attest.Sum([]byte(image)))
	}
}

// Back: whatever keeps the next release from being healthy, the one before goes on
// with the data as it left it.
func TestUpdateFallsBack(t *testing.T) {
	for name, c := range map[string]struct {
		image  string
		fail   func(m *machine)
		reason api.UpdateReason
	}{
		"it does not start": {"broken", nil, api.ReasonNotStarted},
		"it is cut off":     {"next", func(m *machine) { m.reboot() }, api.ReasonNotStarted},
		"it is powered off": {"next", func(m *machine) {
			ctx, off := context.WithTimeout(m.t.Context(), 100*time.Millisecond)
			defer off()
			if err := m.FollowUpdates(ctx, new(releases)); !errors.Is(err, context.DeadlineExceeded) {
				m.t.Errorf("its trial ended with %v", err)
			}
			m.reboot()
		}, api.ReasonNotStarted},
		"its payload is not healthy": {"next", func(m *machine) {
			m.follow(new(releases))
		}, api.ReasonUnhealthy},
		"the control plane does not accept it": {"next", func(m *machine) {
			refused := m.releaseOf("1.1.0", "next", 2)
			refused.Accepted = false
			m.SetReferenceValues(refused)
			m.follow(new(releases))
		}, api.ReasonNotEnrolled},
		"the data does not mount": {"next", nil, api.ReasonNotStarted},
	} {
		t.Run(name, func(t *testing.T) {
			m, keys, _ := claimed(t)
			r := new(releases)
			d := m.add(r, "1.1.0", c.image, 2)
			m.offer(d, 1)
			m.until(r, api.UpdateAwaiting)
			if err := m.approve(keys, d, 2, nil); err != nil {
				t.Fatal(err)
			}
			m.unhealthy["next"] = name == "its payload is not healthy" || name == "it is powered off"
			if name == "its payload is not healthy" {
				m.trialWait = 300 * time.Millisecond
			}
			m.brokenFor = ""
			if name == "the data does not mount" {
				m.brokenFor = "next"
			}
			m.follow(r)
			if c.fail != nil {
				c.fail(m)
			}
			m.runs("image")
			s := m.status()
			if s == nil || s.Step != api.UpdateFellBack || s.Reason != c.reason || s.Release != d {
				t.Errorf("it says %+v, want %s", s, c.reason)
			}
			if got := m.serves(keys); got != http.StatusOK {
				t.Errorf("the payload answers %d", got)
			}
			if want := []string{"restored", "tidy"}; !slices.Equal(m.data.used, want) {
				t.Errorf("the data was used for %q, want %q", m.data.used, want)
			}
			// It is not tried again by itself, and is when it is offered again.
			m.reboot()
			m.runs("image")
			if want := []string{"settled"}; !slices.Equal(m.data.used, want) {
				t.Errorf("the data was used for %q, want %q", m.data.used, want)
			}
			if s := m.status(); s == nil || s.Step != api.UpdateFellBack {
				t.Errorf("after another boot: %+v", s)
			}
			m.brokenFor, m.unhealthy["next"], m.trialWait = "", false, time.Minute
			if c.image == "broken" {
				return
			}
			m.offer(d, 2)
			m.follow(r)
			m.runs("next")
			m.until(r, api.UpdateDone)
		})
	}
}

// What no owner approved, or is not theirs to run, is not tried: the running slot is
// untouched.
func TestUpdateThatIsRefused(t *testing.T) {
	m, keys, _ := claimed(t)
	before := m.starts.read(running)
	m.epoch["image"] = 2
	m.reboot()
	r := new(releases)
	unsigned := m.add(r, "1.1.0", "unsigned", 3)
	r.of[unsigned] = api.UpdateRelease{Manifest: r.of[unsigned].Manifest, Bundle: m.endorsement("9.9.9").Bundle}
	another := m.add(r, "1.2.0", "another", 3)
	r.of[another] = r.of[m.add(r, "1.3.0", "yet another", 3)]
	changed := m.add(r, "1.4.0", "changed", 3)
	r.files[changed] = "CHANGED"
	short := m.add(r, "1.5.0", "short", 3)
	r.files[short] = "sho"
	for n, c := range []struct {
		release attest.ReleaseDigest
		reason  api.UpdateReason
	}{
		{m.add(r, "1.0.1", "older", 1), api.ReasonOlder},
		{unsigned, api.ReasonUnsigned},
		{another, api.ReasonUnreadable},
		{changed, api.ReasonUnreadable},
		{short, api.ReasonUnreadable},
	} {
		m.offer(c.release, uint64(n)+1)
		if c.release == changed || c.release == short {
			m.until(r, api.UpdateAwaiting)
			if err := m.approve(keys, c.release, 3, nil); err != nil {
				t.Fatal(err)
			}
		}
		if s := m.until(r, api.UpdateRefused); s.Reason != c.reason {
			t.Errorf("offer %d is refused for %q, want %q", n, s.Reason, c.reason)
		}
	}
	m.reboot()
	m.runs("image")
	if after := m.starts.read(running); after != before {
		t.Errorf("the running slot has %q", after)
	}
}

// A word that is not the owner's, or not for this state of the machine, is none.
func TestApprovalsThatAreNotTaken(t *testing.T) {
	m, keys, _ := claimed(t)
	r := new(releases)
	d := m.add(r, "1.1.0", "next", 2)
	if err := m.approve(keys, d, 2, nil); status(err) != http.StatusConflict {
		t.Errorf("before anything is offered: %v", err)
	}
	m.offer(d, 1)
	m.until(r, api.UpdateAwaiting)
	for name, change := range map[string]func(*ownership.ApprovalBody){
		"another release's":  func(b *ownership.ApprovalBody) { b.Release[0]++ },
		"another claim's":    func(b *ownership.ApprovalBody) { b.Claim[0]++ },
		"another update's":   func(b *ownership.ApprovalBody) { b.Number++ },
		"from another image": func(b *ownership.ApprovalBody) { b.From[0]++ },
	} {
		if err := m.approve(keys, d, 2, change); status(err) != http.StatusConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := m.connect()
	stranger := newKeys(t)
	if err := m.send(s, stranger, nil); status(err) != http.StatusUnauthorized {
		t.Errorf("a stranger's: %v", err)
	}
	forged, err := ownership.Approve(stranger.Owner, ownership.ApprovalBody{
		Claim: s.Evidence.Claim, Number: 1, Release: d, Epoch: 2, From: s.Evidence.Registers.SealDigest(false),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.send(s, keys, forged.Encode()); status(err) != http.StatusConflict {
		t.Errorf("one that a stranger signed: %v", err)
	}
	if err := m.send(s, keys, []byte("approve")); status(err) != http.StatusBadRequest {
		t.Errorf("garbage: %v", err)
	}
	// One for another epoch than the release has is kept, and opens nothing.
	if err := m.approve(keys, d, 7, nil); err != nil {
		t.Fatal(err)
	}
	m.until(r, api.UpdateAwaiting)
	if m.starts.booted[len(m.starts.booted)-1] != running {
		t.Error("the other slot was started")
	}
}

// A machine without an owner has nothing to keep.
func TestUpdateWithoutAnOwner(t *testing.T) {
	m := newMachine(t)
	r := new(releases)
	m.offer(m.add(r, "1.1.0", "next", 2), 1)
	if s := m.until(r, api.UpdateRefused); s.Reason != api.ReasonUnclaimed {
		t.Errorf("it is refused for %q", s.Reason)
	}
}

// claimedStanding is a machine whose owner is not asked.
func claimedStanding(t *testing.T) *machine {
	t.Helper()
	m, keys := newMachine(t), newKeys(t)
	trust := m.trust()
	trust.Updates = client.Updates{Standing: true}
	s, err := trust.Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Claim(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	return m
}

// Under a standing policy nobody is asked: the next release takes the data from the
// one whose own release is vouched for.
func TestUpdateUnderAStandingPolicy(t *testing.T) {
	m := claimedStanding(t)
	r := new(releases)
	m.offer(m.add(r, "1.1.0", "next", 2), 1)
	m.follow(r)
	if !m.Trying() {
		t.Fatalf("it is not on trial: %+v", m.status())
	}
	m.runs("next")
	m.until(r, api.UpdateDone)
	m.reboot()
	m.runs("next")
}

// What the other slot says of itself is the host's to write.
func TestStandingPolicyTakesNoForeignPredecessor(t *testing.T) {
	m := claimedStanding(t)
	r := new(releases)
	m.offer(m.add(r, "1.1.0", "next", 2), 1)
	if err := m.FollowUpdates(t.Context(), r); !errors.Is(err, update.ErrRestart) {
		t.Fatal(err)
	}
	m.starts.write("SHED/FROM.BIN", "somebody else's")
	m.reboot()
	m.runs("image")
	if s := m.status(); s == nil || s.Step != api.UpdateFellBack {
		t.Errorf("it says %+v", s)
	}
}
