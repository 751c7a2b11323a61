package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

const (
	// callCostAtMost is what the boundary may cost a call.
	callCostAtMost = 150 * time.Microsecond
	calls          = 5000
	measured       = providers.MachineID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
)

// pluginCall is the median of a call through a plugin less that of the same
// call in this process, in microseconds.
func pluginCall(ctx context.Context) (r ratio, ok bool, err error) {
	dir, err := os.MkdirTemp("", "shbp-")
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	far, err := openPlugin(ctx, memory.Name, dir)
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, far.Close()) }()
	near := memory.New(time.Now)
	for _, p := range []providers.Provider{near, far} {
		if err := makeOne(ctx, p, dir); err != nil {
			return r, false, err
		}
	}
	nearTook, farTook, err := inTurns(ctx, near, far)
	if err != nil {
		return r, false, err
	}
	cost := median(farTook) - median(nearTook)
	fmt.Printf("plugin_call: in process %s, through the plugin %s (p50), %s (p99) of %d\n",
		median(nearTook), median(farTook), farTook[len(farTook)*99/100], calls)
	r = ratio{Value: micros(cost), Floor: micros(callCostAtMost), Ratio: micros(cost) / micros(callCostAtMost)}
	return r, cost <= callCostAtMost, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func makeOne(ctx context.Context, p providers.Provider, dir string) error {
	disk := []byte("disk")
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		return err
	}
	release := attest.ReleaseDigest{1}
	if err := errors.Join(p.Configure(ctx, []byte("{}")),
		p.EnsureImage(ctx, providers.Image{Release: release, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}, nil)); err != nil {
		return err
	}
	_, err := p.Create(ctx, providers.CreateRequest{
		Installation: "baaaaaaaaaaaaaaaaaaaaaaaaa", Machine: measured, Spec: providers.Spec{Release: release, DataBytes: 1 << 30, Config: []byte("config")},
	})
	return err
}

// inTurns makes the same calls of both, so that what else the machine does
// touches both, and answers how long each took, in order.
func inTurns(ctx context.Context, near, far providers.Provider) (nearTook, farTook []time.Duration, err error) {
	for range calls {
		for _, c := range []struct {
			p    providers.Provider
			took *[]time.Duration
		}{{near, &nearTook}, {far, &farTook}} {
			began := time.Now()
			m, err := c.p.Get(ctx, measured)
			*c.took = append(*c.took, time.Since(began))
			if err != nil || m.ID != measured {
				return nil, nil, fmt.Errorf("getting machine %q: %w", m.ID, err)
			}
		}
	}
	slices.Sort(nearTook)
	slices.Sort(farTook)
	return nearTook, farTook, nil
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }
