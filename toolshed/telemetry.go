package toolshed

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/telemetry"
)

// telemetrySection is the part of the configuration about telling a collector
// how requests went. Without an endpoint nobody is told.
type telemetrySection struct {
	// Endpoint is the base of a collector's OTLP over HTTP.
	Endpoint string                   `yaml:"endpoint"`
	Headers  map[string]config.Secret `yaml:"headers"`
	// Sample is the share of the traces that is told.
	Sample float64 `yaml:"sample"`
}

// maxCollectorBytes bounds what a collector answers.
const maxCollectorBytes = 64 << 10

func (r *Root) openTelemetry() error {
	section := telemetrySection{Sample: 1}
	if err := r.Config.Section("telemetry", &section); err != nil {
		return err
	}
	if section.Endpoint == "" {
		if section.Headers != nil || section.Sample != 1 {
			return fmt.Errorf("%w: telemetry.endpoint: is missing", config.ErrConfig)
		}
		return nil
	}
	if !(section.Sample > 0 && section.Sample <= 1) {
		return fmt.Errorf("%w: telemetry.sample: want more than 0, and 1 at most", config.ErrConfig)
	}
	header, err := r.collectorHeader(section.Headers)
	if err != nil {
		return err
	}
	way, err := wayTo(section.Endpoint)
	if err != nil {
		return fmt.Errorf("%w: telemetry.endpoint: %w", config.ErrConfig, err)
	}
	tracer := telemetry.New(telemetry.Options{
		Endpoint: strings.TrimRight(section.Endpoint, "/") + "/v1/traces", Header: header, Sample: section.Sample,
		Client: way.Client(fetch.Limits{Bytes: maxCollectorBytes}), Version: Version, Log: r.Log,
	})
	r.watchers = append(r.watchers, func(req *http.Request, route string) func(answer) {
		end := tracer.Begin(req, route)
		return func(a answer) { end(a.status) }
	})
	r.closers = append(r.closers, func() error { tracer.Close(); way.Close(); return nil })
	return nil
}

func (r *Root) collectorHeader(named map[string]config.Secret) (http.Header, error) {
	header := http.Header{}
	for name, secret := range named {
		value, err := r.Config.Secret(secret)
		if err != nil {
			return nil, fmt.Errorf("telemetry.headers.%s: %w", name, err)
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("%w: telemetry.headers.%s: is no header", config.ErrConfig, name)
		}
		header.Set(name, value)
	}
	return header, nil
}

// wayTo reaches one configured server wherever it is, and no other by its
// redirects: the allowance is no API's.
func wayTo(address string) (*fetch.Fetcher, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want an http or https address, with neither user nor query")
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	return fetch.New([]string{net.JoinHostPort(u.Hostname(), port)})
}
