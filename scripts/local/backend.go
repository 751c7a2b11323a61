package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/providers/libvirttest"
)

// The providers that the main job can run on.
const (
	onQEMU    = "qemu"
	onLibvirt = "libvirt"
)

// backend is the provider as the configuration names it. Its settings are JSON,
// which is YAML.
type backend struct {
	Name     string
	Settings string
	// Roots are the certificates of the CAs of its TPMs.
	Roots []string
	// Region and Size are what machines are made as.
	Region, Size string
}

// machineGrace is how long a machine may take to shut down.
const machineGrace = 8 * time.Second

func (p place) backend() backend {
	if p.cloud != nil {
		return *p.cloud
	}
	if len(p.hosts) == 0 {
		return backend{onQEMU, text(map[string]any{
			"state_dir": p.provider(), "runtime_dir": p.runtime, "grace": machineGrace.String(),
			"memory_bytes": p.machineShape().MemoryBytes, "vcpus": localShape.VCPUs,
		}), []string{p.ekRoot()}, "local", "standard"}
	}
	var hosts []map[string]any
	var roots []string
	for _, h := range p.hosts {
		hosts = append(hosts, map[string]any{"name": filepath.Base(h.Dir), "uri": h.URI, "pool": h.Pool, "accel": "tcg"})
		roots = append(roots, h.Root())
	}
	size := map[string]any{"name": "small", "vcpus": localShape.VCPUs, "memory_bytes": localShape.MemoryBytes}
	return backend{onLibvirt, text(map[string]any{"hosts": hosts, "sizes": []any{size}, "grace": machineGrace.String()}), roots, "host-a", "small"}
}

func text(settings map[string]any) string {
	b, err := json.Marshal(settings)
	if err != nil {
		panic(err) // strings and numbers have a JSON
	}
	return string(b)
}

// startHosts starts two libvirt daemons, which stand for two hosts. stop ends
// them and their machines.
func (p *place) startHosts(ctx context.Context) (stop func() error, err error) {
	stop = func() error {
		var err error
		for _, h := range p.hosts {
			err = errors.Join(err, h.Stop())
		}
		return err
	}
	for _, name := range []string{"host-a", "host-b"} {
		dir := filepath.Join(p.runtime, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("making a host: %w", err), stop())
		}
		h, err := libvirttest.Start(ctx, dir)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		p.hosts = append(p.hosts, h)
	}
	return stop, nil
}
