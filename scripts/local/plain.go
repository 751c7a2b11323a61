package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// readTrust reads what an owner has from the publisher.
func readTrust(dir string) (client.Trust, error) {
	trust := client.Trust{
		Policy:   verifier.Policy{Minimum: attest.Tiers{Identity: attest.TierSoftware}, EKRevocation: chain.RequiredWhereNamed},
		Log:      release.LogPolicy{NotRequired: true},
		Verifier: new(verifier.Verifier), Now: time.Now, Rand: rand.Reader,
	}
	key, err := os.ReadFile(filepath.Join(dir, "release.pub"))
	if err != nil {
		return trust, fmt.Errorf("reading the release key: %w", err)
	}
	if trust.ReleaseKey, err = release.ParsePublicKey(key); err != nil {
		return trust, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "ek-root.pem"))
	if err != nil {
		return trust, fmt.Errorf("reading the endorsement root: %w", err)
	}
	trust.Policy.TrustAnchors, err = verifier.ParseTrustAnchors(root, attest.TierSoftware)
	return trust, err
}

// plainMachine boots a machine as the provider does, without the provider: the
// very arguments of its QEMU, on files of its own.
type plainMachine struct {
	place  place
	source string
	qemu   []string
	config []byte
	port   int
}

// copyMachine takes the arguments from the one running machine.
func (p place) copyMachine() (*plainMachine, error) {
	dirs, err := filepath.Glob(filepath.Join(p.provider(), "machines", "*"))
	if err != nil || len(dirs) != 1 {
		return nil, fmt.Errorf("want one machine at the provider, found %d", len(dirs))
	}
	m := &plainMachine{place: p, source: dirs[0]}
	b, err := os.ReadFile(filepath.Join(m.source, "machine.json"))
	if err != nil {
		return nil, fmt.Errorf("reading the machine's record: %w", err)
	}
	var record struct {
		Port int `json:"port"`
		QEMU struct {
			PID int `json:"pid"`
		} `json:"qemu"`
	}
	if err := json.Unmarshal(b, &record); err != nil {
		return nil, fmt.Errorf("reading the machine's record: %w", err)
	}
	m.port = record.Port
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", record.QEMU.PID))
	if err != nil {
		return nil, fmt.Errorf("reading QEMU's arguments: %w", err)
	}
	m.qemu = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	m.config, err = os.ReadFile(filepath.Join(m.source, "config.img"))
	return m, err
}

// console is what the machine that was copied has shown.
func (m *plainMachine) console() ([]byte, error) {
	return os.ReadFile(filepath.Join(m.source, "console.log"))
}

// bootTimes are when a boot's files began to be made, when the first program of the
// release said its first line, and when it first answered.
type bootTimes struct{ began, started, answered time.Time }

// bootTries bounds how often a boot is tried whose kernel crashes.
const bootTries = 3

// errCrashed is of a boot that says nothing about its release.
var errCrashed = errors.New("the guest's kernel crashed before any program ran")

// untilBooted tries until the kernel does not crash. What is done again is told.
func untilBooted(again string, try func() error) (err error) {
	for left := bootTries - 1; ; left-- {
		if err = try(); !errors.Is(err, errCrashed) || left == 0 {
			return err
		}
		fmt.Printf("  %v: %s again\n", errCrashed, again)
	}
}

// boot makes TPM and disks and boots a release, to its first answer. Where the kernel
// crashed another boot is measured.
func (m *plainMachine) boot(ctx context.Context, release string) (times bootTimes, err error) {
	err = untilBooted("booting", func() (err error) {
		times, err = m.bootOnce(ctx, release)
		return err
	})
	if err != nil {
		return bootTimes{}, fmt.Errorf("booting %s: %w", filepath.Base(release), err)
	}
	return times, nil
}

// bootTime bounds one boot.
const bootTime = 3 * time.Minute

