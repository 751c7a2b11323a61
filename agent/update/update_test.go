package update

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/bootentry"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// world is all that an Updater needs, with a real boot disk; what the TPM and the
// firmware do is tried in package agent, and on machines.
type world struct {
	*Updater
	t       *testing.T
	disk    string
	claim   *ownership.Claim
	handed  []seal.Successor
	kept    int
	started []bootentry.File
	// fails is what the step of that name fails with.
	fails map[string]error
	of    api.UpdateRelease
	file  []byte
	// secure says that Secure Boot is on, written are the lists that were.
	secure  bool
	written []string
	// key signs what is offered, epoch is the image's that runs.
	key   *ecdsa.PrivateKey
	epoch uint64
}

func (w *world) HandOver(s seal.Successor) error {
	if w.fails["hand over"] == nil {
		w.handed = append(w.handed, s)
	}
	return w.fails["hand over"]
}
func (w *world) Keep() error                 { w.kept++; return nil }
func (w *world) NextUpdate() (uint64, error) { return 1, w.fails["tpm"] }
func (w *world) StartOnce(f bootentry.File) error {
	if w.fails["firmware"] == nil {
		w.started = append(w.started, f)
	}
	return w.fails["firmware"]
}
func (w *world) SecureBoot() (bool, error) { return w.secure, w.fails["secure boot"] }

func (w *world) Release(context.Context, attest.ReleaseDigest) (api.UpdateRelease, error) {
	return w.of, w.fails["release"]
}

func (w *world) File(_ context.Context, _ attest.ReleaseDigest, _ string, at int64) ([]byte, error) {
	return w.file[at:min(int64(len(w.file)), at+2)], w.fails["file"]
}

func newWorld(t *testing.T, p ownership.UpdatePolicy) *world {
	t.Helper()
	w := &world{t: t, disk: filepath.Join(t.TempDir(), "disk"), fails: map[string]error{}, file: []byte("uki")}
	f, err := os.Create(w.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(disk.Size), disk.Write(f, []disk.File{{Path: "EFI/BOOT/BOOTX64.EFI", Data: []byte("old")}})); err != nil {
		t.Fatal(err)
	}
	if p.Consent != 0 {
		w.claim = signed(t, p)
	}
	w.Updater = New(Parts{
		Owner: func() *ownership.Claim { return w.claim }, Here: func() (Here, error) { return machine(), w.fails["here"] },
		Volume: w, Source: w, Firmware: w, Records: Records(filepath.Join(t.TempDir(), "agent")),
		Slots:    Slots{Open: func() (BootDisk, error) { return os.OpenFile(w.disk, os.O_RDWR, 0) }, Running: "EFI/BOOT/BOOTX64.EFI", Other: "EFI/BOOT/NEXTX64.EFI"},
		Vouching: func() api.UpdateRelease { return api.UpdateRelease{Manifest: []byte("of this release")} },
		Now:      time.Now, Log: zap.NewNop(),
	})
	w.Load()
	return w
}

// ownerKey is the owner's.
var ownerKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

