package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

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
	// mu guards instances.
	mu        sync.Mutex
	instances []adminclient.Instance
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
				return
			}
		}
		problem.New(http.StatusNotFound, "not-found", "instance: not found").Write(w)
	})
	return mux
}
