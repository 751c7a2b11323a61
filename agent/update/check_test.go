package update

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// policyOf is what an owner's claim says who trusts a key and asks a log, nil for none.
func policyOf(key logtest.ReleaseKey, log *logtest.Log) ownership.UpdatePolicy {
	p := ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{key.DER()}}
	if log == nil {
		return p
	}
	policy := log.Policy()
	p.Log, p.Quorum, p.MaxAge = policy.Log.String(), uint64(policy.Quorum), uint64(policy.MaxAge/time.Second)
	for _, w := range policy.Witnesses {
		p.Witnesses = append(p.Witnesses, w.Key.String())
	}
	return p
}

func value(b byte) attest.Digest {
	d := attest.Digest{}
	for i := range d {
		d[i] = b
	}
	return d
}

// machine is one that could run what logtest releases.
func machine() Here { return Here{Architecture: board.AMD64, Epoch: 3} }

func reasonOf(err error) api.UpdateReason {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

// A release is taken where the owner's log and all their witnesses vouch for it.
func TestCheckAsksTheLog(t *testing.T) {
	log, key := logtest.New(t, 2), logtest.NewReleaseKey(t)
	r := logtest.NewRelease(t, key, 4)
	index := log.Add(r.Entry)
	good := api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle, Proof: log.Document(index)}
	c, err := check(good, r.Digest, policyOf(key, log), machine(), log.Time)
	if err != nil {
		t.Fatal(err)
	}
	if c.registers[4] != value(4) || c.registers[11] != value(0x11) || c.registers[2] != (attest.Digest{}) {
		t.Errorf("it will have registers 4 %s and 11 %s", c.registers[4], c.registers[11])
	}
	if c.loggedAt.IsZero() || c.digest != r.Digest {
		t.Errorf("it was logged at %s", c.loggedAt)
	}
	stranger := logtest.New(t, 2)
	strangerIndex := stranger.Add(r.Entry)
	for name, b := range map[string]struct {
		release api.UpdateRelease
		digest  attest.ReleaseDigest
		policy  ownership.UpdatePolicy
		at      time.Time
		reason  api.UpdateReason
	}{
		"no proof":           {api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle}, r.Digest, policyOf(key, log), log.Time, api.ReasonUnlogged},
		"another log's":      {api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle, Proof: stranger.Document(strangerIndex)}, r.Digest, policyOf(key, log), log.Time, api.ReasonUnlogged},
		"an old one":         {good, r.Digest, policyOf(key, log), log.Time.Add(2 * time.Hour), api.ReasonUnlogged},
		"another key":        {good, r.Digest, policyOf(logtest.NewReleaseKey(t), nil), log.Time, api.ReasonUnsigned},
		"not the offered":    {good, attest.ReleaseDigest{1}, policyOf(key, log), log.Time, api.ReasonUnreadable},
		"a key of no kind":   {good, r.Digest, ownership.UpdatePolicy{Keys: [][]byte{{1}}}, log.Time, api.ReasonUnsigned},
		"a log of no kind":   {good, r.Digest, ownership.UpdatePolicy{Keys: [][]byte{key.DER()}, Log: "log"}, log.Time, api.ReasonUnsigned},
		"no manifest at all": {api.UpdateRelease{}, attest.ReleaseDigest(attest.Sum(nil)), policyOf(key, nil), log.Time, api.ReasonUnsigned},
	} {
		if _, err := check(b.release, b.digest, b.policy, machine(), b.at); reasonOf(err) != b.reason {
			t.Errorf("%s: %v, want %s", name, err, b.reason)
		}
	}
	withdrawn := log.Add(key.Entry(logentry.Body{
		Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonVulnerable},
	}))
	good.Proof = log.Document(index, withdrawn)
	if _, err := check(good, r.Digest, policyOf(key, log), machine(), log.Time); reasonOf(err) != api.ReasonUnlogged {
		t.Errorf("a withdrawn release: %v", err)
	}
}

