package controlplane_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// A control plane puts the head of its results into its log, once for each.
func TestHeadsAreLogged(t *testing.T) {
	s := newSite(t)
	s.flags = append(s.flags, "listen.transparency=127.0.0.1:0", "transparency.audit_every=1s")
	if err := s.once(); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), s.state)
	if err != nil {
		t.Fatal(err)
	}
	var head auditlog.Head
	err = db.Update(t.Context(), func(tx store.Tx) (err error) {
		if err := tx.AppendResult(auditlog.Entry{At: 1, Instance: "i", Machine: "m", EAR: "e"}); err != nil {
			return err
		}
		head, err = tx.ResultsHead()
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := s.open(logOrigin)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		base := "http://" + p.Addresses().Transparency + "/"
		size := waitForEntries(t, base)
		bundle := waitFor(t, base+logtiles.EntriesPath(0, int(size)))
		entries, err := logtiles.ParseBundle(bundle, int(size))
		if err != nil {
			t.Fatal(err)
		}
		e, err := logentry.Parse(entries[0])
		if err != nil || size != 1 || e.Body.AuditHead == nil || e.Body.AuditHead.Head != head.Hash || e.Body.AuditHead.Count != 1 {
			t.Errorf("the log of size %d has %+v, %v", size, e, err)
		}
		stop()
		if err := errors.Join(<-done, p.Close()); err != nil {
			t.Error(err)
		}
	}
}

// waitForEntries waits until the log shows any, and answers how many.
func waitForEntries(t *testing.T, base string) int64 {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(20 * time.Second); ; {
		c, err := checkpoint.Parse(waitFor(t, base+logtiles.CheckpointPath))
		if err != nil {
			t.Fatal(err)
		}
		if c.Size > 0 {
			return c.Size
		}
		select {
		case <-ticker.C:
		case <-late:
			t.Fatal(http.StatusText(http.StatusRequestTimeout))
		}
	}
}
