package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// ekCertificate is what the provider's machine enrols with.
func (w *world) ekCertificate() []byte {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*", "tpm", "ek.der"))
	w.must(err)
	if len(found) != 1 {
		w.t.Fatalf("found %d machines, want 1", len(found))
	}
	b, err := os.ReadFile(found[0])
	w.must(err)
	return b
}

// A signup becomes an attested, claimed VM; it outlives a stop of everything
// with its keys and its data; its claim outlives the loss of its disk; and its
// deletion leaves nothing.
func TestVMMainJob(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.capture("MainJob", i.URL)
	w.captureAnother("AnotherMachine")
	w.exits(4, []string{"connect", i.URL}, "not a machine you claimed", "shed claim")
	w.exits(0, []string{"verify", i.URL}, "accepted", "executables", "tiers: memory none, identity software", "owner: nobody's yet")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.ask(i.URL, "PUT", "/api/kv/colour", "green")
	ek := w.ekCertificate()
	saved := filepath.Join(w.place.client(), "backup.age")
	w.exits(0, []string{"backup", i.URL, saved}, "encrypted to your recovery key")
	w.exits(4, []string{"restore", i.URL, saved}, "keeps something already")
	t.Run("every API works inside", func(t *testing.T) { (&world{t: t, place: w.place}).everyAPI(i.URL) })

	t.Run("a second owner is refused", func(t *testing.T) {
		other := w.otherOwner(t)
		other.exits(0, []string{"verify", i.URL}, "owner: another's")
		other.exits(4, []string{"claim", i.URL}, "belongs to another owner")
		other.exits(4, []string{"connect", i.URL}, "not a machine you claimed")
	})

	t.Run("everything comes back", func(t *testing.T) {
		w.stop()
		if n := len(w.processes("qemu-system-x86_64")) + len(w.processes("swtpm")); n > 0 {
			t.Fatalf("%d processes run after the stop", n)
		}
		w.start()
		again := w.ready("ada")
		if again.ID != i.ID || again.URL != i.URL || !bytes.Equal(ek, w.ekCertificate()) {
			t.Errorf("another machine came back: %+v, was %+v", again, i)
		}
		w.exits(0, []string{"verify", i.URL}, "as pinned", "accepted", "owner: yours")
		if got := w.ask(i.URL, "GET", "/api/kv/colour", ""); got != "green" {
			t.Errorf("the data is %q", got)
		}
	})

	t.Run("the claim outlives the disk", func(t *testing.T) {
		data := w.swapDataDisk()
		w.eventually(0, "verify", i.URL)
		w.exits(0, []string{"verify", i.URL}, "as pinned", "accepted")
		x, err := w.place.connect(t.Context(), i.URL, 0)
		w.must(err)
		if _, err := x.ask(t.Context(), "GET", "/api/kv/colour", ""); err == nil {
			t.Error("a swapped disk serves data")
		}
		w.must(x.stop())
		w.otherOwner(t).exits(4, []string{"claim", i.URL}, "another owner")
		if blank, err := os.ReadFile(data + ".swapped"); err != nil || len(bytes.TrimRight(blank[:4096], "\x00")) > 0 {
			t.Errorf("the swapped disk was written: %v", err)
		}
	})

	t.Run("deleting leaves nothing", func(t *testing.T) {
		w.must(w.place.shed(t.Context(), nil, "instance", "delete", "--wait", i.ID))
		w.nothingLeft()
		if all, err := w.place.instances(t.Context()); err != nil || len(all) > 0 {
			t.Errorf("instances %v, error %v", all, err)
		}
	})
}

// otherOwner is a client with the same trust and other keys.
func (w *world) otherOwner(t *testing.T) *world {
	t.Helper()
	other := &world{t: t, place: w.place}
	other.place.root = t.TempDir()
	w.must(os.MkdirAll(other.place.client(), 0o700))
	for _, name := range []string{"release.pub", "ek-root.pem"} {
		b, err := os.ReadFile(filepath.Join(w.place.client(), name))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(other.place.client(), name), b, 0o600))
	}
	return other
}

// swapDataDisk boots the machine with a blank disk in place of its own and
// puts that back when the test ends. It answers the disk's path; the blank one
// is beside it with .swapped once it was used.
func (w *world) swapDataDisk() string {
	w.t.Helper()
	w.stop()
	found, err := filepath.Glob(filepath.Join(w.place.provider(), "machines", "*", "data.raw"))
	w.must(err)
	if len(found) != 1 {
		w.t.Fatalf("found %d data disks, want 1", len(found))
	}
	data := found[0]
	info, err := os.Stat(data)
	w.must(err)
	w.must(os.Rename(data, data+".own"))
	w.must(os.WriteFile(data, nil, 0o600))
	w.must(os.Truncate(data, info.Size()))
	w.must(os.Link(data, data+".swapped"))
	w.start()
	// It proves itself as before; it has no payload to be ready with.
	w.waitState("ada", "enrolling")
	return data
}

// The owner's client has no way into the control plane's state, whoever runs
// it.
func TestOwnerIsConfined(t *testing.T) {
	w := newWorld(t)
	secret := w.place.config()
	cmd := w.place.confined("--state", w.place.root, "verify", "--policy", secret, "https://127.0.0.1:1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || !bytes.Contains(stderr.Bytes(), []byte("permission denied")) {
		t.Errorf("error %v, said %s", err, stderr.Bytes())
	}
}
