package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// A release that is as genuine as the machine's own cannot open the data that
// was sealed to that one, and the data is still there for it.
func TestVMChangedImage(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.ask(i.URL, "PUT", "/api/kv/colour", "green")
	if status := w.askUnverified(i.URL, "/api/health"); status != http.StatusOK {
		t.Fatalf("before anything is changed, the owner is answered with status %d", status)
	}
	w.stop()

	other := w.buildOther()
	restore := w.swapSystemDisk(other)
	before, sealed := len(w.console()), w.dataDigest()
	w.start()
	w.must(w.place.shed(t.Context(), nil, "release", "add", other))
	w.caught("ada", "pcr4", "pcr9", "pcr11")
	w.dataStaysClosed("ada", before)
	w.stop()
	if w.dataDigest() != sealed {
		t.Error("the data disk was written to")
	}

	restore()
	w.start()
	if again := w.ready("ada"); again.URL != i.URL {
		t.Errorf("its url is %q, was %q", again.URL, i.URL)
	}
	w.exits(0, []string{"verify", i.URL}, "as pinned", "accepted")
	if got := w.ask(i.URL, "GET", "/api/kv/colour", ""); got != "green" {
		t.Errorf("the data is %q", got)
	}
}

// dataStaysClosed fails the test unless the machine said so since its console
// had so many bytes, and serves nothing even to an owner who asks a machine that
// their client refuses.
func (w *world) dataStaysClosed(user string, since int) {
	w.t.Helper()
	said := w.console()[since:]
	for _, word := range []string{"the owner's data stays closed", seal.ErrSealed.Error()} {
		if !strings.Contains(said, word) {
			w.t.Errorf("the machine does not say %q:\n%s", word, said)
		}
	}
	endpoint := w.show(w.waitState(user, "quarantined").ID).UnroutedInbound
	if status := w.askUnverified("https://"+endpoint, "/api/health"); status/100 != 5 {
		w.t.Errorf("the machine answers its owner with status %d: the payload runs", status)
	}
}

// askUnverified sends a request with the owner's token, which their client does
// only after a machine was accepted, and answers its status.
func (w *world) askUnverified(machine, path string) int {
	w.t.Helper()
	target, err := url.Parse(machine + path)
	w.must(err)
	keys, err := client.ClientState{Dir: w.place.client()}.Keys(rand.Reader)
	w.must(err)
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	conn, err := channel.Dial(ctx, target)
	w.must(err)
	defer conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	w.must(err)
	req.Header.Set(ownership.Header, ownership.Token(keys.Owner, conn.Channel))
	resp, err := conn.RoundTrip(req)
	w.must(err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// machineFile is a file of the only machine's.
func (w *world) machineFile(name string) string {
	w.t.Helper()
	return w.only("machines", "*", name)
}

// swapSystemDisk gives the machine a fresh system disk of another release;
// restore gives it its own back.
func (w *world) swapSystemDisk(release string) (restore func()) {
	w.t.Helper()
	system := w.machineFile("system.qcow2")
	w.must(os.Rename(system, system+".own"))
	out, err := exec.CommandContext(w.t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw",
		"-b", filepath.Join(release, imagebuild.DiskName), system).CombinedOutput()
	if err != nil {
		w.t.Fatalf("making another system disk: %v\n%s", err, out)
	}
	return func() { w.must(os.Rename(system+".own", system)) }
}

// buildOther builds and signs another release with the same keys.
func (w *world) buildOther() string {
	w.t.Helper()
	dir := w.place.in("releases", "other")
	cache, err := filepath.Abs("../../.cache/image")
	w.must(err)
	ours := place{root: built.dir}
	w.must(w.place.shed(w.t.Context(), nil, "image", "build", "--output", dir, "--cache", cache, "--version", "0.0.1-other",
		"--agent", w.place.program("shed-agent"), "--toolshed", w.place.program("toolshed"), "--shapes", localShape.String(),
		"--secure-boot-keys", ours.secureBootKeys()))
	w.must(w.place.shed(w.t.Context(), nil, "image", "sign", "--key", ours.releaseKey(), "--secure-boot-keys", ours.secureBootKeys(), dir))
	return dir
}

// console is what the machine has written to its console.
func (w *world) console() string {
	w.t.Helper()
	b, err := os.ReadFile(w.machineFile("console.log"))
	w.must(err)
	return string(b)
}

// dataDigest is that of the machine's data disk as it lies at the provider.
func (w *world) dataDigest() [sha256.Size]byte {
	w.t.Helper()
	f, err := os.Open(w.machineFile("data.raw"))
	w.must(err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	w.must(err)
	return [sha256.Size]byte(sum.Sum(nil))
}
