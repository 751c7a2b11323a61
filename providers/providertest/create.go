package providertest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

var createCases = slices.Concat([]testCase{
	{name: "create-makes-what-was-asked-for", check: createMakes},
	{name: "create-answers-before-a-machine-has-booted", check: createAnswers},
	{name: "create-can-be-repeated", check: createRepeats},
	{name: "create-of-another-generation-is-the-same", check: createGeneration},
	{name: "create-fifty-at-once-makes-one", check: createAtOnce},
	{name: "create-of-many-keeps-them-apart", check: createApart},
	{name: "create-with-another-configuration-conflicts", check: conflicts(func(r *providers.CreateRequest) {
		r.Spec.Config = append(slices.Clone(r.Spec.Config), 0)
	})},
	{name: "create-with-another-disk-conflicts", check: conflicts(func(r *providers.CreateRequest) { r.Spec.DataBytes *= 2 })},
	{name: "create-for-another-installation-conflicts", check: conflicts(func(r *providers.CreateRequest) {
		r.Installation = providers.InstallationID(newID())
	})},
	{name: "create-takes-a-configuration-of-16-KiB", check: func(t T, s *suite) {
		b := s.bench(t)
		b.ensureImage()
		req := b.request()
		req.Spec.Config = []byte(strings.Repeat("c", 16<<10))
		if _, err := s.Provider.Create(t.Context(), req); err != nil {
			t.Errorf("Create: %v", err)
		}
	}},
	{name: "create-in-no-such-region-names-those-that-are", check: func(t T, s *suite) {
		s.namesOffered(t, func(r *providers.CreateRequest) { r.Spec.Region = "no-such-region" }, func(o providers.Offering) string { return o.Region })
	}},
	{name: "create-of-no-such-size-names-those-that-are", check: func(t T, s *suite) {
		s.namesOffered(t, func(r *providers.CreateRequest) { r.Spec.Size = "no-such-size" }, func(o providers.Offering) string { return o.Size })
	}},
	{name: "create-that-was-given-up-ends", check: func(t T, s *suite) {
		b := s.bench(t)
		b.ensureImage()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Provider.Create(ctx, b.request()); err == nil {
			t.Logf("Create went through although its caller had given up")
		}
	}},
}, refusedCreates)

// refusedCreates are what no machine can be made from.
var refusedCreates = []testCase{
	{name: "create-without-a-machine-is-refused", check: refuses("machine", func(r *providers.CreateRequest) { r.Machine = "" })},
	{name: "create-without-an-installation-is-refused", check: refuses("installation", func(r *providers.CreateRequest) { r.Installation = "" })},
	{name: "create-without-a-data-disk-is-refused", check: refuses("data_bytes", func(r *providers.CreateRequest) { r.Spec.DataBytes = 0 })},
	{name: "create-with-a-negative-disk-is-refused", check: refuses("data_bytes", func(r *providers.CreateRequest) { r.Spec.DataBytes = -1 })},
	{name: "create-without-a-configuration-is-refused", check: refuses("config", func(r *providers.CreateRequest) { r.Spec.Config = nil })},
	{name: "create-from-an-unknown-release-is-refused", check: refuses("release", func(r *providers.CreateRequest) { r.Spec.Release[0] ^= 1 })},
	{name: "create-from-no-release-is-refused", check: refuses("release", func(r *providers.CreateRequest) { r.Spec.Release = attest.ReleaseDigest{} })},
}

func createMakes(t T, s *suite) {
	b := s.bench(t)
	req, m := b.create()
	if m.ID != req.Machine || m.Installation != req.Installation || m.Generation != req.Generation {
		t.Errorf("machine %s of %s at generation %d", m.ID, m.Installation, m.Generation)
	}
	if m.SpecHash != req.Spec.Hash() || m.Release != req.Spec.Release {
		t.Errorf("spec %s, release %s", m.SpecHash, m.Release)
	}
	if req.Spec.Region != "" && m.Region != req.Spec.Region || req.Spec.Size != "" && m.Size != req.Spec.Size {
		t.Errorf("it is a %q in %q", m.Size, m.Region)
	}
	if m.Endpoint == "" || m.CreatedAt.IsZero() || m.Region == "" || m.Size == "" {
		t.Errorf("something is missing: %+v", m)
	}
	if m.Reason != "" || m.Drift != "" {
		t.Errorf("a new machine has reason %q, drift %q", m.Reason, m.Drift)
	}
	if count(m.Resources, providers.ResourceMachine) != 1 || count(m.Resources, providers.ResourceDataDisk) != 1 {
		t.Errorf("resources %+v", m.Resources)
	}
}

