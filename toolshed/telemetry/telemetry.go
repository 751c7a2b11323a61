// Package telemetry tells a collector of the owner's how requests went, by
// OpenTelemetry's traces.
//
// Invariants: there is none of it but where the configuration names a
// collector; a span holds the program's own names, numbers and times, and
// nothing that a caller sent but the ids of a trace that it belongs to; no
// request waits for the collector, and what it cannot take in time is dropped.
package telemetry

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// The bounds of what is told.
const (
	// queued is how many spans wait for the collector; more are dropped.
	queued = 2048
	// delay is how long a span waits for others.
	delay = 5 * time.Second
	// sending bounds one try, and ending what is still sent at the end.
	sending = 10 * time.Second
	ending  = 500 * time.Millisecond
)

// Options is what telling takes.
type Options struct {
	// Endpoint is the collector's address for traces.
	Endpoint string
	// Header is sent with each request to it.
	Header http.Header
	// Client reaches it.
	Client *http.Client
	// Sample is the share of the traces that is told, of those that begin here.
	Sample float64
	// Version is this program's.
	Version string
	Log     *zap.Logger
}

// Tracer tells of requests.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	// stop ends what is being sent.
	stop context.CancelFunc
}

// New is one that tells until it is closed.
func New(o Options) *Tracer {
	ctx, stop := context.WithCancel(context.Background())
	exporter := otlptrace.NewUnstarted(&collector{Options: o, stopping: ctx})
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(queued), sdktrace.WithBatchTimeout(delay), sdktrace.WithExportTimeout(sending)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "toolshed"), attribute.String("service.version", o.Version))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/toolshed-cloud/shed/toolshed"), stop: stop}
}

// Begin is called as a request begins, with the route's own pattern, and what it
// answers as it ends, with the status.
func (t *Tracer) Begin(r *http.Request, pattern string) (end func(status int)) {
	name, attributes := describe(r.Method, pattern)
	_, span := t.tracer.Start(parent(r), name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	return func(status int) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// describe is the name and the attributes of a request, after OpenTelemetry's
// conventions for HTTP (1.43).
func describe(method, pattern string) (string, []attribute.KeyValue) {
	if !slices.Contains(methods, method) {
		method = "_OTHER"
	}
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method)}
	if pattern == "" {
		// The convention's name where there is no route.
		return strings.Replace(method, "_OTHER", "HTTP", 1), attributes
	}
	_, route, ok := strings.Cut(pattern, " ")
	if !ok {
		route = pattern
	}
	return method + " " + route, append(attributes, attribute.String("http.route", route))
}

// methods are those that are named: another is whatever the caller likes.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// parent is the trace that a caller's traceparent names. Its tracestate, which
// is text of the caller's, is left out, and so is all else of the request.
func parent(r *http.Request) context.Context {
	header := propagation.MapCarrier{"traceparent": r.Header.Get("Traceparent")}
	return propagation.TraceContext{}.Extract(context.Background(), header)
}

// Close sends what is still there, for a moment.
func (t *Tracer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), ending)
	defer cancel()
	t.provider.Shutdown(ctx) //nolint:errcheck // what could not be sent was said
	t.stop()
}
