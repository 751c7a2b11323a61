package release

import (
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// MaxWitnesses caps the witnesses of a policy.
const MaxWitnesses = 16

// Witness is one whose cosignatures count. Label says in the result what it is
// worth, such as "dev" for one that the operator runs too; it may be empty.
type Witness struct {
	Key   checkpoint.Key
	Label string
}

// LogPolicy says which transparency log has to vouch for a release. Either
// every field but Memory is set, or NotRequired alone is: whatever is left open
// is attest.ErrPolicy.
type LogPolicy struct {
	// NotRequired says aloud that no log is asked.
	NotRequired bool
	Log         checkpoint.Key
	Witnesses   []Witness
	// Quorum is how many of the witnesses must have cosigned, at least one.
	Quorum int
	// MaxAge is how old a cosignature that counts may be.
	MaxAge time.Duration
	// TimeFloor is what the clock is never before, whatever it says: the latest
	// of the program's build, the cosignatures and the results it has seen.
	TimeFloor time.Time
	// Memory is what this client has learned of the log before.
	Memory Memory
}

// Memory is what a client learns of a log and keeps. The zero value has learned
// nothing.
type Memory struct {
	Rotations []Rotated              `json:"rotations,omitempty"`
	Withdrawn []attest.ReleaseDigest `json:"withdrawn,omitempty"`
	// Time is the latest that a quorum of witnesses has vouched for.
	Time time.Time `json:"time,omitzero"`
}

// Rotated is a key that another took the place of, at that index of the log.
// The keys are as logentry.Rotation has them.
type Rotated struct {
	Use   logentry.Use `json:"use"`
	Old   []byte       `json:"old"`
	New   []byte       `json:"new"`
	Index int64        `json:"index"`
}

// IsZero reports whether nothing was learned.
func (m Memory) IsZero() bool {
	return len(m.Rotations) == 0 && len(m.Withdrawn) == 0 && m.Time.IsZero()
}

// Now is the time that holds: the clock's, or the latest that is known to have
// been.
func (p LogPolicy) Now(clock time.Time, l Logged) time.Time {
	return later(later(clock, l.At), later(p.TimeFloor, p.Memory.Time))
}

// Has reports whether another memory adds nothing.
func (m Memory) Has(other Memory) bool {
	merged := m.Merge(other)
	return len(merged.Rotations) == len(m.Rotations) && len(merged.Withdrawn) == len(m.Withdrawn) && merged.Time.Equal(m.Time)
}

// Merge adds what another memory knows and keeps the order of rotations.
func (m Memory) Merge(other Memory) Memory {
	merged := Memory{Rotations: slices.Clone(m.Rotations), Withdrawn: slices.Clone(m.Withdrawn), Time: later(m.Time, other.Time)}
	for _, r := range other.Rotations {
		if !slices.ContainsFunc(merged.Rotations, r.equal) {
			merged.Rotations = append(merged.Rotations, r)
		}
	}
	for _, d := range other.Withdrawn {
		if !slices.Contains(merged.Withdrawn, d) {
			merged.Withdrawn = append(merged.Withdrawn, d)
		}
	}
	slices.SortStableFunc(merged.Rotations, func(a, b Rotated) int { return int(a.Index - b.Index) })
	return merged
}

func (r Rotated) equal(o Rotated) bool {
	return r.Use == o.Use && string(r.Old) == string(o.Old) && string(r.New) == string(o.New)
}

func (m Memory) equal(o Memory) bool {
	return m.Time.Equal(o.Time) && slices.Equal(m.Withdrawn, o.Withdrawn) &&
		slices.EqualFunc(m.Rotations, o.Rotations, func(a, b Rotated) bool { return a.Index == b.Index && a.equal(b) })
}

func (p LogPolicy) equal(o LogPolicy) bool {
	return p.NotRequired == o.NotRequired && p.Log == o.Log && p.Quorum == o.Quorum && p.MaxAge == o.MaxAge &&
		p.TimeFloor.Equal(o.TimeFloor) && slices.Equal(p.Witnesses, o.Witnesses) && p.Memory.equal(o.Memory)
}

// check fails closed.
func (p LogPolicy) check() error {
	if !p.NotRequired && p.TimeFloor.IsZero() {
		return incomplete("the clock has no floor")
	}
	return p.CheckButFloor()
}

// CheckButFloor is what VerifyLogged checks of a policy first, but for the
// floor of time, which is the client's own. The error is attest.ErrPolicy.
func (p LogPolicy) CheckButFloor() error {
	if p.NotRequired {
		if !p.Log.IsZero() || len(p.Witnesses) > 0 || p.Quorum != 0 || p.MaxAge != 0 {
			return incomplete("a log is named, and said not to be required")
		}
		return nil
	}
	switch {
	case p.Log.IsZero():
		return incomplete("no log, and not said that none is required")
	case len(p.Witnesses) == 0 || len(p.Witnesses) > MaxWitnesses:
		return incomplete("%d witnesses, want 1 to %d", len(p.Witnesses), MaxWitnesses)
	case p.Quorum < 1 || p.Quorum > len(p.Witnesses):
		return incomplete("%d of %d witnesses are asked for", p.Quorum, len(p.Witnesses))
	case p.MaxAge <= 0:
		return incomplete("cosignatures have no maximum age")
	}
	for n, w := range p.Witnesses {
		if w.Key.IsZero() {
			return incomplete("witness %d has no key", n+1)
		}
		// The same key under two names would count twice.
		same := func(o Witness) bool { return string(o.Key.Public()) == string(w.Key.Public()) }
		if slices.ContainsFunc(p.Witnesses[:n], same) || string(w.Key.Public()) == string(p.Log.Public()) {
			return incomplete("witness %s has the key of another or of the log", w.Key.Name())
		}
	}
	return nil
}

func incomplete(format string, args ...any) error {
	return fmt.Errorf("%w: transparency: %w", attest.ErrPolicy, fmt.Errorf(format, args...))
}

func opaque(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrTransparency, fmt.Errorf(format, args...))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
