package update

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
)

// Refusal is why an offered release is not one to try.
type Refusal struct {
	Reason api.UpdateReason
	err    error
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Reason, r.err) }

func (r *Refusal) Unwrap() error { return r.err }

func refuse(reason api.UpdateReason, format string, args ...any) error {
	return &Refusal{Reason: reason, err: fmt.Errorf(format, args...)}
}

// Here is the machine and the release that runs on it.
type Here struct {
	Architecture string
	Epoch        uint64
	// Firmware says that the release fixes the firmware's registers.
	Firmware bool
	// SecureBoot is the firmware's word.
	SecureBoot bool
	// Registers are the sealed ones, of this boot.
	Registers attest.Registers
	// SecureBootEvents are those that make register 7, where they are known.
	SecureBootEvents []attest.Digest
}

// secureBootEvents are those that the manifest of the release which runs names for its
// register 7, whoever gave it: none other make the value.
func secureBootEvents(manifest []byte, value attest.Digest) []attest.Digest {
	m, err := release.ParseManifest(manifest)
	if err != nil {
		return nil
	}
	for _, boot := range m.Boots {
		if boot.SHA256["7"] != value.String() {
			continue
		}
		if events, err := boot.EventDigests("7"); err == nil {
			return events
		}
	}
	return nil
}

// candidate is a release that may be tried here.
type candidate struct {
	manifest *release.Manifest
	digest   attest.ReleaseDigest
	// registers are the sealed ones that it will have on this machine.
	registers attest.Registers
	// runs says that these are the registers of the release that runs.
	runs bool
	// change is what the release that runs changes of Secure Boot's variables, and has
	// not changed on this machine, which here is: registers are those of afterwards then.
	change *release.SecureBootChange
	here   Here
	// of is what the release says of itself.
	of api.UpdateRelease
	// loggedAt is when a quorum of witnesses vouched for it; zero without a log.
	loggedAt time.Time
}

// timeFloor is what a machine's clock, which its host sets, is never before: an
// image holds no time of its own.
var timeFloor = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// check is whether the owner's trust vouches for a release, and whether it can run
// here. The error is a *Refusal.
func check(r api.UpdateRelease, want attest.ReleaseDigest, p ownership.UpdatePolicy, here Here, now time.Time) (*candidate, error) {
	if got := attest.ReleaseDigest(attest.Sum(r.Manifest)); got != want {
		return nil, refuse(api.ReasonUnreadable, "the manifest that came is of release %s", got)
	}
	logged, err := vouched(r, p, now)
	if err != nil {
		return nil, err
	}
	m := logged.Manifest
	switch {
	case m.Epoch < here.Epoch:
		return nil, refuse(api.ReasonOlder, "its epoch is %d, this release's %d", m.Epoch, here.Epoch)
	case m.Architecture != here.Architecture:
		return nil, refuse(api.ReasonOtherMachine, "it is for %s", m.Architecture)
	}
	c := &candidate{manifest: m, digest: want, loggedAt: logged.At, here: here, of: r}
	boot, err := c.on(here)
	if err != nil {
		return nil, refuse(api.ReasonOtherMachine, "%w", err)
	}
	if c.runs && boot == m.BeforeChange() {
		return c, c.toChange(here)
	}
	return c, nil
}

// on sets the registers that the release has here as the machine is, and answers
// which of its boots that is.
func (c *candidate) on(here Here) (boot *release.Boot, err error) {
	if c.registers, boot, err = registersOf(c.manifest, here); err != nil {
		return nil, err
	}
	c.runs = c.registers.SealDigest(here.Firmware) == here.Registers.SealDigest(here.Firmware)
	return boot, nil
}

// toChange has the candidate be the change of Secure Boot's variables that the release
// which runs has still to make. The error is a *Refusal.
func (c *candidate) toChange(here Here) error {
	// What the key would be sealed for is what the image says after the restart, which
	// cannot be taken back.
	if c.manifest.Epoch != here.Epoch {
		return refuse(api.ReasonUnreadable, "its epoch is %d, and its image's %d", c.manifest.Epoch, here.Epoch)
	}
	seven, err := parseRegister(c.manifest.AfterChange().SHA256["7"])
	if err != nil {
		return refuse(api.ReasonUnreadable, "%w", err)
	}
	if c.manifest.SecureBootChange.Write == nil {
		return refuse(api.ReasonUnsigned, "its change of Secure Boot's variables has no signature")
	}
	c.registers[7], c.change, c.runs = seven, c.manifest.SecureBootChange, false
	return nil
}

