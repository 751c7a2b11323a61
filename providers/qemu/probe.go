package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	kvmDevice = "/dev/kvm"
	probeFile = "kvm-probe.json"
	// probePatience is how long a guest of one sector may take that is
	// emulated, probeLeast how long one may take under KVM however fast the
	// emulation was.
	probePatience = 10 * time.Second
	probeLeast    = time.Second
)

// probeVerdict is the result of a probe, good until the host starts again.
type probeVerdict struct {
	Boot  string `json:"boot"`
	Works bool   `json:"works"`
	// Reason says why it does not.
	Reason string `json:"reason"`
}

// chooseAccelerator turns auto into one of the others.
func (c *config) chooseAccelerator(ctx context.Context) error {
	if c.Accel == accelTCG {
		c.note = "software emulation: asked for by accel"
		return nil
	}
	verdict, err := c.kvmVerdict(ctx)
	if err != nil {
		return failure(err, "probing KVM")
	}
	switch {
	case verdict.Works:
		c.Accel, c.note = accelKVM, ""
	case c.Accel == accelKVM:
		return &providers.Error{Code: providers.CodeInvalid,
			Message: "accel is kvm: " + verdict.Reason}
	default:
		c.Accel, c.note = accelTCG, "software emulation: "+verdict.Reason
	}
	return nil
}

func (c *config) kvmVerdict(ctx context.Context) (verdict probeVerdict, err error) {
	path := c.path(probeFile)
	if b, err := os.ReadFile(path); err == nil {
		var known probeVerdict
		if json.Unmarshal(b, &known) == nil && known.Boot == c.boot {
			return known, nil
		}
	}
	verdict = probeVerdict{Boot: c.boot}
	verdict.Reason, err = c.compare(ctx)
	if err != nil {
		return probeVerdict{}, err
	}
	verdict.Works = verdict.Reason == ""
	b, err := json.Marshal(verdict)
	if err != nil {
		return probeVerdict{}, err
	}
	return verdict, statefile.Write(path, 0o600, b)
}

// compare answers why KVM is not used, or nothing where it is. Under a host that
// has no virtualisation of its own to give, KVM may boot a guest and be many
// times slower than emulation; the same guest under both tells.
func (c *config) compare(ctx context.Context) (reason string, err error) {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Sprintf("%s cannot be used: %s", kvmDevice, errors.Unwrap(err)), nil
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	started := time.Now()
	if err := c.probe(ctx, accelTCG, probePatience); err != nil {
		return "", err
	}
	limit := max(probeLeast, time.Since(started))
	switch err := c.probe(ctx, accelKVM, limit); {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("%s runs no guest within %s, which emulation does", kvmDevice, limit.Round(time.Millisecond)), nil
	default:
		return fmt.Sprintf("%s runs no guest: %s", kvmDevice, err), nil
	}
}

// probeExit is what QEMU exits with when the guest has written probeByte to
// its debug port: twice the byte, and one.
const (
	probeByte = 0x2a
	probeExit = probeByte<<1 | 1
)

// bootSector is a guest that says that it runs and does nothing else:
//
//	mov dx, 0x501
//	mov al, probeByte
//	out dx, al
//	cli
//	hlt
func bootSector() []byte {
	sector := make([]byte, sectorBytes)
	copy(sector, []byte{0xba, 0x01, 0x05, 0xb0, probeByte, 0xee, 0xfa, 0xf4})
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// probe boots that guest. The device may exist, and open, and still run no
// guest: only one that ran proves it.
func (c *config) probe(ctx context.Context, accel accelerator, limit time.Duration) (err error) {
	dir, err := os.MkdirTemp(c.path(tempDir), "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, bootSector(), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.tools.qemu,
		"-machine", "pc", "-accel", string(accel), "-m", "16",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-device", "isa-debug-exit,iobase=0x501,iosize=1",
		"-drive", "if=ide,format=raw,file="+disk,
	).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == probeExit:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("probing %s: %w", accel, ctx.Err())
	default:
		return fmt.Errorf("probing %s: %w: %s", accel, errors.Join(err), lastLines(out))
	}
}
