package update

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/signaturelist"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// write is an authenticated write of contents, whose signature the firmware looks at.
func write(contents string) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 16), 24+1)
	b = append(b, 0x00, 0x02, 0xf1, 0x0e, 0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7)
	return append(append(b, 's'), contents...)
}

// changed is what a machine shows whose db holds something.
func changed(m *release.Manifest, n int, db string) {
	b := &m.Boots[n]
	b.Events["7"][3] = signaturelist.Event(release.VariableDB, []byte(db)).String()
	events, _ := b.EventDigests("7") //nolint:errcheck // they are made here
	var seven attest.Digest
	for _, e := range events {
		seven = attest.Extend(seven, e)
	}
	b.SHA256["7"] = seven.String()
}

// Write implements Lists.
func (w *world) Write(variable string, _ []byte) error {
	w.written = append(w.written, variable)
	return w.fails["write"]
}

// toChange is a world whose machine runs a release that has db still to change.
func toChange(t *testing.T) *world {
	t.Helper()
	key := logtest.NewReleaseKey(t)
	w := newWorld(t, standing(key, 0))
	w.key = key.PrivateKey
	w.offers(key)
	m, err := release.ParseManifest(w.of.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	logtest.Changing(m)
	changed(m, 1, "after")
	changed(m, 2, "before")
	w.file = write("after")
	m.SecureBootChange.Write = &release.File{Name: "secure-boot.auth", SHA256: attest.Sum(w.file), Bytes: int64(len(w.file))}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	w.of = api.UpdateRelease{Manifest: manifest, Bundle: logtest.NewBundle(t, key, manifest)}
	w.Offered(api.Offer{Release: attest.ReleaseDigest(attest.Sum(manifest)), Attempt: 2})
	here := machine()
	here.Epoch, here.Registers[4], here.Registers[11] = 4, value(4), value(0x11)
	if err := here.Registers[7].UnmarshalText([]byte(m.BeforeChange().SHA256["7"])); err != nil {
		t.Fatal(err)
	}
	w.secure, w.Lists = true, w
	w.epoch = here.Epoch
	w.Here = func() (Here, error) {
		here.Epoch = w.epoch
		return here, w.fails["here"]
	}
	return w
}

// The data opens with the list as it is to be before the firmware hears of that, and
// neither slot is touched.
func TestChange(t *testing.T) {
	for name, answer := range map[string]error{"taken": nil, "refused": errors.New("access denied")} {
		w := toChange(t)
		w.fails["write"] = answer
		if err := w.once(); !errors.Is(err, ErrRestart) {
			t.Fatalf("%s: %v", name, err)
		}
		w.at(api.UpdateInstalling, "")
		if len(w.handed) != 1 || !w.handed[0].Tried || w.kept != 0 || len(w.written) != 1 || w.written[0] != "db" {
			t.Errorf("%s: handed over %+v, took back %d, wrote %q", name, w.handed, w.kept, w.written)
		}
		here, err := w.Here()
		if err != nil {
			t.Fatal(err)
		}
		want := here.Registers
		want[7] = w.handed[0].Registers[7]
		if w.handed[0].Registers != want || want[7] == here.Registers[7] {
			t.Errorf("%s: handed over to %v", name, w.handed[0].Registers)
		}
		if len(w.started) > 0 || w.reads("EFI/BOOT/BOOTX64.EFI") != "old" {
			t.Errorf("%s: started %v", name, w.started)
		}
		// The next boot finds the list as it was.
		w.FellBack()
		w.at(api.UpdateFellBack, api.ReasonListUnchanged)
	}
}

// Under a standing policy what is left for the boot after the change is good for as
// long as the power is off, and is this release's own.
func TestChangeOutlastsALog(t *testing.T) {
	w := toChange(t)
	if err := w.once(); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	before, err := w.Here()
	if err != nil {
		t.Fatal(err)
	}
	before.SecureBoot = true
	after := before
	after.Registers = w.handed[0].Registers
	c := signed(t, w.claim.Body.Update)
	c.Body.Update = policyOf(logtest.ReleaseKeyOf(t, w.key), logtest.New(t, 2))
	from, epoch, err := w.Slots.Predecessor(c, after, w.Now().AddDate(1, 0, 0))
	if err != nil || !slices.Equal(from, []attest.Digest{before.Registers.SealDigest(false)}) || epoch != 4 {
		t.Errorf("from %s of epoch %d, %v", from, epoch, err)
	}
	// Another image has to be vouched for.
	after.Registers[4][0]++
	if _, _, err := w.Slots.Predecessor(c, after, w.Now()); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("to another image: %v", err)
	}
	// So has what another has signed.
	after.Registers[4][0]--
	c.Body.Update = policyOf(logtest.NewReleaseKey(t), nil)
	if _, _, err := w.Slots.Predecessor(c, after, w.Now()); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("signed by another: %v", err)
	}
}

