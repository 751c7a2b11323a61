package main

import (
	"os"
	"path/filepath"
)

// changedKeys are the directory of keys that machines are made by, and one whose db
// has a certificate more.
func (w *world) changedKeys() (before, after string) {
	w.t.Helper()
	before, after = filepath.Join(built.dir, "keys", "secure-boot"), w.place.in("keys-after")
	other := w.place.in("keys-other")
	w.must(os.CopyFS(after, os.DirFS(before)))
	w.must(w.place.shed(w.t.Context(), nil, "image", "keys", other))
	w.must(w.place.shed(w.t.Context(), nil, "image", "keys", after, "--trust", filepath.Join(other, "db.crt")))
	return before, after
}

// changesDB has ada's machine, which runs a release, change db as that says, with its
// owner's word for this too. Register 7 is then the predicted one, or the machine were
// refused. It answers the firmware's variables from before.
func (w *world) changesDB(url, digest string) (before []byte) {
	w.t.Helper()
	before, err := os.ReadFile(w.machineFile("vars.fd"))
	w.must(err)
	w.offer("ada", digest)
	w.waitStep("ada", "awaiting-approval")
	w.exits(0, []string{"update", "status", url}, "secure boot: db gets", "no way back")
	w.approve(url, "1.1.0")
	w.waitStep("ada", "done")
	w.eventually(0, "verify", url)
	w.serves(url)
	w.exits(0, []string{"verify", url}, "release 1.1.0", "owner: yours", "db is as the release has it")
	return before
}

// replaceVariables has the host put other variables of the firmware's in place of the
// machine's, which is off; restore puts those back.
func (w *world) replaceVariables(others []byte) (restore func()) {
	w.t.Helper()
	path := w.machineFile("vars.fd")
	own, err := os.ReadFile(path)
	w.must(err)
	w.must(os.WriteFile(path, others, 0o600))
	return func() { w.must(os.WriteFile(path, own, 0o600)) }
}

// closedWithOldDB wants ada's machine, whose db is the one from before its change, to
// say so and to open nothing.
func (w *world) closedWithOldDB(url string) {
	w.t.Helper()
	w.waitState("ada", "awaiting-owner")
	w.exits(0, []string{"verify", url}, "db is as it was before")
}
