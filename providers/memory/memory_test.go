package memory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// image writes a disk that no machine boots.
func image(t *testing.T) providers.Image {
	t.Helper()
	disk := []byte("not a disk")
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
}

func configured(t *testing.T) *memory.Provider {
	t.Helper()
	p := memory.New(time.Now)
	if err := p.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		i := image(t)
		p := configured(t)
		return providertest.Subject{
			Provider: p,
			Settings: []byte("{}"),
			Rotated:  []byte(`{"credentials":"others"}`),
			Image:    i,
			Spec:     providers.Spec{Release: i.Release, DataBytes: 1 << 20, Config: []byte("config")},
			Patience: 10 * time.Second,
			Fresh:    func(context.Context) (providers.Provider, error) { return memory.New(time.Now), nil },
			Faults:   p,
		}
	})
}

func TestLostAnswerHappenedAllTheSame(t *testing.T) {
	p := configured(t)
	i := image(t)
	if err := p.EnsureImage(t.Context(), i, nil); err != nil {
		t.Fatal(err)
	}
	p.Fail(memory.CallCreate, memory.Fault{Err: providers.Errorf(providers.CodeCapacity, "full")}, memory.LostAnswer())
	req := providers.CreateRequest{
		Installation: "i", Machine: "m",
		Spec: providers.Spec{Release: i.Release, DataBytes: 1, Config: []byte("c")},
	}
	_, err := p.Create(t.Context(), req)
	if !errors.Is(err, &providers.Error{Code: providers.CodeCapacity}) {
		t.Errorf("first Create: %v", err)
	}
	if _, err := p.Get(t.Context(), "m"); providers.CodeOf(err) != providers.CodeNotFound {
		t.Errorf("after the first Create: %v", err)
	}
	_, err = p.Create(t.Context(), req)
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		t.Errorf("second Create: %v", err)
	}
	if m, err := p.Get(t.Context(), "m"); err != nil || m.Power != providers.PowerOn {
		t.Errorf("after the second Create: %+v, %v", m, err)
	}
	if err := p.Crash("m", "because"); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Get(t.Context(), "m"); err != nil || m.Power != providers.PowerCrashed || m.Reason != "because" {
		t.Errorf("after the crash: %+v, %v", m, err)
	}
	if n := p.Calls(memory.CallCreate); n != 2 {
		t.Errorf("%d calls of Create, want 2", n)
	}
}