// createPatience is how long a cloud may take to accept.
const createPatience = 30 * time.Second

func createAnswers(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	ctx, cancel := context.WithTimeout(t.Context(), createPatience)
	defer cancel()
	m, err := s.Provider.Create(ctx, b.request())
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if m.Power != providers.PowerPending && m.Power != providers.PowerOn {
		t.Errorf("a machine that was accepted is %s", m.Power)
	}
}

func createRepeats(t T, s *suite) {
	b := s.bench(t)
	req, first := b.create()
	again, err := s.Provider.Create(t.Context(), req)
	if err != nil {
		t.Fatalf("Create again: %v", err)
	}
	if again.Endpoint != first.Endpoint || !again.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("got another machine: %+v, was %+v", again, first)
	}
	b.wantMachines(1)
}

func createGeneration(t T, s *suite) {
	b := s.bench(t)
	req, first := b.create()
	req.Generation++
	again, err := s.Provider.Create(t.Context(), req)
	if err != nil {
		t.Fatalf("Create again: %v", err)
	}
	if again.Generation != first.Generation {
		t.Errorf("generation %d, was %d: only Apply raises it", again.Generation, first.Generation)
	}
	b.wantMachines(1)
}

func createAtOnce(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	const callers = 50
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { _, errs[i] = s.Provider.Create(t.Context(), req) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !passes(err) {
			t.Errorf("Create: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), b.Patience)
	defer cancel()
	if err := b.insist(ctx, func() error { _, err := s.Provider.Create(ctx, req); return err }); err != nil {
		t.Fatalf("Create after all of them: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
	if n := count(b.list(), providers.ResourceDataDisk); n != 1 {
		t.Errorf("%d data disks, want 1", n)
	}
}

func createApart(t T, s *suite) {
	b := s.bench(t)
	endpoints, ids := map[string]bool{}, map[string]bool{}
	const machines = 3
	for range machines {
		_, m := b.create()
		endpoints[m.Endpoint] = true
		for _, r := range m.Resources {
			if ids[string(r.Kind)+" "+r.ID] {
				t.Errorf("two machines have %s %s", r.Kind, r.ID)
			}
			ids[string(r.Kind)+" "+r.ID] = true
		}
	}
	if len(endpoints) != machines {
		t.Errorf("%d machines are reached at %d places", machines, len(endpoints))
	}
}

// conflicts checks that a machine's id is refused with another request, which
// changes nothing.
func conflicts(change func(*providers.CreateRequest)) func(T, *suite) {
	return func(t T, s *suite) {
		b := s.bench(t)
		req, first := b.create()
		other := req
		change(&other)
		_, err := s.Provider.Create(t.Context(), other)
		wantCode(t, "Create", err, providers.CodeConflict)
		m := b.get(req.Machine)
		if m.SpecHash != first.SpecHash || m.Installation != first.Installation || m.Endpoint != first.Endpoint {
			t.Errorf("a refused Create changed the machine: %+v", m)
		}
		b.wantMachines(1)
	}
}

// refuses checks that a request with one thing wrong is refused by its name,
// and makes nothing.
func refuses(field string, spoil func(*providers.CreateRequest)) func(T, *suite) {
	return func(t T, s *suite) {
		b := s.bench(t)
		b.ensureImage()
		req := b.request()
		spoil(&req)
		_, err := s.Provider.Create(t.Context(), req)
		wantCode(t, "Create", err, providers.CodeInvalid)
		if err != nil && !strings.Contains(messageOf(err), field) {
			t.Errorf("%s is not named: %v", field, err)
		}
		b.wantNothing()
	}
}

// namesOffered checks that what is not offered is refused with what is.
func (s *suite) namesOffered(t T, spoil func(*providers.CreateRequest), name func(providers.Offering) string) {
	t.Helper()
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	spoil(&req)
	_, err := s.Provider.Create(t.Context(), req)
	wantCode(t, "Create", err, providers.CodeInvalid)
	for _, o := range s.offerings(t) {
		if err != nil && strings.Contains(messageOf(err), name(o)) {
			return
		}
	}
	t.Errorf("nothing that is offered is named: %v", err)
}