func signed(t *testing.T, p ownership.UpdatePolicy) *ownership.Claim {
	t.Helper()
	c, err := ownership.Sign(ownerKey, ownership.Body{AKName: make([]byte, 34), Update: p, Recovery: [32]byte{9}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// offers has a release offered that the owner's policy would take.
func (w *world) offers(key logtest.ReleaseKey) attest.ReleaseDigest {
	w.t.Helper()
	r := logtest.NewRelease(w.t, key, 4)
	w.of = api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle}
	w.Offered(api.Offer{Release: r.Digest, Attempt: 1})
	return r.Digest
}

func (w *world) once() error {
	w.t.Helper()
	_, err := w.pass(w.t.Context())
	return err
}

func (w *world) at(step api.UpdateStep, reason api.UpdateReason) {
	w.t.Helper()
	if s := w.Status(); s == nil || s.Step != step || s.Reason != reason {
		w.t.Errorf("it is at %+v, want %s %s", s, step, reason)
	}
}

func standing(key logtest.ReleaseKey, delay time.Duration) ownership.UpdatePolicy {
	p := policyOf(key, nil)
	p.Consent, p.Delay = ownership.UpdateStanding, uint64(delay/time.Second)
	return p
}

// Whatever step of an installation fails, the running slot and the way into it stay,
// and what it was for is said.
func TestInstallationsThatFail(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		change func(*world)
		step   api.UpdateStep
		reason api.UpdateReason
	}{
		"the control plane is lost":   {func(w *world) { w.fails["release"] = broken }, "", ""},
		"the tpm does not answer":     {func(w *world) { w.fails["here"] = broken }, "", ""},
		"no boot variables":           {func(w *world) { w.fails["secure boot"] = bootentry.ErrNoVariables }, api.UpdateRefused, api.ReasonOtherMachine},
		"the file is cut off":         {func(w *world) { w.fails["file"] = broken }, api.UpdateFetching, ""},
		"another file":                {func(w *world) { w.file = []byte("abc") }, api.UpdateRefused, api.ReasonUnreadable},
		"a shorter file":              {func(w *world) { w.file = []byte("uk") }, api.UpdateRefused, api.ReasonUnreadable},
		"a longer file":               {func(w *world) { w.file = []byte("ukis") }, api.UpdateRefused, api.ReasonUnreadable},
		"the key is not handed over":  {func(w *world) { w.fails["hand over"] = seal.ErrSealed }, api.UpdateFellBack, api.ReasonInstallFailed},
		"the firmware is not told":    {func(w *world) { w.fails["firmware"] = broken }, api.UpdateFellBack, api.ReasonInstallFailed},
		"the boot disk does not open": {func(w *world) { w.Slots.Open = func() (BootDisk, error) { return nil, broken } }, api.UpdateFetching, ""},
	} {
		t.Run(name, func(t *testing.T) {
			key := logtest.NewReleaseKey(t)
			w := newWorld(t, standing(key, 0))
			w.offers(key)
			open := w.Slots.Open
			c.change(w)
			if err := w.once(); errors.Is(err, ErrRestart) {
				t.Error("the machine starts anew")
			}
			w.Slots.Open = open
			if c.step != "" {
				w.at(c.step, c.reason)
			}
			if len(w.started) > 0 || len(w.handed) != w.kept {
				t.Errorf("started %d files, handed over %d times and took back %d", len(w.started), len(w.handed), w.kept)
			}
			if got := w.reads("EFI/BOOT/BOOTX64.EFI"); got != "old" {
				t.Errorf("the running slot has %q", got)
			}
		})
	}
}

func (w *world) reads(path string) string {
	w.t.Helper()
	var b bytes.Buffer
	err := w.Slots.with(func(v *esp.Volume) error {
		r, err := v.Reader(path)
		if err != nil {
			return err
		}
		_, err = b.ReadFrom(r)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

func TestInstallation(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, standing(key, 0))
	w.offers(key)
	if err := w.once(); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	w.at(api.UpdateInstalling, "")
	if len(w.handed) != 1 || w.handed[0].Epoch != 4 || w.handed[0].Registers[4] != value(4) || w.handed[0].Approval != nil {
		t.Errorf("handed over %+v", w.handed)
	}
	if len(w.started) != 1 || w.started[0].Path != "EFI/BOOT/NEXTX64.EFI" || w.started[0].Partition != 1 || w.started[0].FirstLBA != 2048 {
		t.Errorf("started %+v", w.started)
	}
	if got := w.reads("EFI/BOOT/NEXTX64.EFI"); got != "uki" {
		t.Errorf("the other slot has %q", got)
	}
	if before, err := w.Slots.found(); err != nil || string(before.Manifest) != "of this release" {
		t.Errorf("left %q, %v", before.Manifest, err)
	}
}

// A standing policy gives its owner time to object: by the machine's own clock since
// it started, where no log is asked.
func TestDelayOfAStandingPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := logtest.NewReleaseKey(t)
		w := newWorld(t, standing(key, time.Hour))
		w.offers(key)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		if err := w.Run(ctx); !errors.Is(err, ErrRestart) {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < time.Hour || waited > time.Hour+2*lastPause {
			t.Errorf("it waited for %s", waited)
		}
	})
}

// Where a log is asked, it is the witnesses' clocks that the delay is by, across
// boots, and none that the host sets.
func TestDelayByTheWitnesses(t *testing.T) {
	log, key := logtest.New(t, 2), logtest.NewReleaseKey(t)
	p := policyOf(key, log)
	p.Consent, p.Delay = ownership.UpdateStanding, 3600
	w := newWorld(t, p)
	r := logtest.NewRelease(t, key, 4)
	index := log.Add(r.Entry)
	show := func() { w.of = api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle, Proof: log.Document(index)} }
	show()
	w.Offered(api.Offer{Release: r.Digest, Attempt: 1})
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.at(api.UpdateAwaiting, "")
	// The host sets the clock forward, and starts the machine anew.
	began := time.Now()
	w.Now = func() time.Time { return began.Add(50 * time.Minute) }
	again := New(w.Parts)
	w.Updater = again
	w.Load()
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.at(api.UpdateAwaiting, "")
	log.Time = log.Time.Add(time.Hour + time.Second)
	w.Now = func() time.Time { return log.Time }
	show()
	if err := w.once(); !errors.Is(err, ErrRestart) {
		t.Errorf("an hour later: %v", err)
	}
}

