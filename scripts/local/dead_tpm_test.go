package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// A machine whose TPM has ended is not ready, whatever it says of itself, and
// is restarted with the TPM that it had.
func TestVMDeadTPM(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	ek := w.ekCertificate()
	before := w.processes("swtpm")
	if len(before) != 1 {
		t.Fatalf("%d TPMs run", len(before))
	}
	p, err := os.FindProcess(before[0])
	w.must(err)
	w.must(p.Kill())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.must(poll(ctx, 100*time.Millisecond, func() (bool, error) {
		all, err := w.place.instances(ctx)
		return err == nil && len(all) == 1 && all[0].State != "ready" && strings.Contains(all[0].Reason, "TPM"), err
	}))
	again := w.ready("ada")
	if again.ID != i.ID || string(ek) != string(w.ekCertificate()) {
		t.Errorf("another machine came back: %+v", again)
	}
	if after := w.processes("swtpm"); len(after) != 1 || after[0] == before[0] {
		t.Errorf("TPMs %v, was %v", after, before)
	}
	w.exits(0, []string{"verify", i.URL}, "accepted")
}