func (m *plainMachine) bootOnce(ctx context.Context, release string) (times bootTimes, err error) {
	times.began = time.Now()
	dir, err := os.MkdirTemp(m.place.runtime, "plain-")
	if err != nil {
		return times, fmt.Errorf("making the plain machine: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it goes with the run's directory
	if err := m.provision(ctx, dir, release); err != nil {
		return times, err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	socket := filepath.Join(dir, "tpm.sock")
	swtpm := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+filepath.Join(dir, "tpm"),
		"--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := swtpm.Start(); err != nil {
		return times, fmt.Errorf("starting swtpm: %w", err)
	}
	defer swtpm.Wait() //nolint:errcheck // it ends with QEMU
	defer cancel()
	if err := poll(ctx, time.Millisecond, func() (bool, error) { return present(socket), nil }); err != nil {
		return times, err
	}
	qemu := exec.CommandContext(ctx, m.qemu[0], m.arguments(dir, socket)...)
	var complaint bytes.Buffer
	qemu.Stderr = &complaint
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := qemu.Start(); err != nil {
		return times, fmt.Errorf("starting QEMU: %w", err)
	}
	console := filepath.Join(dir, "console.log")
	err = poll(ctx, time.Millisecond, func() (bool, error) {
		b, err := os.ReadFile(console)
		return begun(b), errors.Join(ignoreAbsent(err), crashed(b))
	})
	times.started = time.Now()
	if err == nil {
		err = m.firstAnswer(ctx)
	}
	times.answered = time.Now()
	cancel()
	qemu.Wait() //nolint:errcheck // it was killed
	if err != nil {
		err = fmt.Errorf("%w\n%sthe console ends:\n%s", err, complaint.Bytes(), tail(console))
	}
	return times, err
}

// begun says whether a console shows the first program's first line: the agent's, or
// that of the least program.
func begun(console []byte) bool {
	return bytes.Contains(console, []byte("START")) || bytes.Contains(console, []byte(`"msg":"start"`))
}

// crashed is errCrashed where a console shows that the kernel crashed before the first
// program's first line. QEMU's emulation of two processors now and then makes Linux do
// that, each time elsewhere (docs/providers.md).
func crashed(console []byte) error {
	before, _, oops := bytes.Cut(console, []byte("Oops: "))
	if !oops {
		before, _, oops = bytes.Cut(console, []byte("Kernel panic - "))
	}
	if oops && !begun(before) {
		return errCrashed
	}
	return nil
}

func present(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// provision makes what the provider makes, side by side as it does.
func (m *plainMachine) provision(ctx context.Context, dir, release string) error {
	tpm := filepath.Join(dir, "tpm")
	if err := os.Mkdir(tpm, 0o700); err != nil {
		return fmt.Errorf("making the plain machine: %w", err)
	}
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--ecc", "--create-ek-cert", "--tpm-state", "dir://"+tpm,
		"--config", filepath.Join(m.place.provider(), "ca", "setup.conf"), "--pcr-banks", "sha256,sha384")
	if err := setup.Start(); err != nil {
		return fmt.Errorf("making the TPM: %w", err)
	}
	err := m.disks(ctx, dir, release)
	if setupErr := setup.Wait(); setupErr != nil {
		err = errors.Join(err, fmt.Errorf("making the TPM: %w", setupErr))
	}
	return err
}

func (m *plainMachine) disks(ctx context.Context, dir, release string) error {
	image := filepath.Join(release, "disk.raw")
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image,
		filepath.Join(dir, "system.qcow2")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the system disk: %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "data.raw"), nil, 0o600); err != nil {
		return fmt.Errorf("making the data disk: %w", err)
	}
	if err := os.Truncate(filepath.Join(dir, "data.raw"), 256<<20); err != nil {
		return fmt.Errorf("making the data disk: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.img"), m.config, 0o600); err != nil {
		return fmt.Errorf("making the config drive: %w", err)
	}
	variables, err := os.ReadFile(filepath.Join(release, "variables.fd"))
	if err != nil {
		return fmt.Errorf("making the firmware's variables: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "vars.fd"), variables, 0o600)
}

// arguments are the provider's with other files; the TPM's socket has a path
// instead of a descriptor, and there are no monitors.
func (m *plainMachine) arguments(dir, socket string) []string {
	var args []string
	for i := 1; i < len(m.qemu); i++ {
		arg := strings.ReplaceAll(m.qemu[i], m.source, dir)
		switch {
		case strings.HasPrefix(arg, "socket,id=tpm,"):
			arg = "socket,id=tpm,path=" + socket
		case strings.HasPrefix(arg, "socket,id=monitor,"), strings.HasPrefix(arg, "socket,id=events,"):
			args = args[:len(args)-1]
			i += 2
			continue
		}
		args = append(args, arg)
	}
	return args
}

// askEvery is how often a machine is asked that does not answer yet, and askFor how
// long each attempt waits. QEMU takes a connection before the machine has a network,
// and nobody answers on that one, so no attempt waits for the one before it.
const (
	askEvery = 20 * time.Millisecond
	askFor   = 300 * time.Millisecond
)

// firstAnswer asks until the agent answers anything at all.
func (m *plainMachine) firstAnswer(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered, once := context.WithCancel(ctx)
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	for {
		go func() {
			if m.answers(ctx) {
				once()
			}
		}()
		select {
		case <-answered.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// answers asks once. net/http would leave a connection behind that nobody answers.
func (m *plainMachine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // only whether it answers is asked
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)))
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: machine\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	// A server answers whoever hangs up, too.
	return resp.Body.Close() == nil && ctx.Err() == nil
}
