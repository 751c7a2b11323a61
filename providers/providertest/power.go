package providertest

import (
	"github.com/toolshed-cloud/shed/providers"
)

var powerCases = []testCase{
	{name: "power-goes-off-and-on", check: powerGoes},
	{name: "power-asked-for-twice-is-fine", check: powerTwice},
	{name: "power-keeps-the-endpoint-and-the-disk", check: powerKeeps},
	{name: "power-off-is-no-crash", check: func(t T, s *suite) {
		b := s.bench(t)
		if _, m := b.createOff(); m.Reason != "" {
			t.Errorf("a machine that was switched off says %q", m.Reason)
		}
	}},
	{name: "power-off-answers-before-it-is", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.power(req.Machine, false)
		switch m := b.get(req.Machine); m.Power {
		case providers.PowerPending, providers.PowerOff, providers.PowerOn:
		default:
			t.Errorf("a machine that is going off is %s: %s", m.Power, m.Reason)
		}
	}},
	{name: "power-of-nothing-is-not-found", check: func(t T, s *suite) {
		for _, on := range []bool{false, true} {
			wantCode(t, "SetPower", s.Provider.SetPower(t.Context(), providers.MachineID(newID()), on), providers.CodeNotFound)
		}
	}},
	{name: "power-of-what-is-no-id-is-refused", check: func(t T, s *suite) {
		for _, id := range hostileIDs {
			wantCode(t, "SetPower("+string(id)+")", s.Provider.SetPower(t.Context(), id, true), providers.CodeNotFound, providers.CodeInvalid)
		}
	}},
}

func powerGoes(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.power(req.Machine, false)
	b.await(req.Machine, providers.PowerOff)
	b.power(req.Machine, true)
	b.await(req.Machine, providers.PowerOn)
}

func powerTwice(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	for _, on := range []bool{true, true, false, false} {
		b.power(req.Machine, on)
		want := providers.PowerOff
		if on {
			want = providers.PowerOn
		}
		b.await(req.Machine, want)
	}
	b.wantMachines(1)
}

func powerKeeps(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	before := b.get(req.Machine)
	b.power(req.Machine, false)
	b.await(req.Machine, providers.PowerOff)
	b.power(req.Machine, true)
	after := b.await(req.Machine, providers.PowerOn)
	if after.Endpoint != before.Endpoint {
		t.Errorf("the machine is reached at %s, was at %s", after.Endpoint, before.Endpoint)
	}
	if was, is := dataDisk(before), dataDisk(after); was != is || is == "" {
		t.Errorf("the data disk is %q, was %q", is, was)
	}
}

func dataDisk(m providers.Machine) string {
	for _, r := range m.Resources {
		if r.Kind == providers.ResourceDataDisk {
			return r.ID
		}
	}
	return ""
}

var applyCases = []testCase{
	{name: "apply-raises-the-generation", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.apply(providers.Change{Machine: req.Machine, Generation: 7})
		if m := b.get(req.Machine); m.Generation != 7 {
			t.Errorf("generation %d, want 7", m.Generation)
		}
	}},
	{name: "apply-can-be-repeated", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		for range 2 {
			b.apply(providers.Change{Machine: req.Machine, Generation: 2})
		}
	}},
	{name: "apply-refuses-an-older-generation", check: applyOlder},
	{name: "apply-grows-a-disk-that-is-in-use", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.grow(req)
	}},
	{name: "apply-grows-a-disk-that-is-not", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		b.grow(req)
		b.power(req.Machine, true)
		b.await(req.Machine, providers.PowerOn)
	}},
	{name: "apply-refuses-to-shrink", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		_, err := s.Provider.Apply(t.Context(), providers.Change{Machine: req.Machine, Generation: 2, DataBytes: req.Spec.DataBytes / 2})
		wantCode(t, "Apply", err, providers.CodeInvalid)
		if m := b.get(req.Machine); m.Generation != req.Generation {
			t.Errorf("a refused Apply raised the generation to %d", m.Generation)
		}
	}},
	{name: "apply-keeps-the-power", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.createOff()
		b.apply(providers.Change{Machine: req.Machine, Generation: 2})
		if m := b.get(req.Machine); m.Power != providers.PowerOff {
			t.Errorf("the machine is %s", m.Power)
		}
	}},
	{name: "apply-keeps-the-spec", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		b.grow(req)
		if _, err := s.Provider.Create(t.Context(), req); err != nil {
			t.Errorf("Create again after Apply: %v", err)
		}
	}},
	{name: "apply-to-nothing-is-not-found", check: func(t T, s *suite) {
		_, err := s.Provider.Apply(t.Context(), providers.Change{Machine: providers.MachineID(newID()), Generation: 1})
		wantCode(t, "Apply", err, providers.CodeNotFound)
	}},
}

func applyOlder(t T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	b.apply(providers.Change{Machine: req.Machine, Generation: 5})
	_, err := s.Provider.Apply(t.Context(), providers.Change{Machine: req.Machine, Generation: 4, DataBytes: 2 * req.Spec.DataBytes})
	wantCode(t, "Apply", err, providers.CodeConflict)
	if m := b.get(req.Machine); m.Generation != 5 {
		t.Errorf("generation %d, want 5", m.Generation)
	}
}

func (b *bench) apply(change providers.Change) providers.Machine {
	b.t.Helper()
	var m providers.Machine
	err := b.insist(b.t.Context(), func() (err error) {
		m, err = b.Provider.Apply(b.t.Context(), change)
		return err
	})
	if err != nil {
		b.t.Fatalf("Apply(%+v): %v", change, err)
	}
	return m
}

// grow doubles the data disk, and checks that it does not shrink again.
func (b *bench) grow(req providers.CreateRequest) {
	b.t.Helper()
	m := b.apply(providers.Change{Machine: req.Machine, Generation: req.Generation + 1, DataBytes: 2 * req.Spec.DataBytes})
	if m.Generation != req.Generation+1 {
		b.t.Errorf("generation %d, want %d", m.Generation, req.Generation+1)
	}
	_, err := b.Provider.Apply(b.t.Context(), providers.Change{Machine: req.Machine, Generation: req.Generation + 2, DataBytes: req.Spec.DataBytes})
	wantCode(b.t, "Apply of the size before", err, providers.CodeInvalid)
}
