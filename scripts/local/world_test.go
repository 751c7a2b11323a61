package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/providers/aws/standin/guest"
)

// TestMain lets a test confine the owner's client as the program does: it is
// its own executable.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == guest.RelayCommand {
		if err := guest.Relay(os.Args[2]); err != nil {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == confinedCommand {
		fmt.Fprintln(os.Stderr, execConfined(os.Args[2:]))
		os.Exit(1)
	}
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// needVM skips a test that boots machines, saying why.
func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("boots machines: set SHED_VM_TESTS=1, as make test does")
	}
}

// built are the programs and the signed releases that all tests share. The
// programs have failpoints, which do nothing unless a test asks.
var built struct {
	once       sync.Once
	dir, cache string
	err        error
	// plain builds the release without Secure Boot.
	plain    sync.Once
	plainErr error
}

// world is a control plane, its provider and an owner, of one test's own.
type world struct {
	t       *testing.T
	place   place
	ports   ports
	control *control
	// releaseDir is the signed release that start adds.
	releaseDir string
	// unlogged says that the configuration names no log, whose keys an owner
	// would be given: there is no owner then.
	unlogged bool
	// env is added to the control plane's environment at the next start.
	env []string
}

// newWorld lays a world out; start brings its control plane up. Whatever runs
// in it ends with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	needVM(t)
	built.once.Do(buildWorld)
	if built.err != nil {
		t.Fatal(built.err)
	}
	// Sockets' paths must be short, which t.TempDir's are not.
	root, err := os.MkdirTemp("", "shed-test-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, place: place{root: root, bin: filepath.Join(built.dir, "bin"), runtime: filepath.Join(root, "run")}}
	t.Cleanup(w.end)
	w.place.cache = built.cache
	w.releaseDir = w.place.release()
	if err := w.place.make(); err != nil {
		t.Fatal(err)
	}
	// The image is the same for all; only its disk is large.
	if err := os.Symlink(filepath.Join(built.dir, "releases", "dev"), w.place.release()); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(built.dir, "releases", "release.pub"), w.place.releasePublicKey()); err != nil {
		t.Fatal(err)
	}
	if w.ports, err = w.place.configure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// newPlainWorld is one whose release has firmware without Secure Boot: where a
// test changes what is booted, registers alone must catch it. What the firmware
// refuses with Secure Boot on, TestVMFirmwareRefuses shows.
func newPlainWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	plain := filepath.Join(built.dir, "releases", "plain")
	built.plain.Do(func() {
		p := w.place
		p.root = built.dir
		built.plainErr = p.buildAndSign(context.Background(), plain)
	})
	w.must(built.plainErr)
	w.use(plain)
	return w
}

// use has the world's release be one that was built into a directory.
func (w *world) use(dir string) {
	w.t.Helper()
	w.must(os.Remove(w.place.release()))
	w.must(os.Symlink(dir, w.place.release()))
}

