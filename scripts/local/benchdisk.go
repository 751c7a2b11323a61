package main

import (
	"bytes"
	"context"
	"debug/pe"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/kernel"
)

// benchDisk writes and reads the authenticated disk beside one that is encrypted
// alone, in one guest.
func (p place) benchDisk(ctx context.Context) (write, read ratio, err error) {
	dir, err := os.MkdirTemp(p.root, "disk-")
	if err != nil {
		return write, read, fmt.Errorf("making the guest: %w", err)
	}
	if err := p.guest(ctx, dir); err != nil {
		return write, read, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-nic", "none", "-kernel", in("linux"), "-initrd", in("initrd"),
		"-append", "console=ttyS0 quiet panic=-1 bench.disk",
	}
	for n, name := range []string{"ours.raw", "plain.raw"} {
		if err := sparse(in(name), 512<<20); err != nil {
			return write, read, err
		}
		id := "disk" + strconv.Itoa(n)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,file="+in(name), "-device", "virtio-blk-pci,drive="+id)
	}
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", args...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("FINISHED <nil>")) {
		return write, read, fmt.Errorf("the guest: %w\n%s", err, out)
	}
	return ratios(out)
}

var measured = regexp.MustCompile(`(OURS|PLAIN) WRITE (\d+) READ (\d+)`)

// ratios are those of speeds: more is better.
func ratios(console []byte) (write, read ratio, err error) {
	all := map[string][2][]time.Duration{}
	for _, m := range measured.FindAllSubmatch(console, -1) {
		times := all[string(m[1])]
		for i := range times {
			n, err := strconv.ParseInt(string(m[2+i]), 10, 64)
			if err != nil {
				return write, read, err
			}
			times[i] = append(times[i], time.Duration(n)*time.Microsecond)
		}
		all[string(m[1])] = times
	}
	if len(all) != 2 {
		return write, read, fmt.Errorf("the guest measured %d disks", len(all))
	}
	speed := func(i int) ratio {
		mib := func(d time.Duration) float64 { return 96 / d.Seconds() }
		ours, plain := mib(median(all["OURS"][i])), mib(median(all["PLAIN"][i]))
		return ratio{Value: ours, Floor: plain, Ratio: ours / plain}
	}
	return speed(0), speed(1), nil
}

func sparse(path string, bytes int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("making a disk: %w", err)
	}
	return os.Truncate(path, bytes)
}

// guest is the kernel and the initrd of an image with benchguest in the agent's
// place, and aes-xts beside.
func (p place) guest(ctx context.Context, dir string) error {
	image := filepath.Join(dir, "image")
	err := p.shed(ctx, nil, "image", "build", "--output", image, "--cache", p.cache, "--shapes=",
		"--agent", p.program("benchguest"), "--toolshed", p.program("benchguest"))
	if err != nil {
		return err
	}
	f, err := pe.Open(filepath.Join(image, imagebuild.UKIName))
	if err != nil {
		return fmt.Errorf("reading the guest's image: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	more, err := p.xts(ctx)
	if err != nil {
		return err
	}
	for section, name := range map[string]string{".linux": "linux", ".initrd": "initrd"} {
		data, err := f.Section(section).Data()
		if err != nil {
			return fmt.Errorf("reading the guest's image: %w", err)
		}
		data = data[:f.Section(section).VirtualSize]
		if section == ".initrd" {
			// The kernel unpacks one archive after another, each from a fourth byte.
			data = append(append(data, make([]byte, -len(data)&3)...), more...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("unpacking the guest's image: %w", err)
		}
	}
	return nil
}

// xts is an archive with the modules of aes-xts, which no image has.
func (p place) xts(ctx context.Context) ([]byte, error) {
	found, err := filepath.Glob(filepath.Join(p.cache, "linux-image-*-cloud-amd64_*.deb"))
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("looking for the kernel's package in %s: found %d, %w", p.cache, len(found), err)
	}
	k, err := kernel.Open(ctx, found[len(found)-1])
	if err != nil {
		return nil, err
	}
	all, err := k.Modules([]string{"xts", "aesni-intel"})
	if err != nil {
		return nil, err
	}
	archive, list := initrd.New(), ""
	for _, m := range all {
		name := "lib/modules/bench-" + m.Name + ".ko"
		list += "/" + name + "\n"
		if err := archive.File(name, 0o644, m.Data); err != nil {
			return nil, err
		}
	}
	if err := archive.File("etc/shed/modules.bench", 0o644, []byte(list)); err != nil {
		return nil, err
	}
	return archive.Bytes()
}
