package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What the host changes of the data disk is an error, and never data: not a
// flipped sector, nor older ones in the place of newer ones. A whole older disk
// is an earlier state, as the threat model says.
func TestVMDataIsAuthenticated(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	disk := w.machineFile("data.raw")
	first := w.keep(i.URL, "green")
	w.stop()
	older := w.read(disk)
	w.start()
	w.ready("ada")
	last := w.keep(i.URL, "blue")
	w.stop()
	newest := w.read(disk)

	// Each block that was written since has a bit flipped, or changes places with
	// the one written before it.
	altered, changed, before := bytes.Clone(newest), 0, 0
	for at := range blocks(altered) {
		if at < behindJournal || bytes.Equal(older[at:at+block], newest[at:at+block]) {
			continue
		}
		if changed++; changed%2 == 0 {
			swap(altered[before:before+block], altered[at:at+block])
		} else {
			altered[at+100] ^= 1
		}
		before = at
	}
	t.Logf("%d blocks changed since", changed)
	w.part("flipped and moved sectors", func() { w.refusesData(i, disk, altered, last) })

	mixed := bytes.Clone(newest)
	copy(mixed[behindJournal:], older[behindJournal:])
	w.part("older sectors", func() { w.refusesData(i, disk, mixed, last) })

	w.part("a whole older disk", func() {
		w.must(os.WriteFile(disk, older, 0o600))
		w.start()
		w.ready("ada")
		if colour, _ := w.kept(i.URL, first); colour != "green" {
			t.Errorf("an earlier state is %q", colour)
		}
		w.stop()
	})
	w.must(os.WriteFile(disk, newest, 0o600))
	w.start()
	w.ready("ada")
	if colour, whole := w.kept(i.URL, last); colour != "blue" || !whole {
		t.Errorf("with its own disk back, the machine has %q (the file is whole: %t)", colour, whole)
	}
}

const (
	block = 4096
	// behindJournal is where dm-integrity's journal of a disk of this size has
	// ended.
	behindJournal = 16 << 20
)

func blocks(disk []byte) func(func(int) bool) {
	return func(yield func(int) bool) {
		for at := 0; at+block <= len(disk) && yield(at); at += block {
		}
	}
}

func swap(a, b []byte) {
	kept := bytes.Clone(a)
	copy(a, b)
	copy(b, kept)
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(name)
	w.must(err)
	return b
}

// file is one that a machine keeps.
type file struct{ path, content string }

// keep has the machine keep a colour and a file of most of a megabyte.
func (w *world) keep(url, colour string) file {
	w.t.Helper()
	random := make([]byte, 450<<10)
	_, err := rand.Read(random)
	w.must(err)
	content := fmt.Sprintf("%x", random)
	w.ask(url, "PUT", "/api/kv/colour", colour)
	var stored struct {
		SHA256 string `json:"sha256"`
	}
	w.must(json.Unmarshal([]byte(w.ask(url, "POST", "/api/blobs", content)), &stored))
	return file{"/api/blobs/" + stored.SHA256, content}
}

// kept is what the machine has: the colour, which is empty where it does not
// answer, and whether the file is whole. A file that is answered and is another
// fails the test.
func (w *world) kept(url string, f file) (colour string, whole bool) {
	w.t.Helper()
	x, err := w.place.connect(w.t.Context(), url, 0)
	w.must(err)
	defer x.stop() //nolint:errcheck // the answers count
	if answer, err := x.ask(w.t.Context(), "GET", "/api/kv/colour", ""); err == nil {
		colour = answer
	}
	answer, err := x.ask(w.t.Context(), "GET", f.path, "")
	if err != nil {
		w.t.Logf("the file: %v", err)
		return colour, false
	}
	if answer != f.content {
		w.t.Errorf("the file is answered with %d bytes that are not its own", len(answer))
	}
	return colour, answer == f.content
}

// refusesData boots the machine on a disk that the host changed: nothing that
// it answers is other than what was kept last, and something is missing.
func (w *world) refusesData(i instance, disk string, changed []byte, last file) {
	w.t.Helper()
	before := len(w.console())
	w.must(os.WriteFile(disk, changed, 0o600))
	w.start()
	missed := ""
	w.within(2*time.Minute, "the machine serves, or says what it misses", func() bool {
		said := w.console()[before:]
		for _, words := range []string{"the owner's data stays closed", "payload ended"} {
			if strings.Contains(said, words) {
				missed = words
			}
		}
		return missed != "" || w.show(i.ID).State == "ready"
	})
	if missed != "" {
		w.t.Logf("the machine says: %s", missed)
	} else if colour, whole := w.kept(i.URL, last); colour == "green" || colour == "blue" && whole {
		w.t.Errorf("nothing was missed: the colour is %q, the file is whole: %t", colour, whole)
	}
	w.stop()
}
