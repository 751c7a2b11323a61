package providertest

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

func infoSaysWho(t *testing.T, s *suite) {
	if s.info.Name == "" || s.info.Version == "" {
		t.Errorf("name %q, version %q", s.info.Name, s.info.Version)
	}
	if s.info.ContractVersion != providers.ContractVersion {
		t.Errorf("contract version %d, want %d", s.info.ContractVersion, providers.ContractVersion)
	}
	if !json.Valid(s.info.ConfigSchema) {
		t.Error("the schema of the settings is not JSON")
	}
}

func configureRepeats(t *testing.T, s *suite) {
	for range 2 {
		if err := s.Provider.Configure(t.Context(), s.Settings); err != nil {
			t.Errorf("Configure: %v", err)
		}
	}
}

func configureRefuses(t *testing.T, s *suite) {
	for _, settings := range []string{`{"no_such_setting":1}`, `[]`, ``, `{`} {
		err := s.Provider.Configure(t.Context(), []byte(settings))
		wantCode(t, "Configure("+settings+")", err, providers.CodeInvalid)
	}
}

func offeringsNotEmpty(t *testing.T, s *suite) {
	offerings, err := s.Provider.Offerings(t.Context())
	if err != nil {
		t.Fatalf("Offerings: %v", err)
	}
	if len(offerings) == 0 {
		t.Error("nothing is offered")
	}
	for _, o := range offerings {
		if o.Region == "" || o.Size == "" || o.VCPUs < 1 || o.MemoryBytes < 1 {
			t.Errorf("offering %+v is incomplete", o)
		}
	}
}

func imageRepeats(t *testing.T, s *suite) {
	for range 2 {
		var done, total int64
		err := s.Provider.EnsureImage(t.Context(), s.Image, func(d, n int64) { done, total = d, n })
		if err != nil {
			t.Fatalf("EnsureImage: %v", err)
		}
		if done != s.Image.Bytes || total != s.Image.Bytes {
			t.Errorf("progress ended at %d of %d, want %d", done, total, s.Image.Bytes)
		}
	}
}

func imageRefusesOtherBytes(t *testing.T, s *suite) {
	b := s.bench(t)
	wrong := s.Image
	wrong.Release = attest.ReleaseDigest(attest.Sum([]byte(newID(t))))
	wrong.SHA256[0] ^= 1
	err := s.Provider.EnsureImage(t.Context(), wrong, nil)
	wantCode(t, "EnsureImage with a wrong digest", err, providers.CodeInvalid)
	short := s.Image
	short.Release = wrong.Release
	short.Bytes--
	err = s.Provider.EnsureImage(t.Context(), short, nil)
	wantCode(t, "EnsureImage with a wrong size", err, providers.CodeInvalid)

	req := b.request()
	req.Spec.Release = wrong.Release
	_, err = s.Provider.Create(t.Context(), req)
	wantCode(t, "Create from the refused image", err, providers.CodeInvalid)
}

func createMakes(t *testing.T, s *suite) {
	b := s.bench(t)
	req, m := b.create()
	if m.ID != req.Machine || m.Installation != req.Installation {
		t.Errorf("machine %s of %s", m.ID, m.Installation)
	}
	if m.SpecHash != req.Spec.Hash() || m.Release != req.Spec.Release {
		t.Errorf("spec %s, release %s", m.SpecHash, m.Release)
	}
	if m.Endpoint == "" {
		t.Error("it cannot be reached")
	}
	if m.CreatedAt.IsZero() {
		t.Error("it was made at no time")
	}
	if count(m.Resources, providers.ResourceMachine) != 1 || count(m.Resources, providers.ResourceDataDisk) != 1 {
		t.Errorf("resources %+v", m.Resources)
	}
}

func createRepeats(t *testing.T, s *suite) {
	b := s.bench(t)
	req, first := b.create()
	again, err := s.Provider.Create(t.Context(), req)
	if err != nil {
		t.Fatalf("Create again: %v", err)
	}
	if again.Endpoint != first.Endpoint || !again.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("got another machine: %+v, was %+v", again, first)
	}
	if n := count(b.list(t.Context()), providers.ResourceMachine); n != 1 {
		t.Errorf("%d machines, want 1", n)
	}
}

