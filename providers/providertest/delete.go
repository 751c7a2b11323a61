package providertest

import (
	"sync"

	"github.com/toolshed-cloud/shed/providers"
)

var deleteCases = []testCase{
	{name: "delete-can-be-repeated", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		for range 2 {
			b.gone(req.Machine, false)
		}
		b.wantNothing()
	}},
	{name: "delete-of-nothing-is-fine", check: func(t T, s *suite) {
		for _, keep := range []bool{false, true} {
			if err := s.Provider.Delete(t.Context(), providers.MachineID(newID()), keep); err != nil {
				t.Errorf("Delete(keep data %t): %v", keep, err)
			}
		}
	}},
	{name: "delete-of-what-is-no-id-harms-nothing", check: deleteHostile},
	{name: "delete-of-a-machine-being-made", check: func(t T, s *suite) {
		b := s.bench(t)
		b.ensureImage()
		req := b.request()
		if _, err := s.Provider.Create(t.Context(), req); err != nil {
			t.Fatalf("Create: %v", err)
		}
		b.gone(req.Machine, false)
		b.wantNothing()
	}},
	{name: "delete-of-a-machine-that-is-off", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		b.gone(req.Machine, false)
		b.wantNothing()
	}},
	{name: "delete-of-a-machine-being-switched-off", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.power(req.Machine, false)
		b.gone(req.Machine, false)
		b.wantNothing()
	}},
	{name: "delete-at-once", check: deleteAtOnce},
	{name: "delete-while-it-is-created-leaves-nothing", check: deleteWhileCreated},
	{name: "delete-leaves-others-alone", check: func(t T, s *suite) {
		b := s.bench(t)
		one, _ := b.create()
		other, _ := b.create()
		b.gone(one.Machine, false)
		if m := b.get(other.Machine); m.Power != providers.PowerOn {
			t.Errorf("the other machine is %s", m.Power)
		}
	}},
	{name: "delete-can-keep-the-data", check: func(t T, s *suite) {
		b := s.bench(t)
		b.wantKept(b.createKept())
	}},
	{name: "delete-keeping-the-data-can-be-repeated", check: func(t T, s *suite) {
		b := s.bench(t)
		req := b.createKept()
		if err := s.Provider.Delete(t.Context(), req.Machine, true); err != nil {
			t.Errorf("Delete again, keeping: %v", err)
		}
		b.wantKept(req)
	}},
	{name: "delete-removes-a-kept-disk", check: func(t T, s *suite) {
		b := s.bench(t)
		req := b.createKept()
		if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil {
			t.Errorf("Delete of the disk: %v", err)
		}
		b.wantNothing()
	}},
	{name: "create-over-a-kept-disk-conflicts", check: func(t T, s *suite) {
		b := s.bench(t)
		req := b.createKept()
		_, err := s.Provider.Create(t.Context(), req)
		wantCode(t, "Create", err, providers.CodeConflict)
		b.wantKept(req)
	}},
}

// gone deletes and checks that the machine is not found.
func (b *bench) gone(id providers.MachineID, keepData bool) {
	b.t.Helper()
	if err := b.delete(b.t.Context(), id, keepData); err != nil {
		b.t.Fatalf("Delete(keep data %t): %v", keepData, err)
	}
	_, err := b.Provider.Get(b.t.Context(), id)
	wantCode(b.t, "Get after Delete", err, providers.CodeNotFound)
}

// wantKept checks that nothing but the machine's data disk is left.
func (b *bench) wantKept(req providers.CreateRequest) {
	b.t.Helper()
	left := b.list()
	if len(left) != 1 || left[0].Kind != providers.ResourceDataDisk || left[0].Machine != req.Machine {
		b.t.Errorf("left: %+v, want the data disk alone", left)
	}
}

func deleteHostile(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	for _, id := range hostileIDs {
		if err := s.Provider.Delete(t.Context(), id, false); err != nil {
			wantCode(t, "Delete("+string(id)+")", err, providers.CodeInvalid, providers.CodeNotFound)
		}
	}
	if m := b.get(req.Machine); m.Power != providers.PowerOn {
		t.Errorf("a machine of another name is %s", m.Power)
	}
}

func deleteAtOnce(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	const callers = 8
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { errs[i] = s.Provider.Delete(t.Context(), req.Machine, false) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !passes(err) {
			t.Errorf("Delete: %v", err)
		}
	}
	b.gone(req.Machine, false)
	b.wantNothing()
}

// deleteWhileCreated lets the two race, and then deletes once more, as the
// control plane does until nothing is found.
func deleteWhileCreated(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	var created, deleted error
	var wg sync.WaitGroup
	wg.Go(func() { _, created = s.Provider.Create(t.Context(), req) })
	wg.Go(func() { deleted = s.Provider.Delete(t.Context(), req.Machine, false) })
	wg.Wait()
	for what, err := range map[string]error{"Create": created, "Delete": deleted} {
		if err != nil && !passes(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.gone(req.Machine, false)
	b.wantNothing()
}