// A machine goes on where the power was cut, and forgets nothing that it said.
func TestRecordsOutliveABoot(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, policyOf(key, nil))
	d := w.offers(key)
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.Updater = New(w.Parts)
	if w.Status() != nil {
		t.Error("it says something before the volume is open")
	}
	w.Load()
	w.at(api.UpdateAwaiting, "")
	w.Trying()
	w.Failing(api.ReasonNotEnrolled)
	w.Updater = New(w.Parts)
	w.Load()
	w.FellBack()
	w.at(api.UpdateFellBack, api.ReasonNotEnrolled)
	// What ended is not begun anew by itself.
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.Offered(api.Offer{Release: d, Attempt: 1})
	w.at(api.UpdateFellBack, api.ReasonNotEnrolled)
	if err := os.WriteFile(w.Records.path(), []byte("spoilt"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Updater = New(w.Parts)
	w.Load()
	if w.Status() != nil {
		t.Error("a spoilt record says something")
	}
	w.Offered(api.Offer{Release: d, Attempt: 2})
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.at(api.UpdateAwaiting, "")
}

// An offer that comes while another is looked at takes its place.
func TestAnotherOfferMeanwhile(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, policyOf(key, nil))
	d := w.offers(key)
	w.Source = meanwhile{w, func() { w.Offered(api.Offer{Release: attest.ReleaseDigest{7}, Attempt: 2}) }}
	if err := w.once(); err == nil {
		t.Error("the first offer was gone on with")
	}
	if s := w.Status(); s != nil && s.Release == d {
		t.Errorf("it is at %+v", s)
	}
}

// An offer that is taken back is forgotten with the owner's word for it, also after a
// restart, unless the machine is on its way or through with it.
func TestOfferThatIsTakenBack(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	for _, step := range []api.UpdateStep{"", api.UpdateAwaiting, api.UpdateFetching} {
		w := newWorld(t, policyOf(key, nil))
		w.Load()
		d := w.offers(key)
		offer := api.Offer{Release: d, Attempt: 1}
		w.step(offer, step, "")
		w.record.Approval = []byte("the owner's word")
		w.TakenBack(api.Offer{Release: d, Attempt: 2})
		w.TakenBack(api.Offer{Release: attest.ReleaseDigest{7}, Attempt: 1})
		if w.record.offer() != offer {
			t.Fatalf("%q: another offer that was taken back was this one", step)
		}
		w.TakenBack(offer)
		if shown, err := w.Shown(); err != nil || w.Status() != nil || shown.Step != "" || shown.Manifest != nil || len(w.record.Approval) > 0 {
			t.Errorf("%q: it is at %+v, shows %+v, %v", step, w.record, shown, err)
		}
		if err := w.once(); err != nil {
			t.Errorf("%q: %v", step, err)
		}
		w.Updater = New(w.Parts)
		if w.Load(); w.Status() != nil {
			t.Errorf("%q: after a restart it is at %+v", step, w.record)
		}
		if w.Offered(api.Offer{Release: d, Attempt: 2}); w.record.Release != d || len(w.record.Approval) > 0 {
			t.Errorf("%q: offered anew, it is at %+v", step, w.record)
		}
	}
	for _, step := range []api.UpdateStep{api.UpdateInstalling, api.UpdateTrying, api.UpdateDone, api.UpdateRefused, api.UpdateFellBack} {
		w := newWorld(t, policyOf(key, nil))
		offer := api.Offer{Release: w.offers(key), Attempt: 1}
		w.step(offer, step, "")
		if w.TakenBack(offer); w.record.offer() != offer {
			t.Errorf("%q was forgotten", step)
		}
	}
	w := newWorld(t, policyOf(key, nil))
	offer := api.Offer{Release: w.offers(key), Attempt: 1}
	w.busy = true
	if w.TakenBack(offer); w.record.offer() != offer {
		t.Error("an offer was forgotten while it is seen to")
	}
}

type meanwhile struct {
	Source
	then func()
}

func (m meanwhile) Release(ctx context.Context, d attest.ReleaseDigest) (api.UpdateRelease, error) {
	m.then()
	return m.Source.Release(ctx, d)
}

// What stands on the boot disk is the host's to write.
func FuzzLeft(f *testing.F) {
	good, err := canon.Marshal(left{Manifest: []byte("{}"), Bundle: []byte("{}")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:3])
	f.Add([]byte{})
	key := logtest.NewReleaseKey(f)
	policy := policyOf(key, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		var l left
		if canon.Unmarshal("left", b, maxLeft, &l) != nil {
			return
		}
		if _, err := vouched(api.UpdateRelease{Manifest: l.Manifest, Bundle: l.Bundle, Proof: l.Proof}, policy, time.Now()); err == nil {
			t.Error("what nobody signed is vouched for")
		}
	})
}

// What stands on the disk as a record is kept again as it stands, or refused.
func FuzzRecord(f *testing.F) {
	for _, r := range []record{
		{Version: recordVersion, Release: attest.ReleaseDigest{1}, Attempt: 2, Step: string(api.UpdateFellBack), Reason: string(api.ReasonNotStarted), Known: 3},
		{Version: recordVersion, Release: attest.ReleaseDigest{1}, Attempt: 1, Approval: []byte("word")},
		{Version: recordVersion + 1},
	} {
		b, err := canon.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	records := Records(f.TempDir())
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(records.path(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := records.load()
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if err := records.save(r); err != nil {
			t.Fatal(err)
		}
		if kept, err := os.ReadFile(records.path()); err != nil || !bytes.Equal(kept, b) {
			t.Errorf("it is kept as %x, %v", kept, err)
		}
		if s := r.status(); s != nil && (s.Release.IsZero() || s.Step == "" || s.Reason != "" && !s.Step.Ended()) {
			t.Errorf("it tells %+v", s)
		}
	})
}