func createAtOnce(t *testing.T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	const callers = 8
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { _, errs[i] = s.Provider.Create(t.Context(), req) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && providers.CodeOf(err) != providers.CodeAborted {
			t.Errorf("Create: %v", err)
		}
	}
	b.await(req.Machine, providers.PowerOn)
	if n := count(b.list(t.Context()), providers.ResourceMachine); n != 1 {
		t.Errorf("%d machines, want 1", n)
	}
}

func createConflicts(t *testing.T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	other := req
	other.Spec.Config = append(slices.Clone(req.Spec.Config), 0)
	_, err := s.Provider.Create(t.Context(), other)
	wantCode(t, "Create from another spec", err, providers.CodeConflict)
	other = req
	other.Installation = providers.InstallationID(newID(t))
	_, err = s.Provider.Create(t.Context(), other)
	wantCode(t, "Create for another installation", err, providers.CodeConflict)
	if m := b.get(req.Machine); m.SpecHash != req.Spec.Hash() || m.Installation != req.Installation {
		t.Errorf("a refused Create changed the machine: %+v", m)
	}
}

func createRefuses(t *testing.T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	for name, spoil := range map[string]func(*providers.CreateRequest){
		"no machine":          func(r *providers.CreateRequest) { r.Machine = "" },
		"no installation":     func(r *providers.CreateRequest) { r.Installation = "" },
		"no data disk":        func(r *providers.CreateRequest) { r.Spec.DataBytes = 0 },
		"negative data disk":  func(r *providers.CreateRequest) { r.Spec.DataBytes = -1 },
		"no configuration":    func(r *providers.CreateRequest) { r.Spec.Config = nil },
		"an unknown release":  func(r *providers.CreateRequest) { r.Spec.Release[0] ^= 1 },
		"no release at all":   func(r *providers.CreateRequest) { r.Spec.Release = attest.ReleaseDigest{} },
		"no request whatever": func(r *providers.CreateRequest) { *r = providers.CreateRequest{} },
	} {
		req := b.request()
		spoil(&req)
		_, err := s.Provider.Create(t.Context(), req)
		wantCode(t, "Create with "+name, err, providers.CodeInvalid)
	}
}

func getNothing(t *testing.T, s *suite) {
	_, err := s.Provider.Get(t.Context(), providers.MachineID(newID(t)))
	wantCode(t, "Get", err, providers.CodeNotFound)
}

func powerGoesOffAndOn(t *testing.T, s *suite) {
	b := s.bench(t)
	req, first := b.create()
	first = b.get(first.ID)
	for _, on := range []bool{false, false, true, true} {
		if err := s.Provider.SetPower(t.Context(), req.Machine, on); err != nil {
			t.Fatalf("SetPower(%t): %v", on, err)
		}
		want := providers.PowerOff
		if on {
			want = providers.PowerOn
		}
		m := b.await(req.Machine, want)
		if on && m.Endpoint != first.Endpoint {
			t.Errorf("the machine is reached at %s, was at %s", m.Endpoint, first.Endpoint)
		}
		if n := count(m.Resources, providers.ResourceDataDisk); n != 1 {
			t.Errorf("the machine has %d data disks", n)
		}
	}
}

func powerNothing(t *testing.T, s *suite) {
	err := s.Provider.SetPower(t.Context(), providers.MachineID(newID(t)), true)
	wantCode(t, "SetPower", err, providers.CodeNotFound)
}

func deleteRepeats(t *testing.T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	for range 2 {
		if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		_, err := s.Provider.Get(t.Context(), req.Machine)
		wantCode(t, "Get after Delete", err, providers.CodeNotFound)
	}
}

func deleteNothing(t *testing.T, s *suite) {
	for _, keep := range []bool{false, true} {
		if err := s.Provider.Delete(t.Context(), providers.MachineID(newID(t)), keep); err != nil {
			t.Errorf("Delete(keep data %t): %v", keep, err)
		}
	}
}

