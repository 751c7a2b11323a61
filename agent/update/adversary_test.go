package update

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/verity"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// A release with the payload that runs already leaves that where it is: the running
// one is read from there all the while, and again after a cut of the power.
func TestThePayloadThatRunsIsNotWrittenAnew(t *testing.T) {
	w := newWorld(t, standing(logtest.NewReleaseKey(t), 0))
	root := attest.Sum([]byte("a payload's blocks"))
	w.Slots.Payload = verity.Root{Hash: root}.FileName()
	err := w.Slots.with(func(v *esp.Volume) error { return v.Write(w.Slots.Payload, 7, strings.NewReader("payload")) })
	if err != nil {
		t.Fatal(err)
	}
	c := &candidate{manifest: &release.Manifest{
		UKI:     release.File{Name: "uki.efi", SHA256: attest.Sum([]byte("uki")), Bytes: 3},
		Payload: &release.Payload{Root: &release.Root{RootHash: root, File: release.File{Name: "root.img", SHA256: attest.Sum([]byte("payload")), Bytes: 7}}},
	}}
	if err := w.Slots.fill(t.Context(), c, imageAlone{w}); err != nil {
		t.Errorf("filling the other slot: %v", err)
	}
	if got := w.reads(w.Slots.Payload); got != "payload" {
		t.Errorf("the running payload is %q", got)
	}
}

// imageAlone has a release's image and no other file of it.
type imageAlone struct{ Source }

func (s imageAlone) File(ctx context.Context, d attest.ReleaseDigest, name string, at int64) ([]byte, error) {
	if name != "uki.efi" {
		return nil, errors.New("the network is lost")
	}
	return s.Source.File(ctx, d, name, at)
}

// An offer that comes while another is installed neither takes what is then tried
// for its own, nor lets the one before go on unseen.
func TestAnOfferDuringTheInstallation(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, standing(key, 0))
	w.offers(key)
	later := api.Offer{Release: attest.ReleaseDigest{7}, Attempt: 2}
	w.Source = whileFetching{w, func() { w.Offered(later) }}
	if err := w.once(); err == nil || errors.Is(err, ErrRestart) || len(w.handed)+len(w.started) > 0 {
		t.Errorf("the first is gone on with: %v, handed over %d times", err, len(w.handed))
	}
}

func TestAnOfferAfterTheHandover(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, standing(key, 0))
	d := w.offers(key)
	later := api.Offer{Release: attest.ReleaseDigest{7}, Attempt: 2}
	if err := w.once(); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	w.Offered(later)
	w.Updater = New(w.Parts)
	w.Load()
	w.Trying()
	w.Offered(later)
	if s := w.Status(); s == nil || s.Release != d || s.Step != api.UpdateTrying {
		t.Errorf("on trial it says %+v", s)
	}
	w.Done()
	if s := w.Status(); s == nil || s.Release != d || s.Step != api.UpdateDone {
		t.Errorf("afterwards it says %+v", s)
	}
	w.Offered(later)
	if s := w.Status(); s != nil {
		t.Errorf("the later offer is at %+v", s)
	}
}

type whileFetching struct {
	*world
	then func()
}

func (m whileFetching) File(ctx context.Context, d attest.ReleaseDigest, name string, at int64) ([]byte, error) {
	m.then()
	return m.world.File(ctx, d, name, at)
}

// What runs already is not installed beside itself: the machine would take the start
// of the other slot for a fall-back.
func TestAnOfferOfWhatRuns(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, standing(key, 0))
	w.Here = func() (Here, error) {
		h := machine()
		h.Registers[4], h.Registers[11] = value(4), value(0x11)
		return h, nil
	}
	w.offers(key)
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.at(api.UpdateDone, "")
	if len(w.handed) > 0 {
		t.Error("it was handed over to")
	}
}

// A control plane takes a reason with an end alone (orchestrator/enrol): a machine
// that said another would never be heard again.
func TestReasonsAreOfEndsAlone(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, policyOf(key, nil))
	w.offers(key)
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.Trying()
	w.Failing(api.ReasonUnhealthy)
	w.at(api.UpdateTrying, "")
	// The release on trial is not this one, and may know other reasons.
	w.Failing("the owner's secret")
	w.FellBack()
	w.at(api.UpdateFellBack, api.ReasonNotStarted)
	// Its owner has brought the key while it was on trial: there is none any more.
	w.Trying()
	w.Failing(api.ReasonUnhealthy)
	w.Updater = New(w.Parts)
	w.Load()
	w.Settled()
	w.at(api.UpdateFellBack, api.ReasonUnhealthy)
}

// What a release left in the record's place holds up none that comes after.
func TestRecordsThatAreNone(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"too large": func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40))
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := logtest.NewReleaseKey(t)
			w := newWorld(t, policyOf(key, nil))
			if err := errors.Join(os.MkdirAll(string(w.Records), 0o700), spoil(w.Records.path())); err != nil {
				t.Fatal(err)
			}
			w.Updater = New(w.Parts)
			w.Load()
			w.offers(key)
			if err := w.once(); err != nil {
				t.Fatal(err)
			}
			w.at(api.UpdateAwaiting, "")
		})
	}
}

// word is the owner's for what the world was offered, but for a change.
func (w *world) word(d attest.ReleaseDigest, change func(*ownership.ApprovalBody)) []byte {
	w.t.Helper()
	body := ownership.ApprovalBody{
		Claim: w.claim.Digest(), Number: 1, From: machine().Registers.SealDigest(false), Release: d, Epoch: 4,
	}
	change(&body)
	a, err := ownership.Approve(ownerKey, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Encode()
}

// What stands in the record is looked at again before the key is given away.
func TestWordsThatAreNotForTheOffer(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, policyOf(key, nil))
	d := w.offers(key)
	for name, change := range map[string]func(*ownership.ApprovalBody){
		"another release": func(b *ownership.ApprovalBody) { b.Release[0]++ },
		"another epoch":   func(b *ownership.ApprovalBody) { b.Epoch++ },
		"another number":  func(b *ownership.ApprovalBody) { b.Number++ },
		"another image":   func(b *ownership.ApprovalBody) { b.From[0]++ },
	} {
		w.record.Approval = w.word(d, change)
		if err := w.once(); err != nil || len(w.handed) > 0 {
			t.Errorf("%s: %v, handed over %d times", name, err, len(w.handed))
		}
		w.at(api.UpdateAwaiting, "")
	}
	w.record.Approval = w.word(d, func(*ownership.ApprovalBody) {})
	w.Offered(api.Offer{Release: attest.ReleaseDigest{7}, Attempt: 2})
	if len(w.record.Approval) > 0 {
		t.Error("the word for one release goes on to the next")
	}
}

func TestAWordThatComesTooLate(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, policyOf(key, nil))
	d := w.offers(key)
	w.step(w.record.offer(), api.UpdateRefused, api.ReasonNoRoom)
	if err := w.Approve(w.word(d, func(*ownership.ApprovalBody) {})); !errors.Is(err, ErrNothingOffered) {
		t.Errorf("after its end: %v", err)
	}
}
