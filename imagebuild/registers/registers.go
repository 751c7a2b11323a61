// Package registers computes, from files alone, what a machine's platform
// configuration registers will hold after it booted them.
//
// Invariants: nothing here looks at a running machine; an event that is not
// known to be measured is not guessed, and a combination of firmware mode and
// stub that has not been seen is refused.
package registers

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// ErrUnknown says that this package does not know what would be measured.
var ErrUnknown = errors.New("measurements are not known")

// Boot is what is booted and how.
type Boot struct {
	// UKI is the EFI program that the firmware starts.
	UKI         []byte
	StubVersion int
	SecureBoot  bool
	// Keys are those of the machines; without them register 7 is left out
	// where Secure Boot is on.
	Keys *secureboot.Keys
}

// canonical is the order in which the stub measures sections, whatever their
// order in the file (systemd's src/fundamental/uki.h). Those with a later
// version are measured from that version on.
var canonical = []struct {
	name string
	from int
}{
	{".linux", 0}, {".osrel", 0}, {".cmdline", 0}, {".initrd", 0},
	{".splash", 0}, {".dtb", 0}, {".uname", 254}, {".sbat", 254},
}

// unpredicted are sections that add to the initrd, choose among others or are
// measured under conditions; no image of ours has them.
var unpredicted = [...]string{".pcrsig", ".pcrpkey", ".ucode", ".profile", ".dtbauto", ".hwids", ".efifw"}

// stubs are the versions of systemd-stub whose measurements are known, each
// held against a boot: Debian 12's, its backports' and Debian 13's, with what
// lies between. Before 252 register 11 has another content.
const (
	oldestStub = 252
	newestStub = 257
)

// CheckStub refuses a version of systemd-stub whose measurements are not
// known. The error matches ErrUnknown.
func CheckStub(version int) error {
	if version < oldestStub || version > newestStub {
		return fmt.Errorf("%w: systemd-stub %d, only %d to %d", ErrUnknown, version, oldestStub, newestStub)
	}
	return nil
}

// Expect returns the registers that boot fixes: 4, 9 and 11 always, 7 where it
// is a constant or the keys are known. Errors match ErrUnknown or uki.ErrFormat.
func Expect(boot Boot) (release.Boot, error) {
	none := release.Boot{}
	if err := CheckStub(boot.StubVersion); err != nil {
		return none, err
	}
	sections, err := uki.Sections(boot.UKI)
	if err != nil {
		return none, err
	}
	for _, name := range []string{".linux", ".cmdline", ".initrd"} {
		if len(sections[name]) == 0 {
			return none, fmt.Errorf("%w: the image has no %s section", ErrUnknown, name)
		}
	}
	for _, name := range unpredicted {
		if _, there := sections[name]; there {
			return none, fmt.Errorf("%w: the image has a %s section", ErrUnknown, name)
		}
	}
	b := release.Boot{SecureBoot: boot.SecureBoot}
	if b.SHA256, b.Events, err = boot.bank(crypto.SHA256, sections); err != nil {
		return none, err
	}
	b.SHA384, _, err = boot.bank(crypto.SHA384, sections)
	return b, err
}

// bank is each register's value, and the events that make those of the image and of
// the keys.
func (b Boot) bank(alg crypto.Hash, sections map[string][]byte) (values map[string]string, events map[string][]string, err error) {
	four, err := b.loader(alg, sections[".linux"])
	if err != nil {
		return nil, nil, err
	}
	values, events = map[string]string{}, map[string][]string{}
	for name, r := range map[string]*register{
		"4":  four,
		"9":  kernelRegister(alg, sections[".cmdline"], handedOver(sections, b.StubVersion)),
		"11": stubRegister(alg, sections, b.StubVersion),
	} {
		values[name], events[name] = r.String(), r.events
	}
	switch {
	case !b.SecureBoot:
		values["7"] = noKeysRegister(alg)
	case b.Keys != nil:
		seven, err := keysRegister(alg, b.Keys)
		if err != nil {
			return nil, nil, err
		}
		values["7"], events["7"] = seven.String(), seven.events
	}
	return values, events, nil
}

// loader is register 4: the firmware's boot attempt and every program it is
// asked to load. Up to 257 the stub has the firmware load the kernel, which
// measures it; with Secure Boot on it goes round the firmware's own check, and
// the measurement with it.
func (b Boot) loader(alg crypto.Hash, linux []byte) (*register, error) {
	r := newRegister(alg)
	r.measure([]byte("Calling EFI Application from Boot Option"))
	r.measure(separator)
	if err := r.authenticode(b.UKI); err != nil {
		return nil, fmt.Errorf("hashing the image: %w", err)
	}
	if !b.SecureBoot {
		if err := r.authenticode(linux); err != nil {
			return nil, fmt.Errorf("hashing the kernel: %w", err)
		}
	}
	return r, nil
}

// kernelRegister is register 9: the kernel's EFI stub measures its command
// line, as the UTF-16 that the firmware handed over, and the initrd.
func kernelRegister(alg crypto.Hash, cmdline, initrd []byte) *register {
	r := newRegister(alg)
	r.measure(utf16LE(string(cmdline) + "\x00"))
	r.measure(initrd)
	return r
}

// stubRegister is register 11: each section's name, then its data.
func stubRegister(alg crypto.Hash, sections map[string][]byte, version int) *register {
	r := newRegister(alg)
	for _, s := range canonical {
		data, ok := sections[s.name]
		if !ok || version < s.from {
			continue
		}
		r.measure(append([]byte(s.name), 0))
		r.measure(data)
	}
	return r
}

// separator ends the firmware's part of a register (TCG PC Client Platform
// Firmware Profile, EV_SEPARATOR).
var separator = []byte{0, 0, 0, 0}

// register replays extends of one register in one bank.
type register struct {
	alg   crypto.Hash
	value []byte
	// events are what was extended, in lowercase hex.
	events []string
}

func newRegister(alg crypto.Hash) *register {
	return &register{alg: alg, value: make([]byte, alg.Size())}
}

func (r *register) extend(digest []byte) {
	h := r.alg.New()
	h.Write(r.value)
	h.Write(digest)
	r.value = h.Sum(nil)
	r.events = append(r.events, hex.EncodeToString(digest))
}

func (r *register) measure(event []byte) {
	h := r.alg.New()
	h.Write(event)
	r.extend(h.Sum(nil))
}

func (r *register) authenticode(image []byte) error {
	h := r.alg.New()
	if err := uki.Authenticode(image, h); err != nil {
		return err
	}
	r.extend(h.Sum(nil))
	return nil
}

func (r *register) String() string { return hex.EncodeToString(r.value) }

func utf16LE(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit), byte(unit>>8))
	}
	return b
}
