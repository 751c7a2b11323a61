package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Any server can take the toolshed's place, and a hostile one reaches nothing
// but its own data: not the TPM, not the disks, no network.
func TestVMPayloadIsConfined(t *testing.T) {
	w := newWorld(t)
	w.releaseWith("./scripts/local/testdata/prober")
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	var said map[string]string
	if err := json.Unmarshal([]byte(w.ask(i.URL, "GET", "/probe", "")), &said); err != nil {
		t.Fatal(err)
	}
	t.Logf("the payload said %v", said)
	for _, refused := range []string{
		"/dev/tpm0", "/dev/tpmrm0", "/dev/mem", "/dev/mapper/control", "/dev/console", "/dev/vda", "/dev/vdb", "/dev/vdc", "/dev/dm-0",
		"/init", "mount", "setuid", "dial",
	} {
		if answer, tried := said[refused]; !tried || answer == "" {
			t.Errorf("%s: tried %v, and it worked", refused, tried)
		}
	}
	// It is the first of its own processes, and sees no other.
	if said["processes"] != "/proc/1" || !strings.HasPrefix(said["cmdline"], "/bin/server") {
		t.Errorf("it sees %s, the first of them %q", said["processes"], said["cmdline"])
	}
	if said["uid"] != "1000" || said["up"] != "" || said["data"] != "" {
		t.Errorf("uid %s, interfaces %q, own data %q", said["uid"], said["up"], said["data"])
	}
	if got, want := said["devices"], " full null random urandom zero"; got != want {
		t.Errorf("devices that open:%s, want%s", got, want)
	}

	// A process's name is the payload's to choose, and the kernel names whom it
	// ends for want of memory.
	t.Run("its names are not on the console", func(t *testing.T) {
		t.Logf("it was ended: %s", w.ask(i.URL, "GET", "/starve?name=ada-is-ill", ""))
		if strings.Contains(w.console(), "ada-is-ill") {
			t.Error("what the payload chose is on the operator's console")
		}
	})

	t.Run("its output is its owner's", func(t *testing.T) {
		x, err := w.place.connect(t.Context(), i.URL, 0)
		w.must(err)
		x.ask(t.Context(), "GET", "/crash", "") //nolint:errcheck // it ends instead of answering
		w.must(x.stop())
		w.eventually(0, "logs", i.URL)
		w.exits(0, []string{"logs", i.URL}, "the-owners-diary", "exit status 73")
		w.otherOwner(t).exits(4, []string{"logs", i.URL})
		out, err := exec.CommandContext(t.Context(), w.place.program("shed"), "--state", w.place.root, "instance", "console", i.ID).CombinedOutput()
		w.must(err)
		if console := string(out); !strings.Contains(console, "payload ended") || strings.Contains(console, "diary") || strings.Contains(console, "exit status") || strings.Contains(console, `":73`) {
			t.Errorf("the operator's console:\n%s", console)
		}
	})

	t.Run("it is restarted", func(t *testing.T) {
		x, err := w.place.connect(t.Context(), i.URL, 0)
		w.must(err)
		defer x.stop() //nolint:errcheck // the answer counts
		if _, err := x.ask(t.Context(), "GET", "/crash", ""); err == nil {
			t.Error("a payload that ends answered")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		w.must(poll(ctx, 100*time.Millisecond, func() (bool, error) {
			_, err := x.ask(ctx, "GET", "/probe", "")
			return err == nil, nil
		}))
	})
}

// documentedShape is what images are built for, and machines have, where
// nothing else is asked for.
const documentedShape = "2x1024MiB"

// releaseWith replaces the world's release by one with another payload, which has
// no right to the network.
func (w *world) releaseWith(payload string) {
	w.t.Helper()
	dir := w.t.TempDir()
	w.compile(payload, filepath.Join(dir, "bin/server"))
	w.releaseOf(dir, "server", "--health", "/api/health")
}

// compile makes a program that needs no library.
func (w *world) compile(pkg, to string) {
	w.t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", to, pkg)
	build.Dir = "../.."
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("building %s: %v\n%s", pkg, err, out)
	}
}

// releaseOf replaces the world's release by one whose payload is the command in
// dir.
func (w *world) releaseOf(dir, command string, flags ...string) {
	w.t.Helper()
	out := filepath.Join(w.place.root, "releases", "other")
	w.must(w.place.shed(w.t.Context(), nil, append([]string{
		"image", "build", "--output", out, "--cache", w.place.cache, "--version", "9.9.9",
		"--agent", w.place.program("shed-agent"), "--shapes", localShape.String() + "," + documentedShape, "--payload", dir, "--command", command,
	}, flags...)...))
	key := filepath.Join(built.dir, "keys", "dev-release.key")
	w.must(w.place.shed(w.t.Context(), nil, "image", "sign", "--key", key, out))
	w.releaseDir = out
}
