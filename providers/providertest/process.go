package providertest

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

var processCases = []testCase{
	{name: "a-killed-plugin-finds-its-machines-again", needs: CapabilityProcess, check: killedIdle},
	{name: "a-plugin-killed-while-it-creates-makes-one", needs: CapabilityProcess, check: killedCreating},
	{name: "a-plugin-killed-while-it-deletes-leaves-nothing", needs: CapabilityProcess, check: killedDeleting},
	{name: "a-plugin-killed-while-it-switches-forgets-nothing", needs: CapabilityProcess, check: killedSwitching},
	{name: "a-plugin-killed-while-it-takes-an-image-takes-it-again", needs: CapabilityProcess, check: killedTaking},
}

func (b *bench) kill() {
	b.t.Helper()
	if err := b.Kill(); err != nil {
		b.t.Fatalf("killing the plugin: %v", err)
	}
}

func killedIdle(t T, s *suite) {
	b := s.bench(t)
	req, before := b.create()
	b.kill()
	after := b.await(req.Machine, providers.PowerOn)
	if after.Endpoint != before.Endpoint || !after.CreatedAt.Equal(before.CreatedAt) {
		t.Errorf("got %+v, was %+v", after, before)
	}
	b.wantMachines(1)
}

// kills is how often a moment is tried: it is drawn anew each time.
const kills = 5

// during kills the plugin at a random moment of a call, and waits for both.
func (b *bench) during(longest time.Duration, call func()) {
	b.t.Helper()
	var wg sync.WaitGroup
	wg.Go(call)
	pause := time.NewTimer(rand.N(longest)) //nolint:gosec // any moment will do
	defer pause.Stop()
	<-pause.C
	b.kill()
	wg.Wait()
}

// moment is about as long as a call takes.
const moment = 40 * time.Millisecond

func killedCreating(t T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	for range kills {
		req := b.request()
		b.during(moment, func() {
			if err := b.createAgain(req); err != nil && !passes(err) {
				t.Errorf("Create: %v", err)
			}
		})
		if err := b.insist(t.Context(), func() error { return b.createAgain(req) }); err != nil {
			t.Fatalf("Create again: %v", err)
		}
		b.await(req.Machine, providers.PowerOn)
	}
	b.wantMachines(kills)
	if n := count(b.list(), providers.ResourceDataDisk); n != kills {
		t.Errorf("%d data disks, want %d", n, kills)
	}
}

func killedDeleting(t T, s *suite) {
	b := s.bench(t)
	for range kills {
		req, _ := b.create()
		b.during(moment, func() {
			if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil && !passes(err) {
				t.Errorf("Delete: %v", err)
			}
		})
		b.insistGone(req.Machine)
	}
	b.wantNothing()
}

func (b *bench) insistGone(id providers.MachineID) {
	b.t.Helper()
	if err := b.delete(b.t.Context(), id, false); err != nil {
		b.t.Fatalf("Delete: %v", err)
	}
	var err error
	_ = b.insist(b.t.Context(), func() error {
		_, err = b.Provider.Get(b.t.Context(), id)
		return err
	})
	wantCode(b.t, "Get after Delete", err, providers.CodeNotFound)
}

func killedSwitching(t T, s *suite) {
	b := s.bench(t)
	req, before := b.create()
	for i := range kills {
		on := i%2 == 1
		b.during(moment, func() {
			if err := s.Provider.SetPower(t.Context(), req.Machine, on); err != nil && !passes(err) {
				t.Errorf("SetPower(%t): %v", on, err)
			}
		})
		b.power(req.Machine, on)
		want := providers.PowerOff
		if on {
			want = providers.PowerOn
		}
		b.eventually("the machine is "+string(want), func() (bool, string) {
			m, err := s.Provider.Get(t.Context(), req.Machine)
			return err == nil && m.Power == want, string(m.Power) + " " + m.Reason
		})
	}
	if m := b.get(req.Machine); m.Endpoint != before.Endpoint {
		t.Errorf("the machine is reached at %s, was at %s", m.Endpoint, before.Endpoint)
	}
}

func killedTaking(t T, s *suite) {
	b := s.bench(t)
	for range kills {
		b.during(moment, func() {
			if err := s.Provider.EnsureImage(t.Context(), s.Image, nil); err != nil && !passes(err) {
				t.Errorf("EnsureImage: %v", err)
			}
		})
	}
	if err := b.insist(t.Context(), func() error { return s.Provider.EnsureImage(t.Context(), s.Image, nil) }); err != nil {
		t.Fatalf("EnsureImage: %v", err)
	}
	b.create()
}
