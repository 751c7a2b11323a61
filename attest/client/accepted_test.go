package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
)

func newReleaseKey(t *testing.T) *ecdsa.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key.PublicKey
}

func wantFloor(t *testing.T, state ClientState, key *ecdsa.PublicKey, want uint64) {
	t.Helper()
	if got, err := state.EpochFloor(key); err != nil || got != want {
		t.Errorf("floor %d, want %d, error %v", got, want, err)
	}
}

// An epoch that was seen on one machine holds for all of the same release key,
// and for no other key.
func TestEpochFloorIsTheReleaseKeys(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	key, other := newReleaseKey(t), newReleaseKey(t)
	wantFloor(t, state, key, 0)
	for _, epoch := range []uint64{7, 99, 8} {
		if err := state.RaiseEpochFloor(key, epoch); err != nil {
			t.Fatal(err)
		}
	}
	wantFloor(t, state, key, 99)
	wantFloor(t, state, other, 0)
	if err := state.Forget("a:1"); err != nil {
		t.Fatal(err)
	}
	wantFloor(t, state, key, 99)
}

func TestPinsAreKept(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	if err := state.Remember("a:1", Pin{AK: []byte{1}, EK: attest.Digest{2}, Claim: attest.Digest{3}}); err != nil {
		t.Fatal(err)
	}
	if err := state.Remember("b:1", Pin{AK: []byte{4}}); err != nil {
		t.Fatal(err)
	}
	if err := state.Forget("b:1"); err != nil {
		t.Fatal(err)
	}
	pin, err := state.Pin("a:1")
	if err != nil || pin == nil || pin.AK[0] != 1 || pin.EK != (attest.Digest{2}) || pin.Claim != (attest.Digest{3}) {
		t.Errorf("pin %+v, error %v", pin, err)
	}
	if pin, err := state.Pin("b:1"); err != nil || pin != nil {
		t.Errorf("forgotten pin %+v, error %v", pin, err)
	}
}

// first is a file of the first format, as it was written.
const first = `{
  "127.0.0.1:27593": {
    "ak": "AAvOKvNYfkbN2kCNRFVLEIhTHtvvSq4T6wWPVMmHKAa8IA==",
    "ek": "5a4cf3e7c0f0dd0fd5b4d37ba0ee3d3b1f3c7a6e5d4c3b2a190807060504032a",
    "claim": "d40cd7e799bd4bcc0000000000000000000000000000000000000000000000aa",
    "epoch": 12,
    "seen": "2026-11-02T10:11:12.131415Z"
  }
}
`

// A directory of the first format opens, and what was accepted then holds.
func TestFirstFormat(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	path := filepath.Join(state.Dir, acceptedFile)
	if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	key := newReleaseKey(t)
	check := func() {
		t.Helper()
		wantFloor(t, state, key, 12)
		pin, err := state.Pin("127.0.0.1:27593")
		if err != nil || pin == nil || len(pin.AK) != 34 || pin.Claim[0] != 0xd4 || pin.Seen.IsZero() {
			t.Errorf("pin %+v, error %v", pin, err)
		}
	}
	check()
	if err := state.Remember("b:1", Pin{}); err != nil {
		t.Fatal(err)
	}
	check()
}

// Of several machines in the first format the highest epoch holds.
func TestFirstFormatOfSeveralMachines(t *testing.T) {
	var machines []string
	for i, epoch := range []int{3, 12, 5, 1, 9, 2, 11, 4} {
		machines = append(machines, fmt.Sprintf(`"a:%d": {"ak": "AA==", "ek": "%064d", "claim": "%064d", "epoch": %d, "seen": "2026-11-02T10:11:12Z"}`, i, 0, 0, epoch))
	}
	state := ClientState{Dir: t.TempDir()}
	text := "{" + strings.Join(machines, ",") + "}"
	if err := os.WriteFile(filepath.Join(state.Dir, acceptedFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The machines come in another order each time.
	for range 5 {
		wantFloor(t, state, newReleaseKey(t), 12)
	}
}

// Of clients at once none undoes what another has written, and nobody else
// reads it.
func TestClientsAtOnce(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	key := newReleaseKey(t)
	const clients = 16
	atOnce := func(do func(i int) error) {
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range clients {
			all.Go(func() {
				<-start
				if err := do(i); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		all.Wait()
	}
	atOnce(func(i int) error { return state.Remember(fmt.Sprint("a:", i), Pin{AK: []byte{1}}) })
	atOnce(func(i int) error { return state.RaiseEpochFloor(key, uint64(clients-i)) })
	wantFloor(t, state, key, clients)
	for i := range clients {
		if pin, err := state.Pin(fmt.Sprint("a:", i)); err != nil || pin == nil {
			t.Errorf("machine %d: %v, error %v", i, pin, err)
		}
	}
	if info, err := os.Stat(filepath.Join(state.Dir, acceptedFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
}

// What a client remembers is read whole or not at all.
func TestForeignFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"newer":          `{"version": 4, "machines": {}, "epochs": {}}`,
		"unknown field":  `{"version": 2, "machines": {}, "epochs": {}, "more": 1}`,
		"cut short":      first[:len(first)/2],
		"something else": `[]`,
		"nothing":        `null`,
		"no epochs":      `{"version": 2, "machines": {}}`,
		"null for a map": `{"version": 2, "machines": null, "epochs": {}}`,
		"two documents":  `{"version": 2, "machines": {}, "epochs": {}} {}`,
		"unknown in pin": strings.Replace(first, `"epoch"`, `"epochs"`, 1),
	} {
		state := ClientState{Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(state.Dir, acceptedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pin, err := state.Pin("127.0.0.1:27593"); err == nil {
			t.Errorf("%s: read as %+v", name, pin)
		}
	}
}

// What was learned of the log is kept, and a file from before it was is read.
func TestLogIsRemembered(t *testing.T) {
	state := ClientState{Dir: t.TempDir()}
	path := filepath.Join(state.Dir, acceptedFile)
	if err := os.WriteFile(path, []byte(`{"version": 2, "machines": {}, "epochs": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	learned := release.Memory{
		Rotations: []release.Rotated{{Use: logentry.UseLog, Old: []byte("a"), New: []byte("b"), Index: 3}},
		Withdrawn: []attest.ReleaseDigest{{1}}, Time: time.Unix(100, 0).UTC(),
	}
	for range 2 {
		if err := state.Learn(learned); err != nil {
			t.Fatal(err)
		}
	}
	if err := state.Learn(release.Memory{Withdrawn: []attest.ReleaseDigest{{2}}, Time: time.Unix(50, 0)}); err != nil {
		t.Fatal(err)
	}
	m, err := state.LogMemory()
	if err != nil || len(m.Rotations) != 1 || len(m.Withdrawn) != 2 || !m.Time.Equal(learned.Time) || m.Rotations[0].Use != logentry.UseLog {
		t.Errorf("remembered %+v, %v", m, err)
	}
}
