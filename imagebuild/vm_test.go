package imagebuild_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// vmTests is the variable that turns on tests which boot machines.
const vmTests = "SHED_VM_TESTS"

// bootDeadline is several times what software emulation takes.
const bootDeadline = 3 * time.Minute

func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv(vmTests) != "1" {
		t.Skipf("boots a machine: set %s=1 to run it", vmTests)
	}
}

// buildProgram compiles a package as the Makefile compiles what goes into an
// image.
func buildProgram(t *testing.T, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, text)
	}
	return out
}

// firmware is a build of OVMF with its variables and what it wants of QEMU.
type firmware struct {
	code, vars string
	arguments  []string
}

var (
	// plainFirmware has no keys, so Secure Boot is off.
	plainFirmware = firmware{
		code: "/usr/share/OVMF/OVMF_CODE_4M.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		arguments: []string{"-machine", "q35,accel=tcg,hpet=off,vmport=off"},
	}
	// secureFirmware has Debian's snakeoil key enrolled and Secure Boot on.
	secureFirmware = firmware{
		code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
		arguments: []string{
			"-machine", "q35,accel=tcg,hpet=off,vmport=off,smm=on",
			"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		},
	}
)

// boot starts the disk under OVMF with a TPM of its own and returns what the
// machine printed until it powered itself off.
func boot(t *testing.T, fw firmware, disk string) []string {
	t.Helper()
	vars := filepath.Join(t.TempDir(), "vars.fd")
	copyFile(t, fw.vars, vars)
	return start(t, append(slices.Clone(fw.arguments),
		"-cpu", "Westmere,+rdrand", "-smp", "2", "-m", "512",
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+fw.code,
		"-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-device", "tpm-crb,tpmdev=tpm",
		"-drive", "if=none,id=system,format=raw,snapshot=on,file="+disk,
		"-device", "virtio-blk-pci,drive=system,bootindex=0",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="))
}

// start runs a machine to its end, with a TPM behind the id tpm, and returns
// what it printed.
func start(t *testing.T, arguments []string) []string {
	t.Helper()
	lines, ended := run(t, "", arguments)
	if ended != nil {
		t.Fatalf("qemu: %v\n%s", ended, strings.Join(lines, "\n"))
	}
	return lines
}

// startUntil is start, but for a machine that is stopped once it has printed a
// text, which it must.
func startUntil(t *testing.T, text string, arguments []string) []string {
	t.Helper()
	lines, _ := run(t, text, arguments)
	if n := len(lines); n == 0 || !strings.Contains(lines[n-1], text) {
		t.Fatalf("the machine never prints %q:\n%s", text, strings.Join(lines, "\n"))
	}
	return lines
}

// run is a machine's life, to a text where one is named.
func run(t *testing.T, until string, arguments []string) (lines []string, ended error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootDeadline)
	defer cancel()
	// Sockets have short paths; a test's own directory has a long one.
	dir, err := os.MkdirTemp("", "shedvm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(slices.Clone(arguments), "-no-reboot",
		"-chardev", "socket,id=tpm,path="+startTPM(ctx, t, dir), "-tpmdev", "emulator,id=tpm,chardev=tpm")...)
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting qemu: %v", err)
	}
	lines = readConsole(console, until)
	if until != "" {
		cancel()
	}
	if err := cmd.Wait(); err != nil {
		return lines, fmt.Errorf("%w: %s", err, complaint.String())
	}
	return lines, nil
}

// readConsole reads to the end, or to a line with a text where one is named.
func readConsole(r io.Reader, until string) []string {
	var lines []string
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		lines = append(lines, strings.TrimRight(in.Text(), "\r"))
		if until != "" && strings.Contains(in.Text(), until) {
			break
		}
	}
	return lines
}

// startTPM makes a TPM and returns its socket, which is listening.
func startTPM(ctx context.Context, t *testing.T, dir string) string {
	t.Helper()
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", dir, "--pcr-banks", "sha256,sha384")
	if text, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("swtpm_setup: %v\n%s", err, text)
	}
	// The socket is made here and handed over, so that it is there before
	// anybody connects.
	name := filepath.Join(dir, "tpm.sock")
	listener, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := listener.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--ctrl", "type=unixio,fd=3", "--terminate", "--flags", "startup-clear")
	cmd.ExtraFiles = []*os.File{socket}
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting swtpm: %v", err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err == nil && t.Failed() {
			t.Logf("swtpm: %s", text.String())
		}
		cmd.Wait()
	})
	return name
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