// A release runs where its registers can be what its manifest says: an update in
// place changes neither the firmware nor its keys.
func TestRegistersOfARelease(t *testing.T) {
	hex := func(b byte) string { return value(b).String() }
	with7 := release.Boot{SHA256: map[string]string{"4": hex(4), "9": hex(9), "11": hex(11), "7": hex(7)}, SecureBoot: true}
	without := release.Boot{SHA256: map[string]string{"4": hex(0x44), "9": hex(9), "11": hex(11)}}
	firmware := func(zero, one byte, secure bool) *release.Firmware {
		return &release.Firmware{SecureBoot: secure, Shapes: []release.Shape{{SHA256: map[string]string{"0": hex(zero), "1": hex(one)}}}}
	}
	here := func(firmware, secure bool, change func(*attest.Registers)) Here {
		h := Here{Firmware: firmware, SecureBoot: secure}
		h.Registers[0], h.Registers[1], h.Registers[2], h.Registers[7] = value(0), value(1), value(2), value(7)
		if change != nil {
			change(&h.Registers)
		}
		return h
	}
	boots := []release.Boot{without, with7}
	for name, c := range map[string]struct {
		m    release.Manifest
		here Here
		four byte
	}{
		"with Secure Boot":            {release.Manifest{Boots: boots}, here(false, true, nil), 4},
		"without":                     {release.Manifest{Boots: boots}, here(false, false, nil), 0x44},
		"own firmware":                {release.Manifest{Boots: boots, Firmware: firmware(0, 1, true)}, here(true, true, nil), 4},
		"other keys":                  {release.Manifest{Boots: boots}, here(false, true, func(r *attest.Registers) { r[7] = value(8) }), 0},
		"other firmware":              {release.Manifest{Boots: boots, Firmware: firmware(9, 1, true)}, here(true, true, nil), 0},
		"another shape":               {release.Manifest{Boots: boots, Firmware: firmware(0, 9, true)}, here(true, true, nil), 0},
		"firmware without the keys":   {release.Manifest{Boots: boots, Firmware: firmware(0, 1, false)}, here(true, true, nil), 0},
		"firmware that was a cloud's": {release.Manifest{Boots: boots, Firmware: firmware(0, 1, true)}, here(false, true, nil), 0},
		"a cloud's in its place":      {release.Manifest{Boots: boots}, here(true, true, nil), 0},
		"no boot of this kind":        {release.Manifest{Boots: boots[:1]}, here(false, true, nil), 0},
		"no register":                 {release.Manifest{Boots: []release.Boot{{SHA256: map[string]string{"4": "4"}}}}, here(false, false, nil), 0},
	} {
		r, _, err := registersOf(&c.m, c.here)
		if (err == nil) != (c.four != 0) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil && (r[4] != value(c.four) || r[11] != value(11) || r[2] != value(2) || r[7] != value(7)) {
			t.Errorf("%s: registers %s", name, r[4])
		}
	}
}

func TestOtherMachines(t *testing.T) {
	key := logtest.NewReleaseKey(t)
	r := logtest.NewRelease(t, key, 4)
	offered := api.UpdateRelease{Manifest: r.Manifest, Bundle: r.Bundle}
	for name, c := range map[string]struct {
		change func(*Here)
		reason api.UpdateReason
	}{
		"as it is":             {func(*Here) {}, ""},
		"the same epoch":       {func(h *Here) { h.Epoch = 4 }, ""},
		"a later epoch":        {func(h *Here) { h.Epoch = 5 }, api.ReasonOlder},
		"another architecture": {func(h *Here) { h.Architecture = board.ARM64 }, api.ReasonOtherMachine},
		"firmware of its own":  {func(h *Here) { h.Firmware = true }, api.ReasonOtherMachine},
		"Secure Boot":          {func(h *Here) { h.SecureBoot = true }, api.ReasonOtherMachine},
	} {
		h := machine()
		c.change(&h)
		_, err := check(offered, r.Digest, policyOf(key, nil), h, time.Now())
		if reasonOf(err) != c.reason {
			t.Errorf("%s: %v, want %q", name, err, c.reason)
		}
		if err != nil && !strings.HasPrefix(err.Error(), string(c.reason)+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlotsOfArchitectures(t *testing.T) {
	for _, a := range []string{board.AMD64, board.ARM64} {
		running, other, err := SlotsOf(a)
		if err != nil || running == other || len(running) != len(other) {
			t.Errorf("%s: %q, %q, %v", a, running, other, err)
		}
	}
	if _, _, err := SlotsOf("riscv64"); err == nil {
		t.Error("riscv64 has images")
	}
}
