// Package providertest is the conformance suite that every provider passes.
//
// Invariants: it sees a provider as the control plane does, through the
// contract alone; it makes only machines of random ids and installations, so
// that runs side by side do not meet; and it leaves nothing behind, which it
// checks itself and reports as leaks.
package providertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// The attributes by which a test's output tells what it was about.
const (
	AttrProvider = "conformance.provider"
	AttrLeaks    = "conformance.leaks"
)

// Subject is a provider under test.
type Subject struct {
	// Name is what reports call it; empty is the provider's own name.
	Name     string
	Provider providers.Provider
	// Settings is what the provider was configured with.
	Settings []byte
	// Image is a disk that EnsureImage takes; it need not boot.
	Image providers.Image
	// Spec is what machines are made from. Its release is Image's.
	Spec providers.Spec
	// Patience is how long a machine may take to reach a power state.
	Patience time.Duration
}

// Run checks a provider. open makes and configures it, and cleans up after it
// with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	s := &suite{Subject: open(t)}
	info, err := s.Provider.Info(t.Context())
	if err != nil {
		t.Fatalf("Info: %v", err)
	}
	t.Attr(AttrProvider, cmp.Or(s.Name, info.Name))
	s.info = info
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.check(t, s) })
	}
	t.Attr(AttrLeaks, strconv.Itoa(s.leaks))
}

// cases are in the order in which a reader of the contract would ask. Names
// say what holds.
var cases = []struct {
	name  string
	check func(t *testing.T, s *suite)
}{
	{"info-says-who-it-is", infoSaysWho},
	{"configure-can-be-repeated", configureRepeats},
	{"configure-refuses-the-unknown", configureRefuses},
	{"offerings-are-not-empty", offeringsNotEmpty},
	{"image-can-be-repeated", imageRepeats},
	{"image-with-other-bytes-is-refused", imageRefusesOtherBytes},
	{"create-makes-what-was-asked-for", createMakes},
	{"create-can-be-repeated", createRepeats},
	{"create-at-once-makes-one", createAtOnce},
	{"create-from-another-spec-conflicts", createConflicts},
	{"create-refuses-what-cannot-be", createRefuses},
	{"get-of-nothing-is-not-found", getNothing},
	{"power-goes-off-and-on", powerGoesOffAndOn},
	{"power-of-nothing-is-not-found", powerNothing},
	{"delete-can-be-repeated", deleteRepeats},
	{"delete-of-nothing-is-fine", deleteNothing},
	{"delete-of-a-machine-being-made", deleteAtOnce},
	{"delete-of-a-machine-that-is-off", deleteOff},
	{"delete-can-keep-the-data", deleteKeeps},
	{"list-tells-everything-by-pages", listTells},
	{"list-keeps-installations-apart", listApart},
	{"console-shows-a-machine", consoleShows},
	{"a-call-that-was-given-up-ends", givenUp},
}

// suite is one run of the cases.
type suite struct {
	Subject
	info  providers.Info
	leaks int
}

func newID(t *testing.T) string {
	t.Helper()
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// bench is what one case works with: an installation of its own, of which
// nothing must be left at the end.
type bench struct {
	*suite
	t            *testing.T
	installation providers.InstallationID
	made         []providers.MachineID
}

func (s *suite) bench(t *testing.T) *bench {
	t.Helper()
	b := &bench{suite: s, t: t, installation: providers.InstallationID(newID(t))}
	t.Cleanup(b.clean)
	return b
}

// clean deletes what the case made and counts what is still there.
func (b *bench) clean() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), b.Patience)
	defer cancel()
	for _, id := range b.made {
		if err := b.Provider.Delete(ctx, id, false); err != nil {
			b.t.Errorf("Delete(%s): %v", id, err)
		}
	}
	left := b.list(ctx)
	b.leaks += len(left)
	for _, r := range left {
		b.t.Errorf("left behind: %+v", r)
	}
}

func (b *bench) request() providers.CreateRequest {
	id := providers.MachineID(newID(b.t))
	b.made = append(b.made, id)
	return providers.CreateRequest{Installation: b.installation, Machine: id, Spec: b.Spec}
}

func (b *bench) ensureImage() {
	b.t.Helper()
	if err := b.Provider.EnsureImage(b.t.Context(), b.Image, nil); err != nil {
		b.t.Fatalf("EnsureImage: %v", err)
	}
}

// create makes a machine and waits until it is on.
func (b *bench) create() (providers.CreateRequest, providers.Machine) {
	b.t.Helper()
	b.ensureImage()
	req := b.request()
	if _, err := b.Provider.Create(b.t.Context(), req); err != nil {
		b.t.Fatalf("Create: %v", err)
	}
	return req, b.await(req.Machine, providers.PowerOn)
}

func (b *bench) get(id providers.MachineID) providers.Machine {
	b.t.Helper()
	m, err := b.Provider.Get(b.t.Context(), id)
	if err != nil {
		b.t.Fatalf("Get(%s): %v", id, err)
	}
	return m
}

// await asks until the machine is in a power state. The contract has no way to
// be told.
func (b *bench) await(id providers.MachineID, want providers.Power) providers.Machine {
	b.t.Helper()
	deadline := time.NewTimer(b.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		m := b.get(id)
		switch m.Power {
		case want:
			return m
		case providers.PowerCrashed:
			b.t.Fatalf("machine crashed: %s", m.Reason)
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			b.t.Fatalf("machine is %s (%s), want %s", m.Power, m.Reason, want)
		}
	}
}

// list reads every page.
func (b *bench) list(ctx context.Context) []providers.Resource {
	b.t.Helper()
	const mostPages = 1000
	var out []providers.Resource
	page := ""
	for range mostPages {
		p, err := b.Provider.List(ctx, b.installation, page)
		if err != nil {
			b.t.Fatalf("List: %v", err)
		}
		out = append(out, p.Resources...)
		if p.Next == "" {
			return out
		}
		if p.Next == page {
			b.t.Fatalf("List: page %q follows itself", page)
		}
		page = p.Next
	}
	b.t.Fatalf("List: no end after %d pages", mostPages)
	return nil
}

func count(resources []providers.Resource, kind providers.ResourceKind) int {
	n := 0
	for _, r := range resources {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

// wantCode checks that err is an *Error with the code, and one that says
// something.
func wantCode(t *testing.T, what string, err error, want providers.Code) {
	t.Helper()
	var e *providers.Error
	switch {
	case !errors.As(err, &e):
		t.Errorf("%s answered %v, want %s", what, err, want)
	case e.Code != want:
		t.Errorf("%s answered %v, want %s", what, err, want)
	case e.Message == "":
		t.Errorf("%s answered an error without a message: %+v", what, e)
	}
}
