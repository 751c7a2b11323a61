package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// The bounds of a data disk. The lower one is what a file system and the
// volume's own header need.
const (
	minDataBytes = 16 << 20
	maxDataBytes = 16 << 40
	sectorBytes  = 512
)

// Create accepts a machine: once its directory stands, whatever is still to be
// done is done by this plugin or the next.
func (p *Provider) Create(_ context.Context, req providers.CreateRequest) (providers.Machine, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Machine{}, err
	}
	drive, err := c.checkRequest(req)
	if err != nil {
		return providers.Machine{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m, ok := p.machines[req.Machine]; ok {
		return m.created(c, req)
	}
	if kept, err := exists(c.path(keptDir, string(req.Machine))); err != nil || kept {
		return providers.Machine{}, keptConflict(req.Machine, err)
	}
	if err := c.haveImage(req.Spec.Release); err != nil {
		return providers.Machine{}, err
	}
	if n := len(p.machines); c.MachineLimit > 0 && n >= c.MachineLimit {
		return providers.Machine{}, providers.Errorf(providers.CodeQuota, "there are %d machines, at most machine_limit is allowed", n).In(providers.ScopeAccount)
	}
	if err := c.dataRoom(p.promised(), req.Spec.DataBytes); err != nil {
		return providers.Machine{}, err
	}
	port, address, err := p.place(c)
	if err != nil {
		return providers.Machine{}, err
	}
	m := newMachine(record{
		Version:      recordVersion,
		Machine:      req.Machine,
		Installation: req.Installation,
		SpecHash:     req.Spec.Hash(),
		Release:      req.Spec.Release,
		Generation:   req.Generation,
		DataBytes:    req.Spec.DataBytes,
		MemoryBytes:  c.MemoryBytes,
		VCPUs:        c.VCPUs,
		CreatedAt:    p.opts.Now().UTC(),
		On:           true,
		Port:         port,
		Address:      address,
	})
	if err := c.accept(m.record, drive); err != nil {
		return providers.Machine{}, failure(err, "making the machine's directory")
	}
	p.machines[req.Machine] = m
	p.takePlace(m.record)
	m.mu.Lock()
	defer m.mu.Unlock()
	p.beginPowerOn(c, m)
	return m.observe(c), nil
}

func keptConflict(id providers.MachineID, err error) error {
	if err != nil {
		return failure(err, "looking for a kept data disk")
	}
	return providers.Errorf(providers.CodeConflict, "a data disk is kept of machine %s", id)
}

// checkRequest refuses what cannot be made and answers the config drive.
func (c *config) checkRequest(req providers.CreateRequest) ([]byte, error) {
	if _, err := sdk.CheckCreate(req, []providers.Offering{c.offering()}); err != nil {
		return nil, err
	}
	spec := req.Spec
	if spec.DataBytes < minDataBytes || spec.DataBytes > maxDataBytes || spec.DataBytes%sectorBytes != 0 {
		return nil, providers.Errorf(providers.CodeInvalid, "data_bytes is %d, want a multiple of %d from %d to %d",
			spec.DataBytes, sectorBytes, minDataBytes, maxDataBytes)
	}
	// A disk has whole sectors.
	return append(slices.Clone(spec.Config), make([]byte, -len(spec.Config)&(sectorBytes-1))...), nil
}

// created answers a Create of a machine that is there already.
func (m *machine) created(c *config, req providers.CreateRequest) (providers.Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record
	if r.Deleting {
		return providers.Machine{}, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", r.Machine)
	}
	there := m.observe(c)
	return there, sdk.Same(there, req)
}

// accept makes the machine's directory appear, whole.
func (c *config) accept(r record, drive []byte) (err error) {
	fresh, err := os.MkdirTemp(c.path(tempDir), "machine-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	// The drive carries the enrolment token.
	if err := statefile.Write(filepath.Join(fresh, configFile), 0o600, drive); err != nil {
		return err
	}
	if err := r.write(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, c.machineDir(r.Machine)); err != nil {
		return err
	}
	return statefile.SyncDir(c.path(machinesDir))
}

// provision makes what a machine needs to start; what is there stays.
func (c *config) provision(ctx context.Context, r record) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.manufacture(ctx, r.Machine) })
	g.Go(func() error { return c.makeDisks(ctx, r) })
	return g.Wait()
}

func (c *config) makeDisks(ctx context.Context, r record) error {
	// A disk that was promised goes before a blank one.
	if err := c.takeKept(r); err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		fill func(path string) error
	}{
		{variablesFile, func(path string) error { return c.copyVariables(r, path) }},
		{systemFile, func(path string) error { return c.makeOverlay(ctx, r, path) }},
		{dataFile, func(path string) error { return makeBlank(path, r.DataBytes) }},
	} {
		if err := c.makeFile(filepath.Join(c.machineDir(r.Machine), file.name), file.fill); err != nil {
			return fmt.Errorf("making %s: %w", file.name, err)
		}
	}
	return nil
}

// makeFile has fill make a file that appears whole, unless it is there.
func (c *config) makeFile(path string, fill func(path string) error) (err error) {
	made, err := exists(path)
	if err != nil || made {
		return err
	}
	dir, err := os.MkdirTemp(c.path(tempDir), "file-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fresh := filepath.Join(dir, filepath.Base(path))
	if err := fill(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return statefile.SyncDir(filepath.Dir(path))
}

// copyVariables gives each machine its own: the firmware writes into them.
func (c *config) copyVariables(r record, path string) error {
	firmware, err := c.firmware(r.Release)
	if err != nil {
		return err
	}
	variables, err := os.ReadFile(firmware.variables)
	if err != nil {
		return err
	}
	return statefile.Write(path, 0o600, variables)
}

// makeOverlay names the image by a path relative to the machine's directory,
// where the overlay will stand; qemu-img is told not to look for it yet.
func (c *config) makeOverlay(ctx context.Context, r record, path string) error {
	image, err := os.Stat(c.imagePath(r.Release))
	if err != nil {
		return err
	}
	base, err := filepath.Rel(c.machineDir(r.Machine), c.imagePath(r.Release))
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, c.tools.qemuImg, "create", "-q", "-u",
		"-f", "qcow2", "-F", "raw", "-b", base, path, strconv.FormatInt(image.Size(), 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, lastLines(out))
	}
	return nil
}

func makeBlank(path string, bytes int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(bytes), f.Close())
}
