package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// setUp gives a script what there is on the other side: a control plane with
// three instances, which its state directory leads to, and at $SILENT one that
// takes connections and never answers.
func setUp(env *testscript.Env) error {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	env.Defer(func() { silent.Close() }) //nolint:errcheck // nothing was said
	env.Setenv("SILENT", silent.Addr().String())
	control := httptest.NewServer(newTinyControl())
	env.Defer(control.Close)
	known, err := json.Marshal(adminclient.Addresses{Admin: control.Listener.Addr().String()})
	if err != nil {
		return err
	}
	dir := filepath.Join(env.WorkDir, "running", "control")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range map[string]string{adminclient.AddressesFile: string(known), adminclient.TokenFile: "shed_x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// tinyControl is as much of the admin API as a script needs.
type tinyControl struct {
	// mu guards the fields below.
	mu        sync.Mutex
	instances []adminclient.Instance
	// looked has an entry where an instance was looked at. It is of who follows the
	// history last: who did so before may be gone and not yet known to be.
	looked chan struct{}
}

func newTinyControl() http.Handler {
	c := &tinyControl{instances: []adminclient.Instance{
		{ID: "aaaabbbbccccddddeeeeffffgg", UserID: "ada", State: "ready", URL: "https://127.0.0.1:27593"},
		{ID: "aaaazzzzccccddddeeeeffffgg", UserID: "grace", State: "booting", Reason: "the provider has accepted it"},
		{ID: "xyxyzzzzccccddddeeeeffffgg", UserID: "hedy", State: "ready", URL: "https://127.0.0.1:27594"},
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/instances", func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(adminclient.Instances{Instances: c.instances})
	})
	mux.HandleFunc("/v1/instances/{id}", func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n := range c.instances {
			if i := &c.instances[n]; i.ID == r.PathValue("id") {
				if r.Method == http.MethodDelete {
					i.State, i.Reason, i.URL = "deleting", "deletion requested", ""
				}
				_ = json.NewEncoder(w).Encode(i)
				select {
				case c.looked <- struct{}{}:
				default:
				}
				return
			}
		}
		problem.New(http.StatusNotFound, "not-found", "instance: not found").Write(w)
	})
	c.updates(mux)
	return mux
}

// outcomes are what comes of offering a release, by the first digit of its digest.
var outcomes = map[byte][]adminclient.Update{
	'b': {{Step: "offered"}, {Step: "awaiting-approval"}, {Step: "fetching"}, {Step: "installing"}, {Step: "trying"}, {Step: "done"}},
	'c': {{Step: "offered"}, {Step: "refused", Reason: "unclaimed"}},
	'd': {{Step: "offered"}, {Step: "trying"}, {Step: "fell-back", Reason: "payload-unhealthy"}},
	'e': {{Step: "offered"}, {Step: "awaiting-approval"}},
	'f': {{Step: "offered"}, {Step: "taken-back"}},
}

// updates takes offers, and lets a step come to pass each time an instance was
// looked at.
func (c *tinyControl) updates(mux *http.ServeMux) {
	var releases adminclient.Releases
	for first := range outcomes {
		r := adminclient.Release{Digest: string(first) + strings.Repeat("0", 63), Version: "1.0.0", Default: first == 'b', Withdrawn: first == 'f'}
		if first == 'b' {
			r.SecureBootChange = "db"
		}
		releases.Releases = append(releases.Releases, r)
	}
	mux.HandleFunc("GET /v1/releases", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(releases) })
	mux.HandleFunc("POST /v1/instances/{id}/update", func(w http.ResponseWriter, r *http.Request) {
		var in adminclient.NewUpdate
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Release) != 64 {
			problem.New(http.StatusUnprocessableEntity, "digest-invalid", "no digest").Write(w)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		i := c.one(r.PathValue("id"))
		if i.State == "booting" {
			problem.New(http.StatusConflict, "release-older", "release 1.0.0 has epoch 1, and the machine runs one of epoch 2").Write(w)
			return
		}
		if i.Release != in.Release {
			i.Update = &adminclient.Update{Release: in.Release, Attempt: 1, Step: "offered"}
		}
		_ = json.NewEncoder(w).Encode(i)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		looked := c.followed()
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case <-looked:
				c.step(w, r.URL.Query().Get("instance"))
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
}

// followed has who asks hear of each look from now on.
func (c *tinyControl) followed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = make(chan struct{}, 1)
	return c.looked
}

func (c *tinyControl) one(id string) *adminclient.Instance {
	return &c.instances[slices.IndexFunc(c.instances, func(i adminclient.Instance) bool { return i.ID == id })]
}

// step lets the next step of an instance's update come to pass, where there is one.
func (c *tinyControl) step(w io.Writer, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.one(id)
	steps := outcomes[i.Update.Release[0]]
	n := slices.IndexFunc(steps, func(u adminclient.Update) bool { return u.Step == i.Update.Step })
	if n+1 == len(steps) {
		return
	}
	i.Update.Step, i.Update.Reason = steps[n+1].Step, steps[n+1].Reason
	if i.Update.Step == "done" {
		i.Release = i.Update.Release
	}
	_ = json.NewEncoder(w).Encode(adminclient.Event{Instance: id, At: time.Now(), From: i.State, To: i.State, Reason: "update: " + i.Update.Step})
}
