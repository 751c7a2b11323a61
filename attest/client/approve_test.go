package client

import (
	"crypto"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// offering is a machine that was offered a release, and its owner's session with it.
type offering struct {
	*Session
	t    *testing.T
	keys Keys
	own  *ownership.Claim
	key  logtest.ReleaseKey
	log  *logtest.Log

	// mu guards the fields below.
	mu     sync.Mutex
	shown  channel.Update
	status int
	// came is what was posted, and learned what the client was told to remember.
	came    [][]byte
	learned release.Memory
}

// newOffering is a machine on a release of epoch 3 that was offered one of epoch.
func newOffering(t *testing.T, epoch uint64) *offering {
	t.Helper()
	o := &offering{t: t, keys: newKeys(t), key: logtest.NewReleaseKey(t), log: logtest.New(t, 2), status: http.StatusOK}
	name := append([]byte{0, 0x0b}, make([]byte, 32)...)
	o.own = sign(t, o.keys, name, 1)
	o.show(logtest.NewRelease(t, o.key, epoch))
	running, err := release.ParseManifest(logtest.NewRelease(t, o.key, 3).Manifest)
	if err != nil {
		t.Fatal(err)
	}
	o.Session = &Session{
		Conn: dial(t, serve(t, o.answer)), Release: running,
		Evidence: &verifier.Verified{AK: name, Claim: o.own.Digest(), Registers: &attest.Registers{2: {2}, 4: {4}, 7: {7}, 11: {11}, 0: {9}}},
		trust: Trust{
			ReleaseKey: o.key.Public(), Log: o.log.Policy(), Rand: rand.Reader, Now: func() time.Time { return o.log.Time },
			Learn: func(m release.Memory) error { o.learned = o.learned.Merge(m); return nil },
		},
	}
	return o
}

// show offers a release that stands in the log, with what stands beside it.
func (o *offering) show(r logtest.Release, beside ...int64) {
	index := o.log.Add(r.Entry)
	o.shown = channel.Update{
		Step: string(UpdateAwaiting), Release: r.Digest, Manifest: r.Manifest, Bundle: r.Bundle, Proof: o.log.Document(index, beside...), Number: 7,
	}
}

func (o *offering) answer(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case r.URL.Path == channel.ClaimDocumentPath:
		w.Write(o.own.Encode()) //nolint:errcheck // the client sees
	case r.Header.Get(ownership.Header) == "":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == channel.UpdatePath && r.Method == http.MethodGet:
		b, err := canon.Marshal(o.shown)
		if err != nil {
			o.t.Error(err)
		}
		w.WriteHeader(o.status)
		w.Write(b) //nolint:errcheck // the client sees
	case r.URL.Path == channel.UpdatePath:
		b, err := io.ReadAll(r.Body)
		if err != nil {
			o.t.Error(err)
		}
		o.came = append(o.came, b)
		w.WriteHeader(o.status)
	}
}

// approve asks and approves, as shed update approve does.
func (o *offering) approve() error {
	offered, err := o.Offered(o.t.Context(), o.keys)
	if err != nil {
		return err
	}
	_, err = o.Approve(o.t.Context(), o.keys, offered)
	return err
}

// What is signed is for this machine, this update, this release, and the one that
// the machine was verified to run.
func TestApproval(t *testing.T) {
	for name, firmware := range map[string]*release.Firmware{"a cloud's": nil, "its own": {}} {
		o := newOffering(t, 4)
		o.Release.Firmware = firmware
		if err := o.approve(); err != nil || len(o.came) != 1 {
			t.Fatalf("%s: %v, %d approvals", name, err, len(o.came))
		}
		a, err := ownership.ParseApproval(o.came[0], o.own)
		if err != nil {
			t.Fatal(err)
		}
		want := ownership.ApprovalBody{
			Version: ownership.ApprovalVersion, Claim: o.own.Digest(), Number: 7,
			From: o.Evidence.Registers.SealDigest(firmware != nil), Release: o.shown.Release, Epoch: 4,
		}
		if a.Body != want {
			t.Errorf("%s: %+v, want %+v", name, a.Body, want)
		}
	}
}

