package providertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// FaultKind is a way in which clouds misbehave.
type FaultKind string

// The kinds. Where nothing else is said, one meets the next request to the
// cloud of the kind that it speaks of, and then is over.
const (
	// FaultLostAnswer: a machine is made, and the answer that says so is lost.
	FaultLostAnswer FaultKind = "lost-answer"
	// FaultPartial: making a machine fails once some of it was made.
	FaultPartial FaultKind = "partial"
	// FaultPartialDelete: deleting a machine fails once some of it is gone.
	FaultPartialDelete FaultKind = "partial-delete"
	// FaultThrottle: requests of any kind are too many, for a second.
	FaultThrottle FaultKind = "throttle"
	// FaultCapacity: the place has no room for another machine.
	FaultCapacity FaultKind = "capacity"
	// FaultQuota: the account may have no other machine.
	FaultQuota FaultKind = "quota"
	// FaultDenied: the credentials may not make machines.
	FaultDenied FaultKind = "denied"
	// FaultUnauthenticated: the credentials are not known, until others are
	// configured.
	FaultUnauthenticated FaultKind = "unauthenticated"
	// FaultUnavailable: the next request of any kind is refused as an outage.
	FaultUnavailable FaultKind = "unavailable"
	// FaultHang: the next request that makes a machine is never answered, and
	// makes none.
	FaultHang FaultKind = "hang"
	// FaultLag: for a while, what is made is in no listing and no lookup.
	FaultLag FaultKind = "lag"
	// FaultDrift: somebody changes what the provider had set at a machine.
	FaultDrift FaultKind = "drift"
	// FaultCrash: a machine ends without having been asked to.
	FaultCrash FaultKind = "crash"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind FaultKind
	// For is how long FaultLag lasts.
	For time.Duration
	// Machine is whose FaultDrift and FaultCrash are.
	Machine providers.MachineID
}

// ErrNoSuchFault is answered where a cloud cannot be made to misbehave so.
var ErrNoSuchFault = errors.New("the cloud has no such fault")

// Injector makes a cloud for tests misbehave.
type Injector interface {
	// Inject brings one fault about, or answers ErrNoSuchFault.
	Inject(ctx context.Context, f Fault) error
	// Clear ends all that are left.
	Clear(ctx context.Context) error
}

// inject leaves the case out where the cloud has no such fault.
func (b *bench) inject(f Fault) {
	b.t.Helper()
	err := b.Faults.Inject(b.t.Context(), f)
	if errors.Is(err, ErrNoSuchFault) {
		b.t.Skipf("the capability %s is not offered for %s", CapabilityFaults, f.Kind)
	}
	if err != nil {
		b.t.Fatalf("Inject(%s): %v", f.Kind, err)
	}
}

var faultCases = []testCase{
	{name: "a-lost-answer-is-an-unknown-outcome", needs: CapabilityFaults, check: lostAnswer},
	{name: "two-lost-answers-make-one-machine", needs: CapabilityFaults, check: lostTwice},
	{name: "a-half-made-machine-is-listed-and-finished", needs: CapabilityFaults, check: partialCreate},
	{name: "a-half-made-machine-can-be-deleted", needs: CapabilityFaults, check: partialThenDelete},
	{name: "a-half-deleted-machine-can-be-deleted", needs: CapabilityFaults, check: partialDelete},
	{name: "too-many-requests-are-throttled-with-a-delay", needs: CapabilityFaults, check: throttled},
	{name: "no-capacity-is-the-regions", needs: CapabilityFaults, check: refusedBy(FaultCapacity, providers.CodeCapacity, providers.ScopeRegion)},
	{name: "no-quota-is-the-accounts", needs: CapabilityFaults, check: refusedBy(FaultQuota, providers.CodeQuota, providers.ScopeAccount, providers.ScopeRegion)},
	{name: "a-denied-permission-is-named", needs: CapabilityFaults, check: denied},
	{name: "unknown-credentials-are-the-accounts", needs: CapabilityFaults, check: unauthenticated},
	{name: "an-outage-does-nothing", needs: CapabilityFaults, check: outage},
	{name: "a-hung-cloud-ends-with-its-caller", needs: CapabilityFaults, check: hung},
	{name: "a-lagging-cloud-loses-no-machine", needs: CapabilityFaults, check: laggingGet},
	{name: "a-lagging-cloud-makes-no-second-machine", needs: CapabilityFaults, check: laggingCreate},
	{name: "a-lagging-list-catches-up", needs: CapabilityFaults, check: laggingList},
	{name: "credentials-are-rotated-between-calls", needs: CapabilityFaults, check: rotated},
	{name: "drift-is-told-and-mended", needs: CapabilityFaults, check: drift},
	{name: "a-crash-is-told-with-its-reason", needs: CapabilityFaults, check: crash},
	{name: "a-crashed-machine-can-be-switched-on", needs: CapabilityFaults, check: crashThenOn},
	{name: "faults-at-once-leave-one-machine", needs: CapabilityFaults, check: faultsAtOnce},
}

