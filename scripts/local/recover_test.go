package main

import "testing"

// A machine is lost, TPM and all: another gets its data disk, waits for its
// owner, and after `shed recover` has every acknowledged write, now and after
// its own next boot. A client that never saw the volume does not hand its key over,
// and the owner of nothing gets nothing.
func TestVMDataOfALostMachine(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.signUp("ada")
	lost := w.ready("ada")
	w.exits(0, []string{"claim", lost.URL}, "is yours")
	kept := w.keep(lost.URL, "green")

	w.must(w.place.shed(t.Context(), nil, "instance", "replace", "ada", "--yes"))
	i := w.waitState("ada", "awaiting-owner")
	if i.URL == "" || i.Machine == lost.Machine {
		t.Fatalf("machine %s at %q after machine %s", i.Machine, i.URL, lost.Machine)
	}
	w.exits(4, []string{"claim", "--timeout", "60s", i.URL})
	w.exits(0, []string{"recover", i.URL}, "is yours, with volume")
	w.ready("ada")
	w.holds(i.URL, kept)
	w.exits(4, []string{"recover", i.URL}, "no data waits for its owner")

	w.stop()
	w.start()
	w.ready("ada")
	w.holds(i.URL, kept)
}

// holds fails unless the machine has what it was given.
func (w *world) holds(url string, f file) {
	w.t.Helper()
	if colour, whole := w.kept(url, f); colour != "green" || !whole {
		w.t.Errorf("it has %q (the file is whole: %t)", colour, whole)
	}
}