// Nothing is written that the data does not open after, and nothing that is another.
func TestChangesThatFail(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		change func(*world)
		step   api.UpdateStep
		reason api.UpdateReason
	}{
		"the file is cut off":         {func(w *world) { w.fails["file"] = broken }, api.UpdateFetching, ""},
		"the source answers nonsense": {func(w *world) { w.fails["file"] = attest.ErrMalformed }, api.UpdateFetching, ""},
		"another file":                {func(w *world) { w.file = write("other") }, api.UpdateRefused, api.ReasonUnreadable},
		"a shorter file":              {func(w *world) { w.file = w.file[:40] }, api.UpdateRefused, api.ReasonUnreadable},
		"another epoch":               {func(w *world) { w.epoch = 3 }, api.UpdateRefused, api.ReasonUnreadable},
		"no boot variables":           {func(w *world) { w.fails["secure boot"] = broken }, api.UpdateRefused, api.ReasonOtherMachine},
		"Secure Boot is off":          {func(w *world) { w.secure = false }, api.UpdateDone, ""},
		"the key is not handed over":  {func(w *world) { w.fails["hand over"] = broken }, api.UpdateFellBack, api.ReasonInstallFailed},
		"the boot disk does not open": {func(w *world) { w.Slots.Open = func() (BootDisk, error) { return nil, broken } }, api.UpdateFellBack, api.ReasonInstallFailed},
	} {
		w := toChange(t)
		c.change(w)
		if err := w.once(); errors.Is(err, ErrRestart) {
			t.Errorf("%s: the machine starts anew", name)
		}
		w.at(c.step, c.reason)
		if len(w.written) > 0 || len(w.handed) > 0 {
			t.Errorf("%s: wrote %q, handed over %d times", name, w.written, len(w.handed))
		}
	}
}

// Who has failed at a change hears of another release.
func TestOfferAfterAChangeThatFailed(t *testing.T) {
	w := toChange(t)
	w.fails["hand over"] = errors.New("broken")
	if err := w.once(); err == nil {
		t.Fatal("nothing failed")
	}
	other := api.Offer{Release: attest.ReleaseDigest{5}, Attempt: 3}
	if w.Offered(other); w.record.offer() != other {
		t.Errorf("it knows of %+v", w.record.offer())
	}
}

// resigned has the release that is to change db be another, by the same key.
func (w *world) resigned(change func(*release.Manifest)) {
	w.t.Helper()
	m, err := release.ParseManifest(w.of.Manifest)
	if err != nil {
		w.t.Fatal(err)
	}
	change(m)
	manifest, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.of = api.UpdateRelease{Manifest: manifest, Bundle: logtest.NewBundle(w.t, logtest.ReleaseKeyOf(w.t, w.key), manifest)}
	w.Offered(api.Offer{Release: attest.ReleaseDigest(attest.Sum(manifest)), Attempt: 3})
}

// A change that nobody has signed is none, and nothing else is made of the release.
func TestChangeWithoutASignature(t *testing.T) {
	w := toChange(t)
	w.resigned(func(m *release.Manifest) { m.SecureBootChange.Write = nil })
	if err := w.once(); err != nil {
		t.Fatal(err)
	}
	w.at(api.UpdateRefused, api.ReasonUnsigned)
}

// Whoever signs a release cannot have a machine write what its data is closed after.
func TestChangeThatIsNotWhatTheReleaseSays(t *testing.T) {
	for name, file := range map[string][]byte{"other contents": write("other"), "none": write(""), "no write": []byte("after")} {
		w := toChange(t)
		w.file = file
		w.resigned(func(m *release.Manifest) {
			m.SecureBootChange.Write.SHA256, m.SecureBootChange.Write.Bytes = attest.Sum(file), int64(len(file))
		})
		if err := w.once(); err == nil || errors.Is(err, ErrRestart) {
			t.Errorf("%s: %v", name, err)
		}
		w.at(api.UpdateRefused, api.ReasonUnreadable)
		if len(w.written) > 0 || len(w.handed) > 0 {
			t.Errorf("%s: wrote %q, handed over %d times", name, w.written, len(w.handed))
		}
	}
}