// buildWorld builds the programs, an image of them and its signature.
func buildWorld() {
	built.dir, built.err = os.MkdirTemp("", "shed-built-")
	if built.err != nil {
		return
	}
	bin := filepath.Join(built.dir, "bin")
	run := func(dir, name string, args ...string) {
		if built.err != nil {
			return
		}
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	built.err = os.Mkdir(bin, 0o700)
	run("../..", "go", "build", "-tags", "failpoints", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", bin+"/", "./cmd/...")
	if built.err != nil {
		return
	}
	p := place{root: built.dir, bin: bin, runtime: filepath.Join(built.dir, "run")}
	built.cache, built.err = filepath.Abs("../../.cache/image")
	p.cache = built.cache
	if built.err == nil {
		built.err = p.make()
	}
	if built.err == nil {
		built.err = p.buildRelease(context.Background())
	}
}

// start brings the control plane up with the release added.
func (w *world) start() {
	w.t.Helper()
	var err error
	if w.control, err = startControl(w.t.Context(), w.place, w.ports, w.env...); err != nil {
		w.t.Fatal(err)
	}
	w.must(w.place.shed(w.t.Context(), nil, "release", "add", w.releaseDir))
	if !w.unlogged {
		w.must(w.place.handOver())
	}
}

// stop ends the control plane and powers the machines off, keeping the data.
func (w *world) stop() {
	w.t.Helper()
	w.must(w.control.stop())
	w.control = nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// signUp posts the webhook for a user.
func (w *world) signUp(user string) {
	w.t.Helper()
	w.must(w.control.signUp(w.t.Context(), user))
}

// ready waits until the user's instance is ready.
func (w *world) ready(user string) instance {
	w.t.Helper()
	i, err := w.control.waitInstance(w.t.Context(), user)
	w.must(err)
	return i
}

// waitState waits until the user's instance is in a state.
func (w *world) waitState(user, state string) instance {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	var found instance
	err := poll(ctx, 100*time.Millisecond, func() (bool, error) {
		all, err := w.place.instances(ctx)
		for _, i := range all {
			if i.UserID == user {
				found = i
			}
		}
		return found.State == state, err
	})
	if err != nil {
		w.t.Fatalf("waiting for %s: %v; it is %s: %s", state, err, found.State, found.Reason)
	}
	return found
}

// owner runs the owner's client and answers its output and exit code.
func (w *world) owner(args ...string) (string, int) {
	w.t.Helper()
	out, err := w.place.owner(w.t.Context(), args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return err.Error(), exit.ExitCode()
	}
	w.must(err)
	return out, 0
}

// exits fails the test unless the owner's client exits with code and says
// every one of the words.
func (w *world) exits(code int, args []string, words ...string) {
	w.t.Helper()
	out, got := w.owner(args...)
	if got != code {
		w.t.Errorf("shed %s exited with %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			w.t.Errorf("shed %s does not say %q:\n%s", strings.Join(args, " "), word, out)
		}
	}
}

// eventually asks until the owner's client exits with code: a machine that was
// only just challenged may not show its release yet.
func (w *world) eventually(code int, args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var out string
	err := poll(ctx, 200*time.Millisecond, func() (bool, error) {
		var got int
		out, got = w.owner(args...)
		return got == code, nil
	})
	if err != nil {
		w.t.Fatalf("shed %s never exits with %d: %s", strings.Join(args, " "), code, out)
	}
}

// ask sends one request to the owner's toolshed.
func (w *world) ask(url, method, path, body string) string {
	w.t.Helper()
	x, err := w.place.connect(w.t.Context(), url, 0)
	w.must(err)
	defer x.stop() //nolint:errcheck // the answer counts
	answer, err := x.ask(w.t.Context(), method, path, body)
	w.must(err)
	return answer
}

// processes are those that run on this world's files: its machines and their
// TPMs, also ones that no row knows of.
func (w *world) processes(program string) []int {
	w.t.Helper()
	var pids []int
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	w.must(err)
	for _, line := range lines {
		b, err := os.ReadFile(line)
		if err != nil {
			continue // it has ended
		}
		name, _, _ := strings.Cut(string(b), "\x00")
		if filepath.Base(name) == program && strings.Contains(string(b), w.place.root) {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(filepath.Dir(line)), "%d", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// nothingLeft fails the test where a process or a file of a machine is left.
func (w *world) nothingLeft() {
	w.t.Helper()
	for _, program := range []string{"qemu-system-x86_64", "qemu-system-aarch64", "swtpm"} {
		if pids := w.processes(program); len(pids) > 0 {
			w.t.Errorf("%s still runs: %v", program, pids)
		}
	}
	left, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*"))
	w.must(err)
	if len(left) > 0 {
		w.t.Errorf("left at the provider: %v", left)
	}
}

// end powers everything off, also after a failure, and removes the files.
func (w *world) end() {
	if w.t.Failed() {
		w.t.Logf("the control plane's log:\n%s", tail(w.place.serveLog()))
		consoles, _ := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*", "console.log")) //nolint:errcheck // the pattern is whole
		for _, path := range consoles {
			w.t.Logf("%s:\n%s", path, tail(path))
		}
	}
	if w.control != nil {
		w.control.cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-w.control.ended
	}
	for _, program := range []string{"shed-provider-qemu", "qemu-system-x86_64", "qemu-system-aarch64", "swtpm"} {
		for _, pid := range w.processes(program) {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill() //nolint:errcheck // it may have ended
			}
		}
	}
	if err := w.place.remove(); err != nil {
		w.t.Errorf("removing the world: %v", err)
	}
}