func deleteAtOnce(t *testing.T, s *suite) {
	b := s.bench(t)
	b.ensureImage()
	req := b.request()
	if _, err := s.Provider.Create(t.Context(), req); err != nil {
		t.Fatalf("Create: %v", err)
	}
	if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if left := b.list(t.Context()); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func deleteOff(t *testing.T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	if err := s.Provider.SetPower(t.Context(), req.Machine, false); err != nil {
		t.Fatalf("SetPower: %v", err)
	}
	b.await(req.Machine, providers.PowerOff)
	if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil {
		t.Errorf("Delete: %v", err)
	}
}

func deleteKeeps(t *testing.T, s *suite) {
	b := s.bench(t)
	req, _ := b.create()
	if err := s.Provider.Delete(t.Context(), req.Machine, true); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	left := b.list(t.Context())
	if len(left) != 1 || left[0].Kind != providers.ResourceDataDisk || left[0].Machine != req.Machine {
		t.Fatalf("left: %+v, want the data disk alone", left)
	}
	_, err := s.Provider.Create(t.Context(), req)
	wantCode(t, "Create over a kept disk", err, providers.CodeConflict)
	if err := s.Provider.Delete(t.Context(), req.Machine, true); err != nil {
		t.Errorf("Delete again, keeping: %v", err)
	}
	if left := b.list(t.Context()); len(left) != 1 {
		t.Errorf("left after keeping twice: %+v", left)
	}
	if err := s.Provider.Delete(t.Context(), req.Machine, false); err != nil {
		t.Errorf("Delete of the disk: %v", err)
	}
	if left := b.list(t.Context()); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func listTells(t *testing.T, s *suite) {
	b := s.bench(t)
	want := map[providers.MachineID]bool{}
	for range 3 {
		req, _ := b.create()
		want[req.Machine] = true
	}
	told := map[string]bool{}
	for _, r := range b.list(t.Context()) {
		key := string(r.Kind) + " " + r.ID
		if told[key] {
			t.Errorf("%s is told twice", key)
		}
		told[key] = true
		if r.Kind == providers.ResourceMachine {
			delete(want, r.Machine)
		}
	}
	if len(want) > 0 {
		t.Errorf("not told of: %v", want)
	}
}

func listApart(t *testing.T, s *suite) {
	one, other := s.bench(t), s.bench(t)
	req, _ := one.create()
	if left := other.list(t.Context()); len(left) != 0 {
		t.Errorf("another installation is told of %+v", left)
	}
	if n := count(one.list(t.Context()), providers.ResourceMachine); n != 1 {
		t.Errorf("%d machines, want %s alone", n, req.Machine)
	}
}

func consoleShows(t *testing.T, s *suite) {
	if !slices.Contains(s.info.Capabilities, providers.CapabilityConsole) {
		t.Skip("the provider has no consoles")
	}
	consoler, ok := s.Provider.(providers.Consoler)
	if !ok {
		t.Fatal("the provider says that it has consoles, and has none")
	}
	_, err := consoler.Console(t.Context(), providers.MachineID(newID(t)), false)
	wantCode(t, "Console of nothing", err, providers.CodeNotFound)

	b := s.bench(t)
	req, _ := b.create()
	r, err := consoler.Console(t.Context(), req.Machine, false)
	if err != nil {
		t.Fatalf("Console: %v", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("reading the console: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closing the console: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	followed, err := consoler.Console(ctx, req.Machine, true)
	if err != nil {
		t.Fatalf("Console, following: %v", err)
	}
	defer followed.Close()
	if _, err := followed.Read(make([]byte, 1)); err != nil {
		t.Errorf("following the console: %v", err)
	}
	cancel()
	// Whether the end is an error does not matter: that it comes does.
	_, _ = io.Copy(io.Discard, followed)
}

func givenUp(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := s.bench(t)
	_, err := s.Provider.Create(ctx, b.request())
	if err == nil {
		t.Log("Create went through although its caller had given up")
	}
}
