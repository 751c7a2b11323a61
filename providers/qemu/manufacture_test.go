package qemu_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
)

// tpms are the processes that hold the state of a TPM on this site, also of
// one that is only being made.
func (s *site) tpms(t *testing.T) []proc.Found {
	t.Helper()
	found, err := proc.Scan(func(args []string) bool {
		return filepath.Base(args[0]) == "swtpm" && strings.Contains(strings.Join(args, " "), s.state)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// certifying reports whether the endorsement certificates are being made, which
// is when the most processes are about.
func (s *site) certifying(t *testing.T) bool {
	t.Helper()
	work, err := filepath.Glob(filepath.Join(s.state, "tmp", "swtpm_setup.certs.*"))
	if err != nil {
		t.Fatal(err)
	}
	inside, err := filepath.Glob(filepath.Join(s.state, "tmp", "*", "swtpm_setup.certs.*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(work)+len(inside) > 0
}

// A machine that is deleted while its TPM is being made leaves nothing of that.
func TestDeletingWhileTheTPMIsMadeLeavesNothing(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	p := s.open(t)
	if err := p.EnsureImage(t.Context(), s.image, nil); err != nil {
		t.Fatal(err)
	}
	req := providers.CreateRequest{Installation: installation, Machine: machine, Spec: s.spec}
	if _, err := p.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !s.certifying(t) {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no certificate was ever made")
		}
	}
	if err := p.Delete(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	for _, left := range s.tpms(t) {
		t.Errorf("a TPM still runs: %q", left.Args)
	}
	files, err := os.ReadDir(filepath.Join(s.state, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range files {
		t.Errorf("left in the temporary directory: %s", left.Name())
	}
}
