package controlplane_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
)

const logOrigin = "transparency.origin=site.test/log"

// A control plane serves its log to anybody, and to nobody where none is
// configured.
func TestLogIsServed(t *testing.T) {
	s := newSite(t)
	s.flags = append(s.flags, "listen.transparency=127.0.0.1:0")
	p, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Addresses().Transparency; got != "" {
		t.Errorf("a log that is not configured is served at %s", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = s.open(logOrigin); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	text := waitFor(t, "http://"+p.Addresses().Transparency+"/checkpoint")
	if c, err := checkpoint.Parse(text); err != nil || c.Origin != "site.test/log" || c.Size != 0 {
		t.Errorf("checkpoint %+v, %v", c, err)
	}
	stop()
	if err := errors.Join(<-done, p.Close()); err != nil {
		t.Error(err)
	}
}

// waitFor asks until there is an answer.
func waitFor(t *testing.T, url string) []byte {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(20 * time.Second); ; {
		resp, err := http.Get(url)
		if err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK {
				return b
			}
		}
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("%s does not answer", url)
		}
	}
}

// The log's key is what clients know it by: it is drawn once and never made
// anew, and kept for nobody else to read.
func TestLogKey(t *testing.T) {
	s := newSite(t)
	s.flags = append(s.flags, "listen.transparency=127.0.0.1:0")
	if err := s.once(logOrigin); err != nil {
		t.Fatal(err)
	}
	if err := s.once("transparency.origin=other.test/log"); !errors.Is(err, config.ErrConfig) {
		t.Errorf("another origin: %v", err)
	}
	key := filepath.Join(s.state, "log", "log.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	var exposed *controlplane.ExposedError
	if err := s.once(logOrigin); !errors.As(err, &exposed) {
		t.Errorf("readable by others: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	var lost *controlplane.LostError
	if err := s.once(logOrigin); !errors.As(err, &lost) {
		t.Errorf("lost: %v", err)
	}
	if err := s.once(); err != nil {
		t.Errorf("without the log: %v", err)
	}
}
