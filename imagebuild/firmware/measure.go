package firmware

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // the banks that are replayed
	_ "crypto/sha512"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/board"
)

// measurePatience is several times what a start takes under emulation.
const measurePatience = 2 * time.Minute

// Registers are what a machine shows, by number, in lowercase hex.
type Registers struct {
	SHA256 map[string]string `json:"sha256"`
	SHA384 map[string]string `json:"sha384"`
}

// Measure starts the firmware on a board of the shape, with a TPM and with
// empty disks, and stops it once it has closed registers 0, 1 and 7: before it
// looks for anything to boot. QEMU and swtpm are programs by these names on
// the path. Errors match ErrMeasure.
func (f *Firmware) Measure(ctx context.Context, shape board.Shape) (_ Registers, err error) {
	dir, err := os.MkdirTemp("", "shed-firmware-")
	if err != nil {
		return Registers{}, fmt.Errorf("measuring the firmware: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "code.fd"), f.Code, 0o400),
		os.WriteFile(filepath.Join(dir, "variables.fd"), f.Variables, 0o600),
	); err != nil {
		return Registers{}, fmt.Errorf("measuring the firmware: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, measurePatience)
	defer cancel()
	r := newRecorder()
	if err := r.start(ctx, dir, f.Model, shape); err != nil {
		return Registers{}, err
	}
	return Registers{SHA256: r.registers(crypto.SHA256), SHA384: r.registers(crypto.SHA384)}, nil
}

// start runs a machine and its TPM in dir until everything is recorded.
func (r *recorder) start(ctx context.Context, dir string, model board.Model, shape board.Shape) error {
	ctx, cancel := context.WithCancel(ctx)
	tpm := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--ctrl", "type=unixio,clientfd=3", "--terminate", "--flags", "startup-clear", "--log", "fd=4,level=20")
	program, _ := model.Program()
	qemu := exec.CommandContext(ctx, program, arguments(dir, model, shape)...)
	var tpmSays, qemuSays bytes.Buffer
	tpm.Stderr, qemu.Stderr = &tpmSays, &qemuSays
	log, err := joined(tpm, qemu)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = log.SetReadDeadline(time.Unix(0, 1)) })
		err = errors.Join(r.follow(log), ctx.Err(), log.Close())
		stop()
	}
	// They are killed, so how they ended says nothing.
	cancel()
	for _, program := range []*exec.Cmd{qemu, tpm} {
		if program.Process != nil {
			_ = program.Wait()
		}
	}
	if err != nil {
		return fmt.Errorf("measuring the firmware of %s: %w %s%s", shape, err, lastLine(&qemuSays), lastLine(&tpmSays))
	}
	return nil
}

// joined starts a TPM and a machine with a pair of sockets between them, and
// answers the TPM's log, which ends with it.
func joined(tpm, qemu *exec.Cmd) (_ *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("joining QEMU and its TPM: %w", err)
	}
	tpmEnd, qemuEnd := os.NewFile(uintptr(fds[0]), "tpm"), os.NewFile(uintptr(fds[1]), "tpm")
	defer tpmEnd.Close()
	defer qemuEnd.Close()
	log, logEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("joining QEMU and its TPM: %w", err)
	}
	defer logEnd.Close()
	tpm.ExtraFiles, qemu.ExtraFiles = []*os.File{tpmEnd, logEnd}, []*os.File{qemuEnd}
	for _, program := range []*exec.Cmd{tpm, qemu} {
		if err := program.Start(); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: starting it: %w", ErrMeasure, err), log.Close())
		}
	}
	return log, nil
}

func lastLine(said *bytes.Buffer) string {
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	return lines[len(lines)-1]
}

func arguments(dir string, model board.Model, shape board.Shape) []string {
	flash := "if=pflash,unit=%d,format=raw,%sfile=" + strings.ReplaceAll(dir, ",", ",,")
	args := []string{
		"-drive", fmt.Sprintf(flash, 0, "readonly=on,") + "/code.fd",
		"-drive", fmt.Sprintf(flash, 1, "") + "/variables.fd",
		"-netdev", "user,restrict=on,id=" + board.Network,
		"-object", "rng-random,filename=/dev/urandom,id=" + board.Randomness,
		"-chardev", "socket,fd=3,id=tpm",
		"-tpmdev", "emulator,chardev=tpm,id=" + board.TPM,
		"-chardev", "null,id=" + board.Console,
	}
	for _, drive := range []string{board.SystemDrive, board.DataDrive, board.ConfigDrive} {
		args = append(args, "-drive", "if=none,driver=null-co,read-zeroes=on,size=64M,id="+drive)
	}
	return append(append(args, model.Args(shape)...), model.Emulated()...)
}