// vouched is the release, where the policy's keys, log and witnesses vouch for it.
// The error is a *Refusal.
func vouched(r api.UpdateRelease, p ownership.UpdatePolicy, now time.Time) (release.Logged, error) {
	keys, log, err := trusted(p)
	if err != nil {
		return release.Logged{}, refuse(api.ReasonUnsigned, "%w", err)
	}
	logged, err := release.VerifyLogged(r.Manifest, r.Bundle, r.Proof, keys, log, now)
	if err != nil {
		reason := api.ReasonUnsigned
		if errors.Is(err, attest.ErrTransparency) {
			reason = api.ReasonUnlogged
		}
		return release.Logged{}, refuse(reason, "%w", err)
	}
	return logged, nil
}

// trusted is an update policy as package release takes it.
func trusted(p ownership.UpdatePolicy) (keys []crypto.PublicKey, log release.LogPolicy, err error) {
	for _, der := range p.Keys {
		key, err := logentry.ParseReleaseKey(der)
		if err != nil {
			return nil, log, err
		}
		keys = append(keys, key)
	}
	if p.Log == "" {
		return keys, release.LogPolicy{NotRequired: true}, nil
	}
	log = release.LogPolicy{Quorum: int(p.Quorum), MaxAge: time.Duration(p.MaxAge) * time.Second, TimeFloor: timeFloor}
	if log.Log, err = checkpoint.ParseKey(checkpoint.KindLog, p.Log); err != nil {
		return nil, log, err
	}
	for _, text := range p.Witnesses {
		key, err := checkpoint.ParseKey(checkpoint.KindWitness, text)
		if err != nil {
			return nil, log, err
		}
		log.Witnesses = append(log.Witnesses, release.Witness{Key: key})
	}
	return keys, log, nil
}

// registersOf are the sealed registers that a release has on this machine, and the
// boot of its manifest that they are of: those that this names, and for the rest this
// boot's, since the same firmware starts it with the same variables.
func registersOf(m *release.Manifest, here Here) (r attest.Registers, boot *release.Boot, err error) {
	if (m.Firmware != nil) != here.Firmware {
		return r, nil, fmt.Errorf("one of the releases has its own firmware and the other has not")
	}
	if m.Firmware != nil && !onShape(m.Firmware, here) {
		return r, nil, fmt.Errorf("it has another firmware than this machine")
	}
	err = fmt.Errorf("it does not say what it measures with Secure Boot %t", here.SecureBoot)
	for n := range m.Boots {
		if m.Boots[n].SecureBoot != here.SecureBoot {
			continue
		}
		if r, err = registersIn(m.Boots[n], here); err == nil {
			return r, &m.Boots[n], nil
		}
	}
	return r, nil, err
}

func registersIn(boot release.Boot, here Here) (attest.Registers, error) {
	r := here.Registers
	for _, n := range attest.SealedRegisters(here.Firmware) {
		text, named := boot.SHA256[strconv.Itoa(int(n))]
		if !named {
			continue
		}
		value, err := parseRegister(text)
		if err != nil {
			return r, err
		}
		// The stub's and the image's alone are another's than this boot's, and whose
		// signature the image has.
		if n != 4 && n != 11 && (n != 7 || !boot.SameLists(here.SecureBootEvents)) && value != here.Registers[n] {
			return r, fmt.Errorf("it wants register %d to be %s, and this machine has %s", n, value, here.Registers[n])
		}
		r[n] = value
	}
	return r, nil
}

func onShape(f *release.Firmware, here Here) bool {
	if f.SecureBoot != here.SecureBoot {
		return false
	}
	for _, s := range f.Shapes {
		if s.SHA256["0"] == here.Registers[0].String() && s.SHA256["1"] == here.Registers[1].String() {
			return true
		}
	}
	return false
}

func parseRegister(text string) (attest.Digest, error) {
	var d attest.Digest
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("a register of its manifest is %q", text)
	}
	return attest.Digest(b), nil
}
