package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// collector sends spans by OTLP over HTTP (docs/decisions/0065).
type collector struct {
	Options
	// stopping ends what is being sent.
	stopping context.Context
	// silent says that the last try failed. Only the one goroutine that sends
	// uses it.
	silent bool
}

var _ otlptrace.Client = (*collector)(nil)

func (*collector) Start(context.Context) error { return nil }
func (*collector) Stop(context.Context) error  { return nil }

// UploadTraces sends spans once. What fails is logged where it did not before:
// the library would write it to standard error, address and all.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.stopping, cancel)()
	err := c.send(ctx, spans)
	switch {
	case err != nil && !c.silent:
		c.Log.Warn("the collector of traces takes nothing, which is dropped", zap.Error(err))
	case err == nil && c.silent:
		c.Log.Info("the collector of traces takes them again")
	}
	c.silent = err != nil
	return nil
}

// send posts one message: TracesData is what a collector's request is on the
// wire, without the service's definition, which links gRPC.
func (c *collector) send(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encoding spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("asking the collector: %w", err)
	}
	if c.Header != nil {
		req.Header = c.Header.Clone()
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.Client.Do(req)
	if err != nil {
		return fmt.Errorf("asking the collector: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body) //nolint:errcheck // so that the connection is used again; the client bounds it
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %s", resp.Status)
	}
	return nil
}
