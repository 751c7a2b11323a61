package monitor_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/monitor"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
)

// scrape returns the samples of ours that count something.
func scrape(t *testing.T, m *monitor.Metrics) (samples []string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		line = strings.TrimSpace(line)
		counted := strings.HasPrefix(line, "shed_") && !strings.HasSuffix(line, " 0")
		if counted && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum{") {
			samples = append(samples, line)
		}
	}
	return samples
}

func newMetrics(t *testing.T) (*monitor.Metrics, *sqlite.Store) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	return monitor.New(s), s
}

func want(t *testing.T, m *monitor.Metrics, samples ...string) {
	t.Helper()
	if got := scrape(t, m); !slices.Equal(got, samples) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(samples, "\n"))
	}
}

func TestInstancesAreCountedByState(t *testing.T) {
	m, s := newMetrics(t)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		var errs []error
		for n, state := range []orchestrator.State{orchestrator.StateReady, orchestrator.StateReady, orchestrator.StateWaiting} {
			id := string(rune('a' + n))
			errs = append(errs, tx.Insert(orchestrator.Instance{
				ID: orchestrator.InstanceID(id), User: orchestrator.UserID(id), Desired: orchestrator.Present, State: state,
			}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, m, `shed_instances{state="ready"} 2`, `shed_instances{state="waiting"} 1`)
}

func TestWebhooksAreCountedByResult(t *testing.T) {
	m, _ := newMetrics(t)
	for _, result := range []string{"created", "created", "signature-refused"} {
		m.Webhook(result)
	}
	want(t, m, `shed_webhooks_total{result="created"} 2`, `shed_webhooks_total{result="signature-refused"} 1`)
}

func TestLooksAreCountedByOutcome(t *testing.T) {
	m, _ := newMetrics(t)
	var err error
	look := m.Reconcile(func(context.Context, orchestrator.InstanceID) (time.Duration, error) { return time.Minute, err })
	for _, err = range []error{nil, nil, errors.New("no")} {
		if again, got := look(t.Context(), "a"); again != time.Minute || !errors.Is(got, err) {
			t.Errorf("%s %v", again, got)
		}
	}
	want(t, m, `shed_reconcile_seconds_count{outcome="error"} 1`, `shed_reconcile_seconds_count{outcome="ok"} 2`)
}

// answering answers every call with one error.
type answering struct{ err error }

func (a answering) Create(context.Context, providers.CreateRequest) (providers.Machine, error) {
	return providers.Machine{}, a.err
}
func (a answering) Get(context.Context, providers.MachineID) (providers.Machine, error) {
	return providers.Machine{}, a.err
}
func (a answering) List(context.Context, providers.InstallationID, string) (providers.Page, error) {
	return providers.Page{}, a.err
}
func (a answering) SetPower(context.Context, providers.MachineID, bool) error { return a.err }
func (a answering) Apply(context.Context, providers.Change) (providers.Machine, error) {
	return providers.Machine{}, a.err
}
func (a answering) Delete(context.Context, providers.MachineID, bool) error { return a.err }

// Each call is counted under its own name and the code it was answered with.
func TestProviderCallsAreCountedByCallAndCode(t *testing.T) {
	for name, call := range map[string]func(providers.Machines) error{
		"Create": func(p providers.Machines) error {
			_, err := p.Create(t.Context(), providers.CreateRequest{})
			return err
		},
		"Get":      func(p providers.Machines) error { _, err := p.Get(t.Context(), "m"); return err },
		"List":     func(p providers.Machines) error { _, err := p.List(t.Context(), "i", ""); return err },
		"SetPower": func(p providers.Machines) error { return p.SetPower(t.Context(), "m", true) },
		"Apply":    func(p providers.Machines) error { _, err := p.Apply(t.Context(), providers.Change{}); return err },
		"Delete":   func(p providers.Machines) error { return p.Delete(t.Context(), "m", false) },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := newMetrics(t)
			throttled := providers.Errorf(providers.CodeThrottled, "later")
			for _, err := range []error{nil, throttled, nil} {
				if got := call(monitor.Machines{Machines: answering{err}, Metrics: m}); !errors.Is(got, err) {
					t.Errorf("answered %v, want %v", got, err)
				}
			}
			want(t, m, `shed_provider_call_seconds_count{call="`+name+`",code="THROTTLED"} 1`,
				`shed_provider_call_seconds_count{call="`+name+`",code="ok"} 2`)
		})
	}
}