// A release is its own predecessor after its change alone: before it, and without one,
// it has to be vouched for as any other.
func TestNoReleaseIsItsOwnPredecessor(t *testing.T) {
	w := toChange(t)
	here, err := w.Here()
	if err != nil {
		t.Fatal(err)
	}
	here.SecureBoot = true
	c := signed(t, w.claim.Body.Update)
	c.Body.Update = policyOf(logtest.ReleaseKeyOf(t, w.key), logtest.New(t, 2))
	for name, change := range map[string]func(*release.Manifest){
		"before the change": func(*release.Manifest) {},
		"without a change": func(m *release.Manifest) {
			m.Schema, m.SecureBootChange, m.Boots = release.SchemaVersion, nil, []release.Boot{m.Boots[0], m.Boots[2]}
		},
	} {
		w.resigned(change)
		if err := w.Slots.leave(w.of); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Slots.Predecessor(c, here, w.Now()); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The events of register 7 are those that make its value: of the boots of a release
// which has that, and of no other.
func TestEventsOfRegisterSeven(t *testing.T) {
	m, err := release.ParseManifest(toChange(t).of.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*release.Boot{"before": m.BeforeChange(), "after": m.AfterChange()} {
		manifest, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		var seven, made attest.Digest
		if err := seven.UnmarshalText([]byte(b.SHA256["7"])); err != nil {
			t.Fatal(err)
		}
		for _, e := range secureBootEvents(manifest, seven) {
			made = attest.Extend(made, e)
		}
		if made != seven {
			t.Errorf("%s: the events make %s, want %s", name, made, seven)
		}
		if got := secureBootEvents(manifest, value(9)); got != nil {
			t.Errorf("of another value there are %d", len(got))
		}
	}
}

// A release before whose image another certificate vouched for is told by what is
// left of it, but for the image's registers and that one: as it is with its change made
// and as it is without.
func TestPredecessorThatAnotherCertificateVouchedFor(t *testing.T) {
	w := toChange(t)
	if err := w.Slots.leave(w.of); err != nil {
		t.Fatal(err)
	}
	m, err := release.ParseManifest(w.of.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	here := machine()
	here.SecureBoot = true
	here.Registers[4], here.Registers[7], here.Registers[11] = value(1), value(2), value(3)
	var want []attest.Digest
	for _, boot := range []*release.Boot{m.AfterChange(), m.BeforeChange()} {
		before := here
		before.Registers[7], _ = parseRegister(boot.SHA256["7"]) //nolint:errcheck // it is of a manifest
		registers, err := registersIn(*boot, before)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, registers.SealDigest(false))
	}
	from, epoch, err := w.Slots.Predecessor(w.claim, here, w.Now())
	if err != nil || !slices.Equal(from, want) || epoch != m.Epoch {
		t.Errorf("from %s of epoch %d, %v", from, epoch, err)
	}
	here.Firmware = true
	if _, _, err := w.Slots.Predecessor(w.claim, here, w.Now()); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("on other firmware: %v", err)
	}
}

// Under a standing policy nothing is written where what is left for the next boot would
// have it take the key from another release.
func TestChangeThatWouldLeadToAnother(t *testing.T) {
	w := toChange(t)
	offered := w.of
	w.resigned(func(m *release.Manifest) {
		m.Schema, m.SecureBootChange, m.Boots = release.SchemaVersion, nil, m.Boots[:2]
	})
	other := newWorld(t, ownership.UpdatePolicy{})
	if err := other.Slots.leave(w.of); err != nil {
		t.Fatal(err)
	}
	w.of = offered
	w.Offered(api.Offer{Release: attest.ReleaseDigest(attest.Sum(offered.Manifest)), Attempt: 4})
	own, opened := w.Slots.Open, 0
	w.Slots.Open = func() (BootDisk, error) {
		if opened++; opened == 1 {
			return own()
		}
		return other.Slots.Open()
	}
	if err := w.once(); !errors.Is(err, attest.ErrRelease) {
		t.Errorf("%v", err)
	}
	w.at(api.UpdateFellBack, api.ReasonInstallFailed)
	if len(w.written) > 0 || len(w.handed) > 0 {
		t.Errorf("wrote %q, handed over %d times", w.written, len(w.handed))
	}
}