// Nothing is approved that the client's own trust does not vouch for.
func TestWhatIsNotApproved(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*offering)
		want  error
	}{
		"no offer":               {func(o *offering) { o.shown = channel.Update{Number: 7} }, ErrNoOffer},
		"not shown":              {func(o *offering) { o.shown.Manifest, o.shown.Bundle, o.shown.Proof = nil, nil, nil }, ErrNoOffer},
		"refused by the machine": {func(o *offering) { o.shown.Step, o.shown.Reason = "refused", "unlogged" }, ErrNoOffer},
		"under way":              {func(o *offering) { o.shown.Step = "installing" }, ErrNoOffer},
		"older than it runs":     {func(o *offering) { o.show(logtest.NewRelease(o.t, o.key, 2)) }, ErrOlder},
		"older than was seen":    {func(o *offering) { o.trust.Policy.EpochFloor = 5 }, ErrOlder},
		"another architecture":   {func(o *offering) { o.Release.Architecture = "arm64" }, attest.ErrRelease},
		"another signer":         {func(o *offering) { o.trust.ReleaseKey = logtest.NewReleaseKey(o.t).Public() }, attest.ErrSignature},
		"another bundle":         {func(o *offering) { o.shown.Bundle = logtest.NewRelease(o.t, logtest.NewReleaseKey(o.t), 4).Bundle }, attest.ErrSignature},
		"without a proof":        {func(o *offering) { o.shown.Proof = nil }, attest.ErrTransparency},
		"stale witnesses":        {func(o *offering) { o.trust.Now = func() time.Time { return o.log.Time.Add(2 * time.Hour) } }, attest.ErrTransparency},
		"another release's name": {func(o *offering) { o.shown.Release[0]++ }, attest.ErrMalformed},
		"no release's name":      {func(o *offering) { o.shown.Release = attest.ReleaseDigest{} }, attest.ErrMalformed},
		"a step that is none":    {func(o *offering) { o.shown.Step = "root" }, attest.ErrMalformed},
		"a reason that is long":  {func(o *offering) { o.shown.Reason = strings.Repeat("x", 65) }, attest.ErrMalformed},
		"nobody's machine":       {func(o *offering) { o.Evidence.Claim = attest.Digest{} }, attest.ErrClaim},
		"another's machine":      {func(o *offering) { o.keys = newKeys(o.t) }, ErrAnothers},
		"another machine's":      {func(o *offering) { o.Evidence.Claim[0]++ }, attest.ErrClaim},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffering(t, 4)
			c.spoil(o)
			if err := o.approve(); !errors.Is(err, c.want) || len(o.came) != 0 {
				t.Errorf("%v, want %v; %d approvals", err, c.want, len(o.came))
			}
		})
	}
}

// A withdrawal is learned from what is offered, and holds for the release itself, now
// or from before.
func TestWithdrawnReleaseIsNotApproved(t *testing.T) {
	o := newOffering(t, 4)
	withdrawal := o.log.Add(o.key.Entry(logentry.Body{
		Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: o.shown.Release, Reason: logentry.ReasonFaulty},
	}))
	withdrawn := o.shown
	o.shown.Proof = o.log.Document(0, withdrawal)
	for range 2 {
		if err := o.approve(); !errors.Is(err, attest.ErrTransparency) || len(o.came) != 0 || len(o.learned.Withdrawn) != 1 {
			t.Errorf("%v, learned %v", err, o.learned.Withdrawn)
		}
		// Who does not show it any more changes nothing.
		o.shown = withdrawn
	}
}

