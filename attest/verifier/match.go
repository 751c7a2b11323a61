package verifier

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// match is the accepted release that the registers come closest to.
type match struct {
	digest   attest.ReleaseDigest
	manifest *release.Manifest
	boot     *release.Boot
	// shape is the machine that the firmware was measured on; nil where the
	// firmware is not the release's.
	shape *release.Shape
	// expected holds each register that the release or the policy fixes.
	expected fixed
	// differs are those that the machine shows otherwise.
	differs registerSet
	// unlocked says that above tier software this boot of the release does
	// not fix register 7 to Secure Boot.
	unlocked bool
}

// name is the release as a person knows it.
func (m match) name() string {
	return "release " + m.manifest.Version + ", epoch " + strconv.FormatUint(m.manifest.Epoch, 10)
}

// registerSet has a bit for each register.
type registerSet uint32

func setOf(registers ...uint8) registerSet {
	var s registerSet
	for _, r := range registers {
		s |= 1 << r
	}
	return s
}

func (s registerSet) has(register uint8) bool { return s&(1<<register) != 0 }

func (s registerSet) count() int { return bits.OnesCount32(uint32(s)) }

// names are "pcr" and the number of each, in ascending order.
func (s registerSet) names() []string {
	var names []string
	for r := range uint8(len(attest.Registers{})) {
		if s.has(r) {
			names = append(names, registerName(r))
		}
	}
	return names
}

func (s registerSet) String() string { return strings.Join(s.names(), ", ") }

// fixed are the registers that have one good value.
type fixed struct {
	set    registerSet
	values attest.Registers
}

// release is the digest of the release, where nothing differs.
func (m match) release() attest.ReleaseDigest {
	if m.differs != 0 || m.unlocked {
		return attest.ReleaseDigest{}
	}
	return m.digest
}

// matching compares the registers with every accepted release in each of its
// firmware modes and, where the firmware is its own, on each shape of machine.
// The one with the fewest differences explains a refusal; between equals the
// newest does.
func (j *judge) matching(root attest.Tier) match {
	var best match
	for digest, manifest := range j.policy.Releases {
		for i := range manifest.Boots {
			for s := range max(1, manifest.ShapeCount()) {
				m := match{digest: digest, manifest: manifest, boot: &manifest.Boots[i], shape: manifest.Shape(s)}
				if m.expect() != nil || manifest.SecureBootOnly() && !m.boot.SecureBoot {
					continue
				}
				m.differs = m.expected.differing(j.facts.Registers)
				m.unlocked = root > attest.TierSoftware && (!m.boot.SecureBoot || !m.expected.set.has(7))
				if best.manifest == nil || m.closer(best) {
					best = m
				}
			}
		}
	}
	return best
}

// differing are the registers that are not what is wanted.
func (f *fixed) differing(got *attest.Registers) registerSet {
	var differ registerSet
	for r := range uint8(len(got)) {
		if f.set.has(r) && got[r] != f.values[r] {
			differ |= setOf(r)
		}
	}
	return differ
}

func (m match) closer(than match) bool {
	if m.unlocked != than.unlocked {
		return than.unlocked
	}
	if m.differs.count() != than.differs.count() {
		return m.differs.count() < than.differs.count()
	}
	return m.manifest.Epoch > than.manifest.Epoch
}

// closed is a register with the separator and nothing else.
var closed = attest.SeparatorRegister()

// expect fixes what registers this boot of the release must show: the
// manifest's own, nothing before the image (2, 3: an option ROM or a Driver####
// variable runs before it and shows in 2 alone), nothing beside it (12, 13: a
// command line or an extension from outside). A release may not fix those
// otherwise, nor a register that is computed or not quoted.
func (m *match) expect() error {
	f := &m.expected
	f.set = setOf(2, 3, 12, 13)
	f.values[2], f.values[3] = closed, closed
	if err := f.fixAll(m.boot.SHA256); err != nil {
		return err
	}
	if m.shape != nil {
		if err := f.fixAll(m.shape.SHA256); err != nil {
			return err
		}
	}
	if missing := setOf(4, 9, 11) &^ f.set; missing != 0 {
		return fmt.Errorf("the release does not fix %s", missing)
	}
	return nil
}

func (f *fixed) fixAll(values map[string]string) error {
	for name, value := range values {
		if err := f.fix(name, value); err != nil {
			return err
		}
	}
	return nil
}

// quoted are the registers that evidence shows, computed those that follow
// from the configuration and the claim.
var (
	quoted   = setOf(tpm.Selection[:]...)
	computed = setOf(attest.RegisterConfig, attest.RegisterClaim)
)

// fix adds one register as the manifest names it.
func (f *fixed) fix(name, value string) error {
	register, err := strconv.ParseUint(name, 10, 8)
	if err != nil || register >= uint64(len(f.values)) {
		return fmt.Errorf("register %q is none", name)
	}
	r := uint8(register)
	var d attest.Digest
	// A conversion would allocate for each of the release's values.
	var text [2 * len(d)]byte
	if copy(text[:], value) != len(value) || d.UnmarshalText(text[:]) != nil {
		return fmt.Errorf("register %q is no digest", name)
	}
	if f.set.has(r) && f.values[r] != d {
		return fmt.Errorf("the release fixes register %d otherwise", r)
	}
	if computed.has(r) || !quoted.has(r) {
		return fmt.Errorf("register %d is not a release's to fix", r)
	}
	f.set |= setOf(r)
	f.values[r] = d
	return nil
}

// explain says for each register what was expected and what was there, each by
// its first eight hex digits, and which event of the log made it so.
func (m match) explain(wrong registerSet, facts *Verified) string {
	events, err := eventlog.Parse(facts.EventLog)
	if err != nil {
		events = nil
	}
	var lines []string
	for r := range uint8(len(facts.Registers)) {
		if !wrong.has(r) {
			continue
		}
		line := fmt.Sprintf("%s is %.8s…, release %s has %.8s…", registerName(r), facts.Registers[r], m.manifest.Version, m.expected.values[r])
		if why := eventlog.Explain(events, r, facts.Registers[r], m.expected.values[r], m.reference(r)); why != "" {
			line += " (the log's " + why + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// reference are the events that the release names for a register.
func (m match) reference(register uint8) []attest.Digest {
	digests, err := m.boot.EventDigests(strconv.Itoa(int(register)))
	if err != nil {
		return nil
	}
	return digests
}

func registerName(register uint8) string { return fmt.Sprintf("pcr%d", register) }
