package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
)

// maxFaultBytes caps a fault on the wire.
const maxFaultBytes = 4 << 10

// wireFault is a Fault as JSON.
type wireFault struct {
	Kind    FaultKind           `json:"kind"`
	ForMS   int64               `json:"for_ms,omitempty"`
	Machine providers.MachineID `json:"machine,omitempty"`
}

// RemoteInjector reaches an Injector that InjectorHandler serves.
type RemoteInjector struct {
	// URL is where: a fault is posted to it, and DELETE ends all.
	URL    string
	Client *http.Client
}

var _ Injector = (*RemoteInjector)(nil)

// Inject posts the fault.
func (r *RemoteInjector) Inject(ctx context.Context, f Fault) error {
	body, err := json.Marshal(wireFault{f.Kind, f.For.Milliseconds(), f.Machine})
	if err != nil {
		return fmt.Errorf("encoding a fault: %w", err)
	}
	return r.send(ctx, http.MethodPost, body)
}

// Clear ends all faults.
func (r *RemoteInjector) Clear(ctx context.Context) error { return r.send(ctx, http.MethodDelete, nil) }

func (r *RemoteInjector) send(ctx context.Context, method string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, r.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("reaching the fault injector: %w", err)
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return fmt.Errorf("reaching the fault injector: %w", err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxFaultBytes))
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotImplemented:
		return fmt.Errorf("%w: %s", ErrNoSuchFault, bytes.TrimSpace(said))
	}
	return fmt.Errorf("fault injector answered %s: %s", resp.Status, bytes.TrimSpace(said))
}

// InjectorHandler serves an Injector over HTTP, for clouds that run in another
// process.
func InjectorHandler(i Injector) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.Method {
		case http.MethodPost:
			var f wireFault
			if err := strictjson.Decode(http.MaxBytesReader(w, r.Body, maxFaultBytes), &f); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			err = i.Inject(r.Context(), Fault{f.Kind, time.Duration(f.ForMS) * time.Millisecond, f.Machine})
		case http.MethodDelete:
			err = i.Clear(r.Context())
		default:
			w.Header().Set("Allow", "POST, DELETE")
			http.Error(w, "post a fault, or delete them all", http.StatusMethodNotAllowed)
			return
		}
		switch {
		case errors.Is(err, ErrNoSuchFault):
			http.Error(w, err.Error(), http.StatusNotImplemented)
		case err != nil:
			http.Error(w, err.Error(), http.StatusConflict)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
}
