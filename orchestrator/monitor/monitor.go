// Package monitor counts what the control plane does, for Prometheus.
//
// Invariant: no label is a user, an instance or a machine: what is counted
// says how the installation fares and nothing about anybody in it.
package monitor

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

const scrapeTimeout = 5 * time.Second

// Metrics are the control plane's.
type Metrics struct {
	registry  *prometheus.Registry
	webhooks  *prometheus.CounterVec
	calls     *prometheus.HistogramVec
	reconcile *prometheus.HistogramVec
}

// New makes the metrics over a store, which is asked at each scrape.
func New(s store.Store) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "shed_webhooks_total", Help: "Webhook messages by what became of them.",
		}, []string{"result"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shed_provider_call_seconds", Help: "Calls of the provider by code; ok for none.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"call", "code"}),
		reconcile: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shed_reconcile_seconds", Help: "Looks at an instance by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"outcome"}),
	}
	m.registry.MustRegister(m.webhooks, m.calls, m.reconcile, states{store: s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Webhook counts one message.
func (m *Metrics) Webhook(result string) { m.webhooks.WithLabelValues(result).Inc() }

// Reconcile times looks at instances.
func (m *Metrics) Reconcile(look store.Look) store.Look {
	return func(ctx context.Context, id orchestrator.InstanceID) (time.Duration, error) {
		start := time.Now()
		again, err := look(ctx, id)
		outcome := "ok"
		if err != nil {
			outcome = "error"
		}
		m.reconcile.WithLabelValues(outcome).Observe(time.Since(start).Seconds())
		return again, err
	}
}

// Queue times what it hands out.
type Queue struct {
	store.Queue
	Metrics *Metrics
}

var _ store.Queue = Queue{}

// Work implements store.Queue.
func (q Queue) Work(ctx context.Context, look store.Look) error {
	return q.Queue.Work(ctx, q.Metrics.Reconcile(look))
}

// Machines times a provider's calls.
type Machines struct {
	providers.Machines
	Metrics *Metrics
}

var _ providers.Machines = Machines{}

func (m Machines) observe(call string, start time.Time, err error) {
	code := string(providers.CodeOf(err))
	if code == "" {
		code = "ok"
	}
	m.Metrics.calls.WithLabelValues(call, code).Observe(time.Since(start).Seconds())
}

// Create implements providers.Machines.
func (m Machines) Create(ctx context.Context, req providers.CreateRequest) (_ providers.Machine, err error) {
	defer func(start time.Time) { m.observe("Create", start, err) }(time.Now())
	return m.Machines.Create(ctx, req)
}

// Get implements providers.Machines.
func (m Machines) Get(ctx context.Context, id providers.MachineID) (_ providers.Machine, err error) {
	defer func(start time.Time) { m.observe("Get", start, err) }(time.Now())
	return m.Machines.Get(ctx, id)
}

// List implements providers.Machines.
func (m Machines) List(ctx context.Context, installation providers.InstallationID, page string) (_ providers.Page, err error) {
	defer func(start time.Time) { m.observe("List", start, err) }(time.Now())
	return m.Machines.List(ctx, installation, page)
}

// SetPower implements providers.Machines.
func (m Machines) SetPower(ctx context.Context, id providers.MachineID, on bool) (err error) {
	defer func(start time.Time) { m.observe("SetPower", start, err) }(time.Now())
	return m.Machines.SetPower(ctx, id, on)
}

// Apply implements providers.Machines.
func (m Machines) Apply(ctx context.Context, change providers.Change) (_ providers.Machine, err error) {
	defer func(start time.Time) { m.observe("Apply", start, err) }(time.Now())
	return m.Machines.Apply(ctx, change)
}

// Delete implements providers.Machines.
func (m Machines) Delete(ctx context.Context, id providers.MachineID, keepData bool) (err error) {
	defer func(start time.Time) { m.observe("Delete", start, err) }(time.Now())
	return m.Machines.Delete(ctx, id, keepData)
}

// states collects the number of instances in each state.
type states struct{ store store.Store }

var _ prometheus.Collector = states{}

var instancesDesc = prometheus.NewDesc("shed_instances", "Instances by state.", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (states) Describe(ch chan<- *prometheus.Desc) { ch <- instancesDesc }

// Collect implements prometheus.Collector.
func (s states) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var counts map[orchestrator.State]int
	err := s.store.View(ctx, func(v store.Reader) (err error) {
		counts, err = v.States()
		return err
	})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(instancesDesc, err)
		return
	}
	for _, state := range orchestrator.States {
		ch <- prometheus.MustNewConstMetric(instancesDesc, prometheus.GaugeValue, float64(counts[state]), string(state))
	}
}
