// Package api is the operators' API: instances, releases, events, health.
//
// Invariants: whatever changes or shows anything needs a bearer token, of
// which the store knows the hash alone; every refusal is a problem document
// with a stable code; a release is taken in only with a signature of the
// configured key; a machine that is there is offered one and never made to take it.
package api

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/refusal"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
	"github.com/toolshed-cloud/shed/providers"
)

// Version is the admin API's.
const Version = "1.0.0"

// Provider is what operators can ask of one. What it cannot do is nil.
type Provider struct {
	providers.Catalog
	Info        providers.Info
	Consoler    providers.Consoler
	Snapshotter providers.Snapshotter
	// AttachesData says that a machine can have the disk of another.
	AttachesData bool
}

// Parts are what a Server is made from. Log may be nil.
type Parts struct {
	Store   store.Store
	Watch   store.Watcher
	SignUps signup.Service
	Limits  orchestrator.Limits
	// Provider is the one of that name, or, for the empty name, the default;
	// Providers are all names.
	Provider  func(name string) Provider
	Providers []string
	// ReleaseKey verifies what is added; DefaultRelease is zero for the newest.
	ReleaseKey     crypto.PublicKey
	DefaultRelease attest.ReleaseDigest
	// ResultKey verifies the control plane's verdicts.
	ResultKey crypto.PublicKey
	// Log is the transparency log; nil where none is run.
	Log *translog.Log
	// Offered is called with each machine that an offer was written for.
	Offered func(providers.MachineID)
	// Obstacle says what keeps the instances in a state there; empty where
	// nothing is known.
	Obstacle func(orchestrator.State) string
	// Ready says what keeps the control plane from its work.
	Ready   func(context.Context) error
	Metrics http.Handler
	Clock   func() time.Time
	Logger  *zap.Logger
}

// Server answers operators.
type Server struct{ Parts }

// problems makes the framework's own refusals ours, once for the process: it
// has no other place to say so.
var problems sync.Once

// New makes the handler.
func New(p Parts) http.Handler {
	problems.Do(func() {
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			for _, err := range errs {
				message += "; " + err.Error()
			}
			return problem.New(status, codeOf(status), message)
		}
	})
	s := &Server{Parts: p}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Shed control plane", Version)
	config.DocsPath, config.SchemasPath, config.CreateHooks, config.Transformers = "", "", nil, nil
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}
	config.RejectUnknownQueryParameters = true
	a := humago.New(mux, config)
	s.instances(a)
	s.updates(a)
	s.releases(a)
	s.events(a)
	s.log(a)
	s.audit(a)
	s.offerings(a)
	s.snapshots(a)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", p.Metrics)
	return s.authorized(problem.Routes(mux))
}

func codeOf(status int) string {
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
}

// authorized lets only those in that show a token, but for what holds nothing
// of anybody.
func (s *Server) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			if err := s.authorize(r); err != nil {
				w.Header().Set("WWW-Authenticate", "Bearer")
				s.problem(err).Write(w)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) authorize(r *http.Request) error {
	// The scheme is written in any case (RFC 9110, section 11.1).
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return problem.New(http.StatusUnauthorized, "token-missing", "this needs a bearer token")
	}
	err := s.Store.View(r.Context(), func(v store.Reader) error {
		_, err := v.TokenName(attest.Sum([]byte(token)))
		return err
	})
	if p := refusal.Of(err); err != nil && p.Status == http.StatusNotFound {
		return problem.New(http.StatusUnauthorized, "token-unknown", "this bearer token is not known here")
	}
	return err
}

// problem turns an error into what a client sees, and logs what it does not.
func (s *Server) problem(err error) *problem.Problem {
	p := refusal.Of(err)
	if p.Status >= http.StatusInternalServerError {
		s.Logger.Error("admin request failed", zap.Error(err))
	}
	return p
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.Ready(r.Context()); err != nil {
		problem.New(http.StatusServiceUnavailable, "not-ready", err.Error()).Write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func tierOf(appraisal []byte) string {
	var a attest.AttestationResult
	if json.Unmarshal(appraisal, &a) != nil {
		return ""
	}
	return a.Tiers.Identity.String()
}

// verified reads a release that the configured key has signed.
func (s *Server) verified(n NewRelease) (orchestrator.Release, error) {
	var m *release.Manifest
	var digest attest.ReleaseDigest
	var err error
	for _, key := range s.releaseKeys() {
		if m, digest, err = release.Verify(n.Manifest, n.Bundle, key); !errors.Is(err, attest.ErrSignature) {
			break
		}
	}
	if err != nil {
		return orchestrator.Release{}, problem.New(http.StatusForbidden, "release-refused", err.Error())
	}
	return orchestrator.Release{
		Digest: digest, Version: m.Version, Epoch: m.Epoch, Manifest: n.Manifest, Bundle: n.Bundle,
		DiskPath: n.DiskPath, DiskSHA256: m.Disk.SHA256, DiskBytes: m.Disk.Bytes, AddedAt: s.Clock(),
	}, nil
}