// While a release may be given up, what is remembered of it would keep its owner from
// the one before.
func TestReleaseOnTrial(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*offering)
		want  bool
	}{
		"trying":         {func(o *offering) { o.shown.Step = "trying" }, true},
		"done":           {func(o *offering) { o.shown.Step = "done" }, false},
		"another's":      {func(o *offering) { o.shown.Step, o.Logged.Digest = "trying", attest.ReleaseDigest{1} }, false},
		"no offer":       {func(o *offering) { o.shown = channel.Update{Number: 7} }, false},
		"busy":           {func(o *offering) { o.status = http.StatusServiceUnavailable }, true},
		"never updated":  {func(o *offering) { o.status = http.StatusNotFound }, false},
		"something else": {func(o *offering) { o.shown.Step = "hello" }, false},
	} {
		o := newOffering(t, 4)
		o.Logged.Digest = o.shown.Release
		c.spoil(o)
		if got, err := o.OnTrial(t.Context(), o.keys); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Of several keys of one publisher each signs what may be approved.
func TestOtherKeysReleaseIsApproved(t *testing.T) {
	o := newOffering(t, 4)
	o.trust.ReleaseKey, o.trust.OtherKeys = logtest.NewReleaseKey(t).Public(), []crypto.PublicKey{o.key.Public()}
	if err := o.approve(); err != nil {
		t.Error(err)
	}
}

func FuzzUpdate(f *testing.F) {
	for _, u := range []channel.Update{
		{Number: 1}, {Step: "awaiting-approval", Release: attest.ReleaseDigest(attest.Sum([]byte("m"))), Manifest: []byte("m"), Bundle: []byte("b"), Proof: []byte("p"), Number: 2},
		{Step: "refused", Reason: "unsigned", Release: attest.ReleaseDigest{1}}, {Step: "root"},
	} {
		b, err := canon.Marshal(u)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseUpdate(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		if !o.Step.known() || len(o.Reason) > maxReason || len(o.shown.Manifest) > 0 && attest.ReleaseDigest(attest.Sum(o.shown.Manifest)) != o.Release {
			t.Errorf("taken: %+v", o)
		}
	})
}

// The release that runs is not on trial while it waits for its owner to have it change
// db; and what an owner is asked is the change alone.
func TestChangeIsNoTrial(t *testing.T) {
	o := newOffering(t, 4)
	m, err := release.ParseManifest(o.shown.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	logtest.Changing(m)
	offered := release.Logged{Manifest: m, Digest: o.shown.Release}
	if c, now := o.Change(offered); c != m.SecureBootChange || now {
		t.Errorf("of a release that does not run: %+v, %t", c, now)
	}
	o.Release, o.Logged = m, offered
	seven := func(b *release.Boot) {
		if err := o.Evidence.Registers[7].UnmarshalText([]byte(b.SHA256["7"])); err != nil {
			t.Fatal(err)
		}
	}
	seven(m.BeforeChange())
	if c, now := o.Change(offered); c != m.SecureBootChange || !now {
		t.Errorf("before the change: %+v, %t", c, now)
	}
	for step, want := range map[UpdateStep]bool{UpdateAwaiting: false, UpdateFellBack: false, UpdateFetching: false, UpdateInstalling: true, UpdateTrying: true} {
		o.shown.Step = string(step)
		if got, err := o.OnTrial(t.Context(), o.keys); got != want || err != nil {
			t.Errorf("%s: %t, %v", step, got, err)
		}
	}
	seven(m.AfterChange())
	if c, now := o.Change(offered); c != nil || now {
		t.Errorf("after the change: %+v, %t", c, now)
	}
}

// A release of the very image that runs has its change made at once, by the word that is
// given for it: its owner is told so, though another release shows the image as its own.
func TestChangeOfTheImageThatRuns(t *testing.T) {
	o := newOffering(t, 4)
	m, err := release.ParseManifest(o.shown.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	logtest.Changing(m)
	offered := release.Logged{Manifest: m, Digest: o.shown.Release}
	o.Logged.Digest = attest.ReleaseDigest{1}
	shows := func(b *release.Boot) {
		for _, n := range []uint8{4, 7, 11} {
			if err := o.Evidence.Registers[n].UnmarshalText([]byte(b.SHA256[strconv.Itoa(int(n))])); err != nil {
				t.Fatal(err)
			}
		}
	}
	shows(m.BeforeChange())
	if c, now := o.Change(offered); c != m.SecureBootChange || !now {
		t.Errorf("the image that runs: %+v, %t", c, now)
	}
	// Register 7 is another where another certificate has signed the same image.
	for _, n := range []uint8{4, 7, 11} {
		shows(m.BeforeChange())
		o.Evidence.Registers[n][0]++
		if c, now := o.Change(offered); c != m.SecureBootChange || now {
			t.Errorf("with another register %d: %+v, %t", n, c, now)
		}
	}
	shows(m.AfterChange())
	if c, now := o.Change(offered); c != nil || now {
		t.Errorf("after the change: %+v, %t", c, now)
	}
}
