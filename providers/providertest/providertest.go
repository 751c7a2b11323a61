// Package providertest is the conformance suite that every provider passes.
//
// Invariants: it sees a provider as the control plane does, through the
// contract alone; it makes only machines of random ids and installations, so
// that runs side by side do not meet; a case is left out only for want of a
// capability, which it names; and it leaves nothing behind, which it checks
// itself and reports as leaks.
package providertest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// What a subject can have besides what Info offers, named by a case that was
// left out for want of it.
const (
	CapabilityFaults  providers.Capability = "fault-injection"
	CapabilityProcess providers.Capability = "process"
)

// Subject is a provider under test.
type Subject struct {
	// Name is what reports call it; empty is the provider's own name.
	Name     string
	Provider providers.Provider
	// Settings is what the provider was configured with.
	Settings []byte
	// Rotated are settings that mean the same with other credentials; nil
	// where there are no credentials.
	Rotated []byte
	// Image is a disk that EnsureImage takes; it need not boot.
	Image providers.Image
	// Spec is what machines are made from. Its release is Image's.
	Spec providers.Spec
	// Patience is how long a machine may take to reach a power state.
	Patience time.Duration
	// Fresh answers the same provider as another process would be, not
	// configured yet; nil where there cannot be two.
	Fresh func(ctx context.Context) (providers.Provider, error)
	// Kill ends the provider's process by force, as often as it is called; nil
	// where it has none.
	Kill func() error
	// Faults makes the cloud misbehave; nil where it cannot.
	Faults Injector
}

// T is what a case reports to. A *testing.T is one.
type T interface {
	Context() context.Context
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
}

var _ T = (*testing.T)(nil)

// Run checks a provider in a test. open makes and configures it, and cleans up
// after it with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	s := &suite{Subject: open(t)}
	info, err := s.Provider.Info(t.Context())
	if err != nil {
		t.Fatalf("Info: %v", err)
	}
	s.info = info
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { s.run(t, c) })
	}
}

// testCase is one case. Its name says what holds.
type testCase struct {
	name  string
	check func(t T, s *suite)
	// needs is what the case cannot do without; empty for nothing.
	needs providers.Capability
}

// cases are in the order in which a reader of the contract would ask.
func cases() []testCase {
	return slices.Concat(infoCases, configureCases, offeringCases, imageCases, createCases, getCases,
		powerCases, applyCases, deleteCases, listCases, consoleCases, snapshotCases, attachCases, endorseCases, watchCases,
		processCases, faultCases)
}

// suite is one run of the cases.
type suite struct {
	Subject
	info  providers.Info
	leaks int
}

func (s *suite) run(t T, c testCase) {
	t.Helper()
	if c.needs != "" && !s.has(c.needs) {
		t.Skipf("the capability %s is not offered", c.needs)
	}
	c.check(t, s)
}

func (s *suite) has(c providers.Capability) bool {
	switch c {
	case CapabilityFaults:
		return s.Faults != nil
	case CapabilityProcess:
		return s.Kill != nil
	}
	return slices.Contains(s.info.Capabilities, c)
}
