// Package swtpmtest starts a real software TPM for a test, made by an authority
// of the test's own.
//
// Invariant: it is for tests alone; process, socket and state end with the
// test, also when it fails.
package swtpmtest

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// TPM is a running software TPM.
type TPM struct {
	transport.TPM
	// Root is the authority that issued the endorsement certificate; nil where
	// there is none.
	Root *x509.Certificate

	t       testing.TB
	dir     string
	process *exec.Cmd
	conn    *os.File
}

// Start makes a new TPM and powers it on. It fails the test where swtpm is not
// installed. Two TPMs of one test are never the same; those of two tests may
// have been made once, since making one takes a second.
func Start(t testing.TB) *TPM {
	t.Helper()
	return start(t, certified)
}

// StartUncertified is Start with a TPM that has no endorsement certificate, as
// those of some clouds.
func StartUncertified(t testing.TB) *TPM {
	t.Helper()
	return start(t, uncertified)
}

func start(t testing.TB, k kind) *TPM {
	t.Helper()
	m := &TPM{t: t, dir: t.TempDir()}
	made := next(t, k)
	m.Root = made.root
	state := filepath.Join(m.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range made.files {
		if err := os.WriteFile(filepath.Join(state, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.PowerOn()
	t.Cleanup(m.PowerOff)
	return m
}

// PowerOn starts the TPM as a machine's reset does: registers at their initial
// values, NV memory as it was.
func (m *TPM) PowerOn() {
	m.t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "tpm"), os.NewFile(uintptr(pair[1]), "swtpm")
	defer theirs.Close()
	m.process = exec.Command("swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+filepath.Join(m.dir, "state"),
		"--fd", "3", "--flags", "startup-clear,not-need-init")
	m.process.ExtraFiles = []*os.File{theirs}
	if err := m.process.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.TPM, m.conn = attester.Transport(ours), ours
}

// shutdownPatience is how long a TPM may take to be told that it ends: far longer than
// it does, since one that was not told counts that against its owner.
const shutdownPatience = time.Minute

// PowerOff ends the TPM. It is harmless when it is off.
func (m *TPM) PowerOff() {
	m.powerOff(shutdownPatience)
}

func (m *TPM) powerOff(patience time.Duration) {
	if m.process == nil {
		return
	}
	// Nothing else would end the wait for an answer that does not come.
	process := m.process.Process
	late := time.AfterFunc(patience, func() { process.Kill() }) //nolint:errcheck // it may have ended
	defer late.Stop()
	tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(m.TPM) //nolint:errcheck // it ends either way
	m.conn.Close()
	process.Kill()   //nolint:errcheck // it may have ended with its connection
	m.process.Wait() //nolint:errcheck // it was killed
	m.process = nil
}
