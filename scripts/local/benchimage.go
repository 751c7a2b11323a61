package main

import (
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// imagePart is what make bench-image measures together.
type imagePart struct {
	ratios []string
	name   string
	run    func(context.Context, *local) ([]ratio, error)
}

func imageParts() []imagePart {
	return []imagePart{
		{[]string{"build_s"}, "build the image once more", func(ctx context.Context, l *local) ([]ratio, error) { return one(l.place.benchBuild(ctx)) }},
		{[]string{"image_mb"}, "weigh it", func(_ context.Context, l *local) ([]ratio, error) { return one(weigh(l.place.release())) }},
		{[]string{"disk_write", "disk_read"}, "write and read disks", func(ctx context.Context, l *local) ([]ratio, error) {
			write, read, err := l.place.benchDisk(ctx)
			return []ratio{write, read}, err
		}},
		{[]string{"agent_start"}, "start the agent, and the least program", func(ctx context.Context, l *local) ([]ratio, error) { return one(l.benchStart(ctx)) }},
		{[]string{"update"}, "update a machine", func(ctx context.Context, l *local) ([]ratio, error) { return one(l.benchUpdate(ctx)) }},
		{[]string{"guest_mb"}, "find the least memory", func(ctx context.Context, _ *local) ([]ratio, error) { return one(leastGuest(ctx)) }},
	}
}

func one(r ratio, err error) ([]ratio, error) { return []ratio{r}, err }

// benchImage measures what an image costs: its disk, its size, its build, its start,
// the least memory that a machine does with, and an update. Where parts are named it
// measures those, each by one of its ratios.
func benchImage(ctx context.Context, p place, parts []string) error {
	chosen := imageParts()
	if len(parts) > 0 {
		chosen = slices.DeleteFunc(chosen, func(part imagePart) bool {
			return !slices.ContainsFunc(part.ratios, func(name string) bool { return slices.Contains(parts, name) })
		})
	}
	if len(chosen) < len(parts) {
		return fmt.Errorf("%s: a part is none of this benchmark's", strings.Join(parts, " "))
	}
	all := map[string]ratio{}
	if err := alone(p, func(l *local) error { return l.benchImage(ctx, chosen, all) }); err != nil {
		return err
	}
	if err := printRatios("image", all, imageUnits); err != nil {
		return err
	}
	return within(all)
}

var imageUnits = map[string]string{
	"disk_write": "MiB/s", "disk_read": "MiB/s", "agent_start": "ms", "image_mb": "MB", "guest_mb": "MiB", "build_s": "s", "update": "ms",
}

// within fails where a bound of what was measured is not kept.
func within(all map[string]ratio) error {
	keeps := map[string]func(ratio) bool{
		"disk_write": func(r ratio) bool { return r.Ratio >= leastDiskRatio }, "disk_read": func(r ratio) bool { return r.Ratio >= leastDiskRatio },
		"agent_start": func(r ratio) bool { return r.Ratio <= mostStartRatio }, "image_mb": func(r ratio) bool { return r.Value <= mostImageMB },
		"guest_mb": func(r ratio) bool { return r.Value <= mostGuestMB }, "build_s": func(r ratio) bool { return r.Value <= mostBuildS },
		"update": func(r ratio) bool { return r.Ratio <= mostUpdateRatio },
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if r := all[name]; !keeps[name](r) {
			errs = append(errs, fmt.Errorf("%s is %.3g, ratio %.3f: out of bounds", name, r.Value, r.Ratio))
		}
	}
	return errors.Join(errs...)
}

func (l *local) benchImage(ctx context.Context, parts []imagePart, all map[string]ratio) error {
	if err := l.place.make(); err != nil {
		return err
	}
	if err := step("fill the caches", func() error { return l.place.buildRelease(ctx) }); err != nil {
		return err
	}
	if err := step("start the control plane", func() error { return l.startBench(ctx) }); err != nil {
		return err
	}
	for _, part := range parts {
		err := step(part.name, func() error {
			measured, err := part.run(ctx, l)
			for i, r := range measured {
				all[part.ratios[i]] = r
			}
			return err
		})
		if err != nil {
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
	printWeights(image, kernel)
	return ratio{Value: image, Floor: kernel, Ratio: image / kernel}, nil
}

// others is what others weigh, by what their own people have reported.
var others = []struct {
	what string
	mb   float64
	when string
}{
	{"Flatcar 4487.0.0, its update payload", 490.8, "October 2025, flatcar/Flatcar#1924"},
	{"Bottlerocket for Kubernetes on arm64, its root in use, not compressed", 620.8, "May 2024, aws/karpenter-provider-aws#6214"},
	{"Talos 1.4, its initramfs without the kernel", 57.7, "March 2023, siderolabs/talos#6931"},
}

func printWeights(image, kernel float64) {
	fmt.Printf("  %6.1f MB  this image's disk, compressed, with the toolshed in it\n", image)
	fmt.Printf("  %6.1f MB  its kernel alone, as it is\n", kernel)
	for _, o := range others {
		fmt.Printf("  %6.1f MB  %s (%s)\n", o.mb, o.what, o.when)
	}
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
