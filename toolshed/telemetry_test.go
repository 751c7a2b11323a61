package toolshed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// receiver takes traces by OTLP over HTTP.
type receiver struct {
	*httptest.Server
	raw   chan string
	spans chan *tracepb.Span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{raw: make(chan string, 16), spans: make(chan *tracepb.Span, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		var asked collectorpb.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(b, &asked) != nil || req.URL.Path != "/base/v1/traces" ||
			req.Header.Get("Content-Type") != "application/x-protobuf" || req.Header.Get("X-Key") != "the-secret" {
			t.Errorf("%s %s %v: %q", req.Method, req.URL, req.Header, b)
		}
		r.raw <- string(b)
		for _, of := range asked.ResourceSpans {
			for _, s := range of.ScopeSpans {
				for _, span := range s.Spans {
					r.spans <- span
				}
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// openWith is a toolshed on a configuration, that is closed once.
func openWith(t *testing.T, text string) (http.Handler, func() error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(file, []byte("version: 1\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, true, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	data, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	root, err := toolshed.Open(context.Background(), toolshed.Options{Data: data, Config: c, BehindAgent: true, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return asOwner(root.Handler()), root.Close
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

func send(h http.Handler, method, target, body string, header ...string) int {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Code
}

// A collector that the configuration names is told of each request by the
// program's own words, and by nothing that the caller sent.
func TestTelemetry(t *testing.T) {
	to := newReceiver(t)
	t.Setenv("COLLECTOR_KEY", "the-secret")
	h, close := openWith(t, "telemetry: {endpoint: \""+to.URL+"/base/\", headers: {X-Key: {env: COLLECTOR_KEY}}}\n")
	traced := []string{
		"Traceparent", "00-" + callersTrace + "-" + callersSpan + "-01", "Tracestate", "private=private",
		"Baggage", "private=private", "User-Agent", "private", "Shed-Request-Id", "private",
	}
	for _, c := range []struct {
		method, target string
		status         int
	}{
		{"PUT", "/api/kv/private?expire_in=1h", 204},
		{"GET", "/private/private", 404},
		{"PRIVATE", "/api/kv/private", 405},
		{"GET", "http://private.fn.private/private", 404},
	} {
		header := traced
		if c.method != "PUT" {
			header = nil
		}
		if status := send(h, c.method, c.target, "private", header...); status != c.status {
			t.Errorf("%s %s: %d", c.method, c.target, status)
		}
	}
	if err := close(); err != nil {
		t.Error(err)
	}
	if raw := <-to.raw; strings.Contains(strings.ToLower(raw), "private") || strings.Contains(raw, "ababab") {
		t.Errorf("the collector is told %q", raw)
	}
	var told []string
	for range len(to.spans) {
		span := <-to.spans
		text := describe(span)
		told = append(told, text)
		callers := trace.TraceID(span.TraceId).String() == callersTrace && trace.SpanID(span.ParentSpanId).String() == callersSpan
		if callers != strings.HasPrefix(text, "PUT") || span.Kind != tracepb.Span_SPAN_KIND_SERVER || span.EndTimeUnixNano <= span.StartTimeUnixNano {
			t.Errorf("%s: %v", text, span)
		}
	}
	slices.Sort(told)
	want := []string{
		"GET origin: http.request.method=GET http.route=origin http.response.status_code=404",
		"GET: http.request.method=GET http.response.status_code=404",
		"HTTP: http.request.method=_OTHER http.response.status_code=405",
		"PUT /api/kv/{key...}: http.request.method=PUT http.route=/api/kv/{key...} http.response.status_code=204",
	}
	if !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

func describe(span *tracepb.Span) string {
	text := span.Name + ":"
	for _, a := range span.Attributes {
		value := a.Value.GetStringValue()
		if n, ok := a.Value.Value.(*commonpb.AnyValue_IntValue); ok {
			value = strconv.FormatInt(n.IntValue, 10)
		}
		text += " " + a.Key + "=" + value
	}
	return text
}

// Nobody is told where the configuration names nobody, whatever the environment
// says.
func TestTelemetryIsOff(t *testing.T) {
	to := newReceiver(t)
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(name, to.URL)
	}
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	h, close := openWith(t, "")
	send(h, "GET", "/api/health", "", "Traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
	if err := close(); err != nil || len(to.raw) != 0 {
		t.Errorf("%d messages, error %v", len(to.raw), err)
	}
}

// A collector that takes nothing costs no request anything, nor the end of the
// toolshed more than a moment; and it leads nobody elsewhere.
func TestCollectorsThatFail(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	stuck := make(chan struct{})
	stalls := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer stalls.Close()
	defer close(stuck)
	leads := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer leads.Close()
	for name, address := range map[string]string{"nobody is there": "http://127.0.0.1:1", "it stalls": stalls.URL, "it leads elsewhere": leads.URL} {
		t.Run(name, func(t *testing.T) {
			h, close := openWith(t, "telemetry: {endpoint: \""+address+"\"}\n")
			began := time.Now()
			for range 3000 {
				if status := send(h, "GET", "/api/health", ""); status != 200 {
					t.Fatalf("answered %d", status)
				}
			}
			if err := close(); err != nil || time.Since(began) > 10*time.Second {
				t.Errorf("ended after %s with %v", time.Since(began), err)
			}
		})
	}
}

func TestTelemetrySettings(t *testing.T) {
	t.Setenv("BROKEN", "a\nb")
	for text, says := range map[string]string{
		"{endpoint: \"ftp://a\"}":                                      "telemetry.endpoint",
		"{endpoint: \"http://u:secret@a\"}":                            "telemetry.endpoint",
		"{endpoint: \"http://a\", sample: 0}":                          "telemetry.sample",
		"{endpoint: \"http://a\", sample: .nan}":                       "telemetry.sample",
		"{endpoint: \"http://a\", headers: {\"a b\": {env: PATH}}}":    "telemetry.headers",
		"{endpoint: \"http://a\", headers: {a: {env: BROKEN}}}":        "telemetry.headers",
		"{endpoint: \"http://a\", headers: {a: {env: NONE_OF_THESE}}}": "telemetry.headers",
		"{sample: 0.5}": "telemetry.endpoint",
		"{level: 1}":    "telemetry",
	} {
		err := refusal(t, "telemetry: "+text)
		said := fmt.Sprint(err)
		if !errors.Is(err, config.ErrConfig) || !strings.Contains(said, says) || strings.Contains(said, "secret@") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
