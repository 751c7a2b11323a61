package verifier

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// match is the accepted release that the registers come closest to.
type match struct {
	digest   attest.ReleaseDigest
	manifest *release.Manifest
	// shape is the machine that the firmware was measured on; nil where the
	// firmware is not the release's.
	shape *release.Shape
	// expected holds each register that the release or the policy fixes.
	expected map[uint8]attest.Digest
	// differs names those that the machine shows otherwise.
	differs []string
	// unlocked says that above tier software this boot of the release does
	// not fix register 7 to Secure Boot.
	unlocked bool
}

// release is the digest of the release, where nothing differs.
func (m match) release() attest.ReleaseDigest {
	if len(m.differs) > 0 || m.unlocked {
		return attest.ReleaseDigest{}
	}
	return m.digest
}

// match compares the registers with every accepted release in each of its
// firmware modes and, where the firmware is its own, on each shape of machine.
// The one with the fewest differences explains a refusal; between equals the
// newest does.
func (j *judge) match(root attest.Tier) match {
	var best match
	for digest, manifest := range j.policy.Releases {
		for _, boot := range manifest.Boots {
			for _, shape := range shapes(manifest) {
				want, err := expected(boot, shape)
				if err != nil {
					continue
				}
				m := match{digest: digest, manifest: manifest, shape: shape, expected: want, differs: j.differing(want)}
				if _, pinned := want[7]; root > attest.TierSoftware && (!boot.SecureBoot || !pinned) {
					m.unlocked = true
				}
				if best.manifest == nil || m.closer(best) {
					best = m
				}
			}
		}
	}
	slices.SortFunc(best.differs, byNumber)
	return best
}

// shapes are those of the release's own firmware, or one that fixes nothing
// where it has none.
func shapes(m *release.Manifest) []*release.Shape {
	if m.Firmware == nil {
		return []*release.Shape{nil}
	}
	all := make([]*release.Shape, len(m.Firmware.Shapes))
	for i := range m.Firmware.Shapes {
		all[i] = &m.Firmware.Shapes[i]
	}
	return all
}

// differing names the registers that are not what is wanted.
func (j *judge) differing(want map[uint8]attest.Digest) []string {
	var names []string
	for register, value := range want {
		if j.facts.Registers[register] != value {
			names = append(names, registerName(register))
		}
	}
	return names
}

func (m match) closer(than match) bool {
	if m.unlocked != than.unlocked {
		return than.unlocked
	}
	if len(m.differs) != len(than.differs) {
		return len(m.differs) < len(than.differs)
	}
	return m.manifest.Epoch > than.manifest.Epoch
}

// expected is what registers a boot of the release must show: the manifest's
// own, nothing before the image (2, 3: an option ROM or a Driver#### variable
// runs before it and shows in 2 alone), nothing beside it (12, 13: a command
// line or an extension from outside). A release may not fix those otherwise,
// nor a register that is computed or not quoted.
func expected(boot release.Boot, shape *release.Shape) (map[uint8]attest.Digest, error) {
	want := map[uint8]attest.Digest{
		2: attest.SeparatorRegister(), 3: attest.SeparatorRegister(), 12: {}, 13: {},
	}
	fixed := []map[string]string{boot.SHA256}
	if shape != nil {
		fixed = append(fixed, shape.SHA256)
	}
	for _, values := range fixed {
		for name, value := range values {
			if err := fix(want, name, value); err != nil {
				return nil, err
			}
		}
	}
	for _, register := range [...]uint8{4, 9, 11} {
		if _, ok := want[register]; !ok {
			return nil, fmt.Errorf("the release does not fix register %d", register)
		}
	}
	return want, nil
}

// fix adds one register as the manifest names it.
func fix(want map[uint8]attest.Digest, name, value string) error {
	register, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		return fmt.Errorf("register %q: %w", name, err)
	}
	var d attest.Digest
	if err := d.UnmarshalText([]byte(value)); err != nil {
		return fmt.Errorf("register %q: %w", name, err)
	}
	if fixed, ok := want[uint8(register)]; ok && fixed != d {
		return fmt.Errorf("the release fixes register %d otherwise", register)
	}
	computed := register == attest.RegisterConfig || register == attest.RegisterClaim
	if computed || !slices.Contains(tpm.Selection[:], uint8(register)) {
		return fmt.Errorf("register %d is not a release's to fix", register)
	}
	want[uint8(register)] = d
	return nil
}

// only is the intersection of what differs with names.
func (m match) only(names ...string) []string {
	var wrong []string
	for _, name := range m.differs {
		if slices.Contains(names, name) {
			wrong = append(wrong, name)
		}
	}
	return wrong
}

// explain says for each register what was expected and what was there, each by
// its first eight hex digits.
func (m match) explain(names []string, got map[uint8]attest.Digest) []string {
	var lines []string
	for _, register := range slices.Sorted(maps.Keys(m.expected)) {
		if name := registerName(register); slices.Contains(names, name) {
			lines = append(lines, fmt.Sprintf("%s is %.8s…, release %s has %.8s…", name, got[register], m.manifest.Version, m.expected[register]))
		}
	}
	return lines
}

// byNumber orders register names: shorter ones have the smaller numbers.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func registerName(register uint8) string { return fmt.Sprintf("pcr%d", register) }
