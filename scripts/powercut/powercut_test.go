package powercut

import (
	"bytes"
	"context"
	"debug/pe"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild"
)

const (
	// diskBytes is small, so that the volume's journal comes round.
	diskBytes = 192 << 20
	seed      = 2026
	// patience is several times what software emulation takes for a step.
	patience = 25 * time.Minute
)

// cuts is how often the power is cut.
func cuts() int {
	if os.Getenv("SHED_LONG") == "1" {
		return 200
	}
	return 25
}

// TestVMPowerCuts records what a machine writes to its data disk, makes of that
// the disks that power cuts leave, and has a machine look at each: all that was
// acknowledged before the cut is there. A disk that lies about flushes shows that
// the look would notice.
func TestVMPowerCuts(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") != "1" {
		t.Skip("boots machines: set SHED_VM_TESTS=1 to run it")
	}
	dir := t.TempDir()
	m := newMachine(t, dir)
	disk, record := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	sparse(t, disk, diskBytes)
	sparse(t, record, 0)
	number := 300 + 2*cuts()
	m.run(fmt.Sprintf("powercut.record=%d", number), "-blockdev", "driver=file,node-name=disk,filename="+disk,
		"-blockdev", "driver=file,node-name=log,filename="+record,
		"-blockdev", "driver=blklogwrites,node-name=recorded,file=disk,log=log", "-device", "virtio-blk-pci,drive=recorded")
	f, err := os.Open(record)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, err := ReadLog(f)
	if err != nil {
		t.Fatal(err)
	}
	all, first, err := log.Acknowledged(len(log.Entries))
	if err != nil || all != number || first < 0 {
		t.Fatalf("%d of %d are acknowledged, the first before entry %d, error %v", all, number, first, err)
	}
	t.Logf("%d writes and flushes, %d of them before the first acknowledgement", len(log.Entries), first)
	made := Cuts(log, first+1, cuts(), seed)
	acknowledged := makeDisks(t, log, made, disk)
	found := m.run(fmt.Sprintf("powercut.check=%d", len(made)+1),
		"-drive", "if=none,id=disks,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=disks")
	compare(t, found, made, acknowledged)
}

// makeDisks puts the disks that the cuts leave one after another into a file,
// and after them one of a disk that lied: nothing of the second half reached it,
// though flushes were acknowledged.
func makeDisks(t *testing.T, log *Log, made []Cut, path string) (acknowledged []int) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	sparse(t, path, int64(len(made)+1)*diskBytes)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(i, before int, fill func(io.WriterAt) error) {
		at := io.NewOffsetWriter(f, int64(i)*diskBytes)
		if err := fill(at); err != nil {
			t.Fatal(err)
		}
		n, _, err := log.Acknowledged(before)
		if err != nil {
			t.Fatal(err)
		}
		sector := make([]byte, AckBytes)
		PutAck(sector, n)
		if _, err := at.WriteAt(sector, 0); err != nil {
			t.Fatal(err)
		}
		acknowledged = append(acknowledged, n)
	}
	for i, c := range made {
		put(i, c.Before, func(w io.WriterAt) error { return log.Make(c, w) })
	}
	end := len(log.Entries)
	put(len(made), end, func(w io.WriterAt) error { return log.Apply(0, log.Durable(end/2), w) })
	return acknowledged
}

var diskLine = regexp.MustCompile(`^DISK (\d+) acknowledged (\d+): (.*)$`)

func compare(t *testing.T, found []string, made []Cut, acknowledged []int) {
	t.Helper()
	seen := 0
	for _, line := range found {
		m := diskLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		seen++
		i, _ := strconv.Atoi(m[1])
		n, _ := strconv.Atoi(m[2])
		if i >= len(acknowledged) || n != acknowledged[i] {
			t.Errorf("%s: want %v", line, acknowledged)
			continue
		}
		if i == len(made) {
			if !strings.Contains(m[3], "was acknowledged and is not there") {
				t.Errorf("a disk that lied about its flushes is not noticed: %s", line)
			}
			continue
		}
		if m[3] != "<nil>" {
			t.Errorf("cut %s: %s", made[i], line)
		}
	}
	if seen != len(made)+1 {
		t.Errorf("%d of %d disks were looked at:\n%s", seen, len(made)+1, strings.Join(found, "\n"))
	}
	t.Logf("%d cuts, %v acknowledged before them", len(made), acknowledged[:len(made)])
}

// machine is a kernel with the guest as its init.
type machine struct {
	t              *testing.T
	kernel, initrd string
}

// newMachine takes kernel and initrd out of an image that is built as any
// other, with the guest in the agent's place.
func newMachine(t *testing.T, dir string) machine {
	t.Helper()
	program := filepath.Join(dir, "guest")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, text)
	}
	cache, err := filepath.Abs("../../.cache/image")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	_, err = imagebuild.Build(t.Context(), imagebuild.Options{
		Output: image, Version: "1.0.0", Epoch: 1, Agent: program, Toolshed: program, Cache: cache,
	})
	if err != nil {
		t.Fatal(err)
	}
	m := machine{t, filepath.Join(dir, "linux"), filepath.Join(dir, "initrd")}
	f, err := pe.Open(filepath.Join(image, imagebuild.UKIName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for section, path := range map[string]string{".linux": m.kernel, ".initrd": m.initrd} {
		data, err := f.Section(section).Data()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data[:f.Section(section).VirtualSize], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// run boots the machine for a task, to its end, and returns what it printed.
func (m machine) run(task string, disks ...string) []string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	// Of two emulated processors the kernel now and then crashes in its start
	// (docs/providers.md).
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-nic", "none",
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", "console=ttyS0 quiet panic=-1 " + task,
	}, disks...)...)
	var console, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &complaint
	began := time.Now()
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("%s: qemu: %v\n%s\n%s", task, err, complaint.String(), console.String())
	}
	m.t.Logf("%s took %s", task, time.Since(began).Round(time.Second))
	lines := strings.Split(strings.ReplaceAll(console.String(), "\r", ""), "\n")
	if !strings.Contains(console.String(), "FINISHED <nil>") {
		m.t.Fatalf("%s:\n%s", task, console.String())
	}
	return lines
}

func sparse(t *testing.T, path string, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(bytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