// tryCreate asks for a machine, whose image is there.
func (b *bench) tryCreate() (providers.CreateRequest, error) {
	b.t.Helper()
	req := b.request()
	return req, b.createAgain(req)
}

func (b *bench) createAgain(req providers.CreateRequest) error {
	_, err := b.Provider.Create(b.t.Context(), req)
	return err
}

func lostAnswer(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultLostAnswer})
	req, err := b.tryCreate()
	// A provider may also look for itself, and then it knows.
	if err != nil {
		wantCode(t, "Create", err, providers.CodeOutcomeUnknown)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}

func lostTwice(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	for range 2 {
		b.inject(Fault{Kind: FaultLostAnswer})
		if err := b.createAgain(req); err != nil {
			wantCode(t, "Create", err, providers.CodeOutcomeUnknown)
		}
	}
	if err := b.createAgain(req); err != nil {
		t.Errorf("Create: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}

func partialCreate(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultPartial})
	req, err := b.tryCreate()
	if err == nil {
		t.Logf("Create finished in spite of it")
	}
	if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
		t.Fatalf("Create again: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
	if n := count(b.list(), providers.ResourceDataDisk); n != 1 {
		t.Errorf("%d data disks are listed, want 1", n)
	}
}

func partialThenDelete(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultPartial})
	req, err := b.tryCreate()
	if err == nil {
		t.Logf("Create finished in spite of it")
	}
	b.gone(req.Machine, false)
	b.wantNothing()
}

func partialDelete(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.inject(Fault{Kind: FaultPartialDelete})
	if err := s.Provider.Delete(t.Context(), req.Machine, false); err == nil {
		t.Logf("Delete finished in spite of it")
	}
	b.gone(req.Machine, false)
	b.wantNothing()
}

func throttled(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultThrottle})
	req, err := b.tryCreate()
	if err != nil {
		wantCode(t, "Create", err, providers.CodeThrottled)
		var e *providers.Error
		if errors.As(err, &e) && e.RetryAfter <= 0 {
			t.Errorf("no delay is named: %+v", e)
		}
	}
	if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
		t.Fatalf("Create once it is over: %v", err)
	}
	b.wantMachines(1)
}

// refusedBy checks that making a machine is refused with the code and one of
// the scopes, that nothing is left of it, and that it works afterwards.
func refusedBy(kind FaultKind, code providers.Code, scopes ...providers.Scope) func(T, *suite) {
	return func(t T, s *suite) {
		b := s.bench(t)
		b.ensureImage()
		b.inject(Fault{Kind: kind})
		req, err := b.tryCreate()
		wantCode(t, "Create", err, code)
		known := false
		for _, scope := range scopes {
			known = known || providers.ScopeOf(err) == scope
		}
		if !known {
			t.Errorf("scope %s, want %s", providers.ScopeOf(err), scopes)
		}
		b.wantMachines(0)
		if err := b.Faults.Clear(t.Context()); err != nil {
			t.Fatalf("Clear: %v", err)
		}
		if err := b.createAgain(req); err != nil {
			t.Fatalf("Create once there is room: %v", err)
		}
		b.await(req.Machine, providers.PowerOn)
	}
}

func denied(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultDenied})
	_, err := b.tryCreate()
	wantCode(t, "Create", err, providers.CodeDenied)
	var e *providers.Error
	if errors.As(err, &e) && e.Hint == "" {
		t.Errorf("it is not said what to change: %+v", e)
	}
	b.wantMachines(0)
}

