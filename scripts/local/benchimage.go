package main

import (
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// The bounds of make bench-image.
const (
	leastDiskRatio  = 0.8
	mostStartRatio  = 1.25
	mostImageMB     = 40
	mostGuestMB     = 192
	mostBuildS      = 20
	mostUpdateRatio = 1.5
)

// benchImage measures what an image costs: its disk, its size, its build, its start,
// the least memory that a machine does with, and an update.
func benchImage(ctx context.Context, p place) error {
	all := map[string]ratio{}
	err := alone(p, func(l *local) error { return l.benchImage(ctx, all) })
	if err != nil {
		return err
	}
	guest, err := leastGuest(ctx)
	if err != nil {
		return err
	}
	all["guest_mb"] = guest
	if err := printRatios("image", all, imageUnits); err != nil {
		return err
	}
	return within(all)
}

var imageUnits = map[string]string{
	"disk_write": "MiB/s", "disk_read": "MiB/s", "agent_start": "ms", "image_mb": "MB", "guest_mb": "MiB", "build_s": "s", "update": "ms",
}

// within fails where a bound is not kept.
func within(all map[string]ratio) error {
	var errs []error
	for name, holds := range map[string]bool{
		"disk_write": all["disk_write"].Ratio >= leastDiskRatio, "disk_read": all["disk_read"].Ratio >= leastDiskRatio,
		"agent_start": all["agent_start"].Ratio <= mostStartRatio, "image_mb": all["image_mb"].Value <= mostImageMB,
		"guest_mb": all["guest_mb"].Value <= mostGuestMB, "build_s": all["build_s"].Value <= mostBuildS,
		"update": all["update"].Ratio <= mostUpdateRatio,
	} {
		if !holds {
			errs = append(errs, fmt.Errorf("%s is %.3g, ratio %.3f: out of bounds", name, all[name].Value, all[name].Ratio))
		}
	}
	return errors.Join(errs...)
}

func (l *local) benchImage(ctx context.Context, all map[string]ratio) error {
	if err := l.place.make(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		run  func() error
	}{
		{"fill the caches", func() error { return l.place.buildRelease(ctx) }},
		{"build the image once more", func() (err error) {
			all["build_s"], err = l.place.benchBuild(ctx)
			return err
		}},
		{"weigh it", func() (err error) {
			all["image_mb"], err = weigh(l.place.release())
			return err
		}},
		{"write and read disks", func() (err error) {
			all["disk_write"], all["disk_read"], err = l.place.benchDisk(ctx)
			return err
		}},
		{"start the control plane", func() error { return l.startBench(ctx) }},
		{"start the agent, and the least program", func() (err error) {
			all["agent_start"], err = l.benchStart(ctx)
			return err
		}},
		{"update a machine", func() (err error) {
			all["update"], err = l.benchUpdate(ctx)
			return err
		}},
	} {
		if err := step(s.name, s.run); err != nil {
			return err
		}
	}
	return nil
}

// benchBuild builds the image from warm caches, elsewhere.
func (p place) benchBuild(ctx context.Context) (ratio, error) {
	began := time.Now()
	if err := p.buildAndSign(ctx, p.in("releases", "again"), "--secure-boot-keys", p.secureBootKeys()); err != nil {
		return ratio{}, err
	}
	took := time.Since(began).Seconds()
	return ratio{Value: took, Floor: mostBuildS, Ratio: took / mostBuildS}, nil
}

// weigh is the disk image, compressed, beside the kernel in it.
func weigh(release string) (ratio, error) {
	f, err := os.Open(filepath.Join(release, imagebuild.DiskName))
	if err != nil {
		return ratio{}, fmt.Errorf("weighing the image: %w", err)
	}
	defer f.Close()
	var n counter
	w, err := zstd.NewWriter(&n)
	if err != nil {
		return ratio{}, fmt.Errorf("weighing the image: %w", err)
	}
	if _, err := io.Copy(w, f); err != nil {
		return ratio{}, fmt.Errorf("weighing the image: %w", err)
	}
	if err := w.Close(); err != nil {
		return ratio{}, fmt.Errorf("weighing the image: %w", err)
	}
	uki, err := pe.Open(filepath.Join(release, imagebuild.UKIName))
	if err != nil {
		return ratio{}, fmt.Errorf("weighing the kernel: %w", err)
	}
	defer uki.Close() //nolint:errcheck // it was only read
	kernel := float64(uki.Section(".linux").VirtualSize) / 1e6
	image := float64(n) / 1e6
	return ratio{Value: image, Floor: kernel, Ratio: image / kernel}, nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// startBench starts the control plane with the release added.
func (l *local) startBench(ctx context.Context) error {
	chosen, err := l.place.configure(ctx)
	if err != nil {
		return err
	}
	if l.control, err = startControl(ctx, l.place, chosen); err != nil {
		return err
	}
	return errors.Join(l.place.shed(ctx, nil, "release", "add", l.place.release()), l.place.handOver())
}

// Memory of guests that is tried, in MiB: from above until one fails.
const (
	firstGuestMB = 224
	lastGuestMB  = 96
	guestStepMB  = 16
	// guestPatience bounds the main job on one: the kernel may be without memory.
	guestPatience = 2 * time.Minute
)

// leastGuest is the least memory in which signup, claim and toolshed pass, on a
// machine each.
func leastGuest(ctx context.Context) (ratio, error) {
	least := 0
	for mb := firstGuestMB; mb >= lastGuestMB; mb -= guestStepMB {
		err := withFreshPlace(place{memoryMB: mb}, func(p place) error {
			return alone(p, func(l *local) error {
				ctx, cancel := context.WithTimeout(ctx, guestPatience)
				defer cancel()
				return l.bringUp(ctx)
			})
		})
		if ctx.Err() != nil {
			return ratio{}, ctx.Err()
		}
		fmt.Printf("  a guest of %d MiB: %s\n", mb, outcome(err))
		if err != nil {
			break
		}
		least = mb
	}
	if least == 0 {
		return ratio{}, errors.New("no guest has enough memory")
	}
	return ratio{Value: float64(least), Floor: mostGuestMB, Ratio: float64(least) / mostGuestMB}, nil
}

func outcome(err error) string {
	if err == nil {
		return "passes"
	}
	return "fails"
}

// machineShape is that of the place's machines.
func (p place) machineShape() board.Shape {
	s := localShape
	if p.memoryMB > 0 {
		s.MemoryBytes = int64(p.memoryMB) << 20
	}
	return s
}
