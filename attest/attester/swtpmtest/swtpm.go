// Package swtpmtest starts a real software TPM for a test, made by an authority
// of the test's own.
//
// Invariant: it is for tests alone; process, socket and state end with the
// test, also when it fails.
package swtpmtest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// TPM is a running software TPM.
type TPM struct {
	transport.TPM
	// Root is the authority that issued the endorsement certificate.
	Root *x509.Certificate

	t       testing.TB
	dir     string
	process *exec.Cmd
	conn    *os.File
}

// Start makes a new TPM and powers it on. It fails the test where swtpm is not
// installed.
func Start(t testing.TB) *TPM {
	t.Helper()
	m := &TPM{t: t, dir: t.TempDir()}
	m.setup()
	m.PowerOn()
	t.Cleanup(m.PowerOff)
	return m
}

func (m *TPM) setup() {
	m.t.Helper()
	write := func(name, format string, args ...any) string {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			m.t.Fatal(err)
		}
		return path
	}
	options := write("options", "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n")
	ca := write("ca.conf", "statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", m.dir)
	config := write("setup.conf", "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n", ca, options)
	state := filepath.Join(m.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		m.t.Fatal(err)
	}
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert",
		"--config", config, "--pcr-banks", "sha256,sha384", "--lock-nvram").CombinedOutput()
	if err != nil {
		m.t.Fatalf("swtpm_setup (Debian package swtpm-tools): %v\n%s", err, out)
	}
	m.Root = m.readRoot()
}

func (m *TPM) readRoot() *x509.Certificate {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, "issuer.pem"))
	if err != nil {
		m.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		m.t.Fatal("issuer.pem holds no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		m.t.Fatal(err)
	}
	return root
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

// PowerOff ends the TPM. It is harmless when it is off.
func (m *TPM) PowerOff() {
	if m.process == nil {
		return
	}
	tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(m.TPM) //nolint:errcheck // it ends either way
	m.conn.Close()
	m.process.Process.Kill() //nolint:errcheck // it may have ended with its connection
	m.process.Wait()         //nolint:errcheck // it was killed
	m.process = nil
}