func unauthenticated(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultUnauthenticated})
	_, err := b.tryCreate()
	wantCode(t, "Create", err, providers.CodeUnauthenticated)
	if scope := providers.ScopeOf(err); scope != providers.ScopeAccount {
		t.Errorf("scope %s, want %s", scope, providers.ScopeAccount)
	}
}

func outage(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultUnavailable})
	req, err := b.tryCreate()
	if err != nil {
		wantCode(t, "Create", err, providers.CodeUnavailable, providers.CodeOutcomeUnknown)
	}
	if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
		t.Fatalf("Create after it: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}

func hung(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultHang})
	req := b.request()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { _, err := s.Provider.Create(ctx, req); ended <- err }()
	b.within("Create ends", ended)
	if err := b.Faults.Clear(t.Context()); err != nil {
		t.Fatalf("Clear: %v", err)
	}
	if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
		t.Fatalf("Create again: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}

// lag is shorter than any subject's patience.
const lag = 500 * time.Millisecond

func laggingGet(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultLag, For: lag})
	req, err := b.tryCreate()
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	b.eventually("the machine is seen", func() (bool, string) {
		_, err := s.Provider.Get(t.Context(), req.Machine)
		if providers.CodeOf(err) == providers.CodeNotFound {
			t.Fatalf("Get answered NOT_FOUND for a machine that was just made")
		}
		return err == nil, "Get failed"
	})
}

func laggingCreate(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultLag, For: lag})
	req := b.request()
	for range 3 {
		if err := b.createAgain(req); err != nil && !passes(err) {
			t.Errorf("Create: %v", err)
		}
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}

func laggingList(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	b.inject(Fault{Kind: FaultLag, For: lag})
	if _, err := b.tryCreate(); err != nil {
		t.Fatalf("Create: %v", err)
	}
	b.eventually("the machine is listed", func() (bool, string) {
		return count(b.list(), providers.ResourceMachine) == 1, "it is not"
	})
}

func rotated(t T, s *suite) {
	if s.Rotated == nil {
		t.Skipf("the capability %s is not offered for credentials", CapabilityFaults)
	}
	b := s.bench(t)
	req, _ := b.create()
	b.inject(Fault{Kind: FaultUnauthenticated})
	_, err := s.Provider.Get(t.Context(), req.Machine)
	wantCode(t, "Get", err, providers.CodeUnauthenticated)
	for _, settings := range [][]byte{s.Rotated, s.Settings} {
		if err := s.Provider.Configure(t.Context(), settings); err != nil {
			t.Fatalf("Configure: %v", err)
		}
		if err := b.Faults.Clear(t.Context()); err != nil {
			t.Fatalf("Clear: %v", err)
		}
		b.get(req.Machine)
	}
}

func drift(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.inject(Fault{Kind: FaultDrift, Machine: req.Machine})
	b.eventually("the drift is told", func() (bool, string) { return b.get(req.Machine).Drift != "", "it is not" })
	b.apply(providers.Change{Machine: req.Machine, Generation: req.Generation})
	b.eventually("the drift is mended", func() (bool, string) {
		m := b.get(req.Machine)
		return m.Drift == "", m.Drift
	})
}

func crash(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.inject(Fault{Kind: FaultCrash, Machine: req.Machine})
	if m := b.await(req.Machine, providers.PowerCrashed); m.Reason == "" {
		t.Errorf("it is not said why")
	}
}

func crashThenOn(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.inject(Fault{Kind: FaultCrash, Machine: req.Machine})
	b.await(req.Machine, providers.PowerCrashed)
	b.power(req.Machine, true)
	b.eventually("the machine is on again", func() (bool, string) {
		m := b.get(req.Machine)
		return m.Power == providers.PowerOn, string(m.Power)
	})
}

func faultsAtOnce(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	for _, kind := range []FaultKind{FaultLostAnswer, FaultThrottle, FaultUnavailable} {
		b.inject(Fault{Kind: kind})
	}
	const callers = 16
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := s.Provider.Create(t.Context(), req); err != nil && !passes(err) {
				t.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
		t.Fatalf("Create after all of them: %v", err)
	}
	b.await(req.Machine, providers.PowerOn)
	b.wantMachines(1)
}
