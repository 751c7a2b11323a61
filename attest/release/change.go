package release

import (
	"maps"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
)

// Secure Boot's variables that a release may change on a running machine. PK and
// KEK say who may change them, and stay.
const (
	VariableDB  = "db"
	VariableDBX = "dbx"
)

// SecureBootChange is the change of one variable, since between two a cut of the
// power would leave a register 7 that nobody has named. The last of Boots is a
// machine before it, the one ahead of that a machine after it, and a new one.
type SecureBootChange struct {
	Variable string `json:"variable"`
	// Adds and Removes are what the variable is to have and not to have: SHA-256
	// of certificates, and of images as Authenticode hashes them.
	Adds    []attest.Digest `json:"adds,omitempty"`
	Removes []attest.Digest `json:"removes,omitempty"`
	// Write is what the firmware takes, the new contents behind a signature by KEK
	// (UEFI specification 2.10, section 8.2.2); nil until the release is signed.
	Write *File `json:"write,omitempty"`
}

// The caps on a change: what firmware takes of one variable with its signature, and
// what a manifest has room for.
const (
	MaxWriteBytes = 128 << 10
	maxChanged    = 256
)

// The events of register 7 with Secure Boot on, of which a change is one (TCG PC
// Client Platform Firmware Profile): SecureBoot, PK, KEK, db, dbx, the separator,
// and the entry of db that vouched for the image.
const (
	secureBootEvents = 7
	eventDB          = 3
	eventDBX         = 4
)

// event is the place of the variable among them; negative where it has none.
func (c *SecureBootChange) event() int {
	switch c.Variable {
	case VariableDB:
		return eventDB
	case VariableDBX:
		return eventDBX
	}
	return -1
}

// Event is the event of register 7 that the variable makes in a boot of the release.
// The error is that of a digest that is none.
func (c *SecureBootChange) Event(b Boot) (attest.Digest, error) {
	digests, err := b.EventDigests("7")
	if err != nil {
		return attest.Digest{}, err
	}
	if n := c.event(); n >= 0 && n < len(digests) {
		return digests[n], nil
	}
	return attest.Digest{}, unacceptable("secure_boot_change.variable: register 7 has no event of it")
}

// SameLists says that in a boot of the release register 7 is made of the same variables
// as by these events, whichever entry of db vouches for the image.
func (b Boot) SameLists(events []attest.Digest) bool {
	own, err := b.EventDigests("7")
	last := secureBootEvents - 1
	return err == nil && len(own) == secureBootEvents && len(events) == secureBootEvents && slices.Equal(own[:last], events[:last])
}

// BeforeChange is the release on a machine that has not made its change, and
// AfterChange on one that has; nil without a change.
func (m *Manifest) BeforeChange() *Boot { return m.changing(1) }

// AfterChange is described with BeforeChange.
func (m *Manifest) AfterChange() *Boot { return m.changing(2) }

// Pending is the change that a machine of the release with this register 7 has not
// made; nil where it has, or there is none.
func (m *Manifest) Pending(seven attest.Digest) *SecureBootChange {
	if b := m.BeforeChange(); b != nil && b.SHA256["7"] == seven.String() {
		return m.SecureBootChange
	}
	return nil
}

func (m *Manifest) changing(last int) *Boot {
	if m.SecureBootChange == nil || len(m.Boots) < last {
		return nil
	}
	return &m.Boots[len(m.Boots)-last]
}

// validate answers the boots without the one before the change, and wants that to
// differ from the one after it by the one event that is the variable's.
func (c *SecureBootChange) validate(boots []Boot) ([]Boot, error) {
	if c == nil {
		return boots, nil
	}
	if c.event() < 0 {
		return nil, unacceptable("secure_boot_change.variable is %q, want %s or %s", c.Variable, VariableDB, VariableDBX)
	}
	for field, digests := range map[string][]attest.Digest{"adds": c.Adds, "removes": c.Removes} {
		if len(digests) > maxChanged || slices.Contains(digests, attest.Digest{}) {
			return nil, unacceptable("secure_boot_change.%s has %d entries, want at most %d, none of them zero", field, len(digests), maxChanged)
		}
	}
	if c.Write != nil {
		if err := validFile("secure_boot_change.write", *c.Write); err != nil {
			return nil, err
		}
		if c.Write.Bytes > MaxWriteBytes {
			return nil, unacceptable("secure_boot_change.write.bytes is %d, at most %d", c.Write.Bytes, MaxWriteBytes)
		}
	}
	if len(boots) < 2 {
		return nil, unacceptable("secure_boot_change: boots has %d entries, want those before and after", len(boots))
	}
	rest, before := boots[:len(boots)-1], boots[len(boots)-1]
	if err := before.validate(len(rest)); err != nil {
		return nil, err
	}
	return rest, c.validBoots(before, rest[len(rest)-1])
}

func (c *SecureBootChange) validBoots(before, after Boot) error {
	if !before.SecureBoot || !after.SecureBoot {
		return unacceptable("secure_boot_change: the last two of boots are not with Secure Boot on")
	}
	for _, bank := range [][2]map[string]string{{before.SHA256, after.SHA256}, {before.SHA384, after.SHA384}} {
		a, b := maps.Clone(bank[0]), maps.Clone(bank[1])
		if a["7"] == "" || a["7"] == b["7"] {
			return unacceptable("secure_boot_change: register 7 is the same before and after, or not named")
		}
		delete(a, "7")
		delete(b, "7")
		if !maps.Equal(a, b) {
			return unacceptable("secure_boot_change: the last two of boots differ in other registers than 7")
		}
	}
	from, to := before.Events["7"], after.Events["7"]
	if len(from) != secureBootEvents || len(to) != secureBootEvents {
		return unacceptable("secure_boot_change: register 7 has not %d events before and after", secureBootEvents)
	}
	for n := range from {
		if (from[n] != to[n]) != (n == c.event()) {
			return unacceptable("secure_boot_change: event %d of register 7 is not as a change of %s leaves it", n, c.Variable)
		}
	}
	return nil
}
