package enrol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// ukiBytes is more than two calls bring.
const ukiBytes = 2*api.MaxChunkBytes + 77

// next adds a release that boots another image than the gate's machine has.
func (g *gate) next() orchestrator.Release {
	g.t.Helper()
	uki := bytes.Repeat([]byte("uki of the next release "), ukiBytes/24+1)[:ukiBytes]
	want := attest.Extend(attest.Digest{}, attest.Sum([]byte("the next image"))).String()
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.1.0", Epoch: 2, Architecture: "amd64", StubVersion: 252,
		Disk: release.File{Name: "disk.raw", SHA256: attest.Digest{1}, Bytes: 1},
		UKI:  release.File{Name: "uki.efi", SHA256: attest.Sum(uki), Bytes: ukiBytes},
		Boots: []release.Boot{{
			SHA256: map[string]string{"4": want, "9": want, "11": want},
			SHA384: map[string]string{"4": want + want[:32], "9": want + want[:32], "11": want + want[:32]},
		}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		g.t.Fatal(err)
	}
	dir := g.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "uki.efi"), uki, 0o600); err != nil {
		g.t.Fatal(err)
	}
	rel := orchestrator.Release{
		Digest: attest.ReleaseDigest(attest.Sum(manifest)), Version: m.Version, Epoch: m.Epoch,
		Manifest: manifest, Bundle: []byte("the next bundle"), DiskPath: filepath.Join(dir, "disk.raw"), AddedAt: time.Now(),
	}
	if err := g.store.Update(g.t.Context(), func(tx store.Tx) error { return tx.PutRelease(rel) }); err != nil {
		g.t.Fatal(err)
	}
	return rel
}

// offerTo offers a release to the gate's machine, and answers what is to be said of it.
func (g *gate) offerTo(rel orchestrator.Release) api.UpdateStatus {
	g.t.Helper()
	g.change(func(i *orchestrator.Instance) {
		i.Created = true
		if _, ok, err := i.Offer(rel, time.Now()); !ok || err != nil {
			g.t.Fatalf("%v, %v", ok, err)
		}
	})
	return api.UpdateStatus{Release: rel.Digest, Attempt: g.instance().Update.Attempt}
}

// boot is the machine after a restart, with an image measured.
func (g *gate) boot(image string) *agent {
	g.t.Helper()
	g.reset(image)
	return g.dial()
}

// beat says how far the machine is, and answers what it is offered.
func (a *agent) beat(s api.UpdateStatus, step api.UpdateStep, reason api.UpdateReason) *api.Offer {
	a.t.Helper()
	s.Step, s.Reason = step, reason
	beat, answer := api.Heartbeat{Machine: machineID, Update: &s}, api.HeartbeatAnswer{}
	if step == "" {
		beat.Update = nil
	}
	if got := a.call(api.HeartbeatPath, beat, &answer); got != http.StatusOK {
		a.t.Fatalf("heartbeat: %d", got)
	}
	return answer.Offer
}

func (g *gate) history() (reasons []string) {
	g.t.Helper()
	err := g.store.View(g.t.Context(), func(v store.Reader) error {
		events, err := v.Events(0, "instance", 100)
		for _, e := range events {
			reasons = append(reasons, e.Reason)
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return reasons
}

// A machine hears of an offer until it names it; each step is one event; and what it
// runs at the end is what it has shown.
func TestUpdateOfAMachine(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	if got := a.beat(api.UpdateStatus{}, "", ""); got != nil {
		t.Errorf("offered %+v", got)
	}
	b := g.next()
	s := g.offerTo(b)
	for range 2 {
		if got := a.beat(api.UpdateStatus{}, "", ""); got == nil || got.Release != b.Digest || got.Attempt != 1 {
			t.Errorf("offered %+v", got)
		}
	}
	for _, step := range []api.UpdateStep{api.UpdateAwaiting, api.UpdateFetching, api.UpdateInstalling} {
		if got := a.beat(s, step, ""); got != nil {
			t.Errorf("%s: offered %+v", step, got)
		}
		version := g.instance().Version
		if a.beat(s, step, ""); g.instance().Version != version {
			t.Errorf("%s again is written", step)
		}
	}
	n := g.boot("the next image")
	if r := n.enrol(); !r.Accepted || string(r.Bundle) != "the next bundle" || !bytes.Equal(r.Manifest, b.Manifest) {
		t.Fatalf("%v, %s, bundle %q", r.Accepted, r.Reason, r.Bundle)
	}
	n.beat(s, api.UpdateTrying, "")
	if i := g.instance(); i.Runs() == b.Digest || i.Enrolment.Release != b.Digest || i.State == orchestrator.StateQuarantined {
		t.Errorf("while it tries: %+v", i)
	}
	if n.beat(s, api.UpdateDone, ""); g.instance().Runs() != b.Digest || g.instance().Plan.Release == b.Digest {
		t.Errorf("at the end: %+v", g.instance())
	}
	if got := n.beat(api.UpdateStatus{}, "", ""); got != nil {
		t.Errorf("afterwards: offered %+v", got)
	}
	var steps []string
	for _, reason := range g.history()[1:] {
		_, step, _ := strings.Cut(reason, ": ")
		steps = append(steps, step)
	}
	if want := []string{"awaiting-approval", "fetching", "installing", "trying", "done", ""}; !slices.Equal(steps, want) {
		t.Errorf("the history is %q", g.history())
	}
	// The one that it was made from is none of its own any more.
	if r := g.boot("image").enrol(); r.Accepted || !bytes.Equal(r.Manifest, b.Manifest) {
		t.Errorf("on the release from before: %v, %s", r.Accepted, r.Reason)
	}
}

func TestMachineThatFallsBackIsTheOldOne(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	s := g.offerTo(b)
	a.beat(s, api.UpdateInstalling, "")
	n := g.boot("image")
	if r := n.enrol(); !r.Accepted || string(r.Bundle) != "bundle" {
		t.Fatalf("%v, %s", r.Accepted, r.Reason)
	}
	n.beat(s, api.UpdateFellBack, api.ReasonNotStarted)
	if i := g.instance(); i.Runs() == b.Digest || i.Update.Reason != api.ReasonNotStarted {
		t.Errorf("%+v", i)
	}
	// A trial that ended is no reason to be on its release.
	if r := g.boot("the next image").enrol(); r.Accepted {
		t.Error("the release that it fell back from is accepted")
	}
}

// A release that nobody offered, or that the machine has not heard of, is not the
// machine's; and neither is what is none at all.
func TestOtherImagesAreQuarantinedDuringAnUpdate(t *testing.T) {
	for name, c := range map[string]struct {
		offered bool
		image   string
	}{"not offered": {false, "the next image"}, "not heard of": {true, "the next image"}, "no release's": {true, "something else"}} {
		g := newGate(t)
		g.change(func(i *orchestrator.Instance) { i.Endpoint = "127.0.0.1:1" })
		a := g.dial()
		a.enrol()
		b := g.next()
		if c.offered {
			s := g.offerTo(b)
			if c.image == "something else" {
				a.beat(s, api.UpdateInstalling, "")
			}
		}
		if r := g.boot(c.image).enrol(); r.Accepted || g.instance().State != orchestrator.StateQuarantined || string(r.Bundle) != "bundle" {
			t.Errorf("%s: %v, %s, %s", name, r.Accepted, r.Reason, g.instance().State)
		}
	}
}

func TestStatusThatIsNoneIsRefused(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	g.offerTo(b)
	before := g.instance()
	digest := b.Digest.String()
	for name, s := range map[string]string{
		"an unknown step":     `{"release":"` + digest + `","attempt":1,"step":"root"}`,
		"no step":             `{"release":"` + digest + `","attempt":1,"step":""}`,
		"an unknown reason":   `{"release":"` + digest + `","attempt":1,"step":"refused","reason":"because"}`,
		"no reason":           `{"release":"` + digest + `","attempt":1,"step":"refused"}`,
		"a reason too many":   `{"release":"` + digest + `","attempt":1,"step":"done","reason":"unsigned"}`,
		"another's reason":    `{"release":"` + digest + `","attempt":1,"step":"fell-back","reason":"unsigned"}`,
		"no attempt":          `{"release":"` + digest + `","attempt":0,"step":"fetching"}`,
		"no release":          `{"release":"` + strings.Repeat("0", 64) + `","attempt":1,"step":"fetching"}`,
		"an unknown field":    `{"release":"` + digest + `","attempt":1,"step":"fetching","note":"x"}`,
		"a negative attempt":  `{"release":"` + digest + `","attempt":-1,"step":"fetching"}`,
		"a list of releases":  `{"release":["` + digest + `"],"attempt":1,"step":"fetching"}`,
		"a shortened release": `{"release":"` + digest[:63] + `","attempt":1,"step":"fetching"}`,
	} {
		if got := a.raw(api.HeartbeatPath, []byte(`{"machine":"`+machineID+`","running":true,"healthy":true,"update":`+s+`}`), nil); got != http.StatusBadRequest {
			t.Errorf("%s: %d", name, got)
		}
	}
	// Another offer than the machine's is nobody's business.
	other := api.UpdateStatus{Release: attest.ReleaseDigest{5}, Attempt: 1}
	if got := a.beat(other, api.UpdateFetching, ""); got == nil {
		t.Error("it has not heard of its own offer")
	}
	if i := g.instance(); i.Update != before.Update || i.Enrolment.Healthy || i.Version != before.Version {
		t.Errorf("%+v", i)
	}
}

// file fetches a part of a file.
func (a *agent) file(d attest.ReleaseDigest, name string, offset int64) (int, []byte) {
	a.t.Helper()
	status, part, err := a.fetch(d, name, offset)
	if err != nil {
		a.t.Fatal(err)
	}
	return status, part
}

func (a *agent) fetch(d attest.ReleaseDigest, name string, offset int64) (int, []byte, error) {
	body, err := json.Marshal(api.UpdateFileRequest{Machine: a.name, Release: d, Name: name, Offset: offset})
	if err != nil {
		return 0, nil, err
	}
	part, err := a.conn.Call(a.t.Context(), http.MethodPost, api.UpdateFilePath, "application/json", body, api.MaxChunkBytes)
	var status *channel.StatusError
	if errors.As(err, &status) {
		return status.Code, nil, nil
	}
	return http.StatusOK, part, err
}

// again is another connection of the same boot.
func (a *agent) again() *agent {
	a.t.Helper()
	conn, err := channel.DialEnrol(a.t.Context(), a.config.ControlPlane, a.certificate, a.own, a.spki)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the test is over
	return &agent{gate: a.gate, conn: conn, certificate: a.certificate, own: a.own, name: a.name}
}

// others are machines besides the gate's, enrolled, and offered what that is.
func (g *gate) others(n int) (machines []*agent) {
	g.t.Helper()
	for k := range n {
		m := g.dial()
		m.name = strings.Repeat(string('b'+rune(k/20)), 25) + string('b'+rune(k%20))
		i := g.instance()
		i.ID, i.User, i.Machine = orchestrator.InstanceID(m.name), orchestrator.UserID(m.name), providers.MachineID(m.name)
		i.Enrolment.Session = attest.Sum(m.own)
		if err := g.store.Update(g.t.Context(), func(tx store.Tx) error { return tx.Insert(i) }); err != nil {
			g.t.Fatal(err)
		}
		machines = append(machines, m)
	}
	return machines
}

// A machine fetches what it is offered, on a connection of its own, and the whole of
// it part by part.
func TestOfferedReleaseIsFetched(t *testing.T) {
	g := newGate(t)
	g.proof = []byte("proof")
	a := g.dial()
	a.enrol()
	b := g.next()
	g.offerTo(b)
	x := a.again()
	var r api.UpdateRelease
	if got := x.call(api.UpdateReleasePath, api.UpdateRequest{Machine: machineID, Release: b.Digest}, &r); got != http.StatusOK {
		t.Fatalf("%d", got)
	}
	if !bytes.Equal(r.Manifest, b.Manifest) || string(r.Bundle) != "the next bundle" || string(r.Proof) != "proof" || !g.instance().Update.Heard {
		t.Errorf("%q, %q, %+v", r.Bundle, r.Proof, g.instance().Update)
	}
	var whole []byte
	for len(whole) < ukiBytes {
		got, part := x.file(b.Digest, "uki.efi", int64(len(whole)))
		if got != http.StatusOK || len(part) == 0 {
			t.Fatalf("at %d: %d, %d bytes", len(whole), got, len(part))
		}
		whole = append(whole, part...)
	}
	m, err := release.ParseManifest(b.Manifest)
	if err != nil || attest.Sum(whole) != m.UKI.SHA256 {
		t.Errorf("%d bytes of something else: %v", len(whole), err)
	}
	if got, part := x.file(b.Digest, "uki.efi", ukiBytes); got != http.StatusOK || len(part) != 0 {
		t.Errorf("at the end: %d, %d bytes", got, len(part))
	}
}

func TestWhatIsNotFetched(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	ask := func(x *agent, d attest.ReleaseDigest) (releases, files int) {
		files, _ = x.file(d, "uki.efi", 0)
		return x.call(api.UpdateReleasePath, api.UpdateRequest{Machine: machineID, Release: d}, nil), files
	}
	refused := func(name string, x *agent, d attest.ReleaseDigest) {
		t.Helper()
		if r, f := ask(x, d); r != http.StatusForbidden || f != http.StatusForbidden {
			t.Errorf("%s: %d, %d", name, r, f)
		}
	}
	refused("not offered", a, b.Digest)
	s := g.offerTo(b)
	refused("another release", a, g.instance().Plan.Release)
	refused("another key", g.dial(), b.Digest)
	if r, f := ask(a, b.Digest); r != http.StatusOK || f != http.StatusOK {
		t.Errorf("offered: %d, %d", r, f)
	}
	for name, c := range map[string]struct {
		file   string
		offset int64
		status int
	}{
		"the disk":         {"disk.raw", 0, http.StatusNotFound},
		"an input":         {"agent", 0, http.StatusNotFound},
		"a way up":         {"../uki.efi", 0, http.StatusNotFound},
		"no name":          {"", 0, http.StatusNotFound},
		"before the start": {"uki.efi", -1, http.StatusUnprocessableEntity},
		"behind the end":   {"uki.efi", ukiBytes + 1, http.StatusUnprocessableEntity},
	} {
		if got, _ := a.file(b.Digest, c.file, c.offset); got != c.status {
			t.Errorf("%s: %d, want %d", name, got, c.status)
		}
	}
	g.withdrawn.Store(b.Digest, true)
	refused("withdrawn", a, b.Digest)
	g.withdrawn.Delete(b.Digest)
	a.beat(s, api.UpdateRefused, api.ReasonUnclaimed)
	refused("refused", a, b.Digest)
}

// What lies in the file's place and is not the file is not sent.
func TestFileThatIsAnother(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing":       os.Remove,
		"shorter":       func(path string) error { return os.Truncate(path, ukiBytes-1) },
		"a directory":   func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"a pipe":        func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"a way outside": func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) },
	} {
		g := newGate(t)
		a := g.dial()
		a.enrol()
		b := g.next()
		g.offerTo(b)
		if err := spoil(filepath.Join(filepath.Dir(b.DiskPath), "uki.efi")); err != nil {
			t.Fatal(err)
		}
		if got, _ := a.file(b.Digest, "uki.efi", 0); got != http.StatusInternalServerError {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// A release that is withdrawn while it is offered is offered no more, which the
// history says; a machine that had begun is not another for it.
func TestWithdrawnOfferIsTakenBack(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	s := g.offerTo(b)
	a.beat(s, api.UpdateInstalling, "")
	g.withdrawn.Store(b.Digest, true)
	if got := a.beat(api.UpdateStatus{}, "", ""); got != nil || !g.instance().Update.TakenBack {
		t.Errorf("offered %+v, %+v", got, g.instance().Update)
	}
	history := g.history()
	if last := history[len(history)-1]; !strings.Contains(last, "taken back") {
		t.Errorf("the history ends with %q", last)
	}
	if r := g.boot("the next image").enrol(); !r.Accepted {
		t.Errorf("%s", r.Reason)
	}
}

// A machine that goes after an offer which was taken back hears so as long as it says
// that it does; one that is at another offer, or through, does not.
func TestMachineHearsThatAnOfferIsTakenBack(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	s := g.offerTo(b)
	hears := func(release attest.ReleaseDigest, attempt uint64, step api.UpdateStep) bool {
		t.Helper()
		beat := api.Heartbeat{Machine: machineID, Update: &api.UpdateStatus{Release: release, Attempt: attempt, Step: step}}
		if step.Ended() {
			beat.Update.Reason = api.ReasonUnsigned
		}
		var answer api.HeartbeatAnswer
		if got := a.call(api.HeartbeatPath, beat, &answer); got != http.StatusOK {
			t.Fatalf("heartbeat: %d", got)
		}
		return answer.TakenBack
	}
	if hears(s.Release, s.Attempt, api.UpdateFetching) {
		t.Error("an offer that stands was said to be taken back")
	}
	g.change(func(i *orchestrator.Instance) {
		if _, ok := i.TakeBack(b.Digest, time.Now()); !ok {
			t.Error("it was not taken back")
		}
	})
	for range 2 {
		if !hears(s.Release, s.Attempt, api.UpdateFetching) {
			t.Error("it does not hear of it")
		}
	}
	if hears(s.Release, s.Attempt+1, api.UpdateFetching) || hears(attest.ReleaseDigest{7}, s.Attempt, api.UpdateFetching) {
		t.Error("it hears so of another offer")
	}
	if hears(s.Release, s.Attempt, api.UpdateRefused) {
		t.Error("it hears so of what is over")
	}
	if a.beat(api.UpdateStatus{}, "", "") != nil {
		t.Error("it is offered again")
	}
}

// Machines that fetch side by side all get their parts, and heartbeats are answered
// meanwhile.
func TestManyFetchAtOnce(t *testing.T) {
	g := newGate(t)
	a := g.dial()
	a.enrol()
	b := g.next()
	g.offerTo(b)
	machines := g.others(64)
	var done sync.WaitGroup
	failed := make(chan string, 3*len(machines))
	for _, m := range machines {
		done.Go(func() {
			for offset := int64(0); offset < ukiBytes; offset += api.MaxChunkBytes {
				status, part, err := m.fetch(b.Digest, "uki.efi", offset)
				if want := min(api.MaxChunkBytes, ukiBytes-offset); status != http.StatusOK || int64(len(part)) != want {
					failed <- fmt.Sprintf("%s at %d: %d, %d bytes, %v", m.name, offset, status, len(part), err)
				}
			}
		})
	}
	for range 20 {
		a.beat(api.UpdateStatus{}, "", "")
	}
	done.Wait()
	close(failed)
	for f := range failed {
		t.Error(f)
	}
	if n := g.server.Turns(); n != 0 {
		t.Errorf("%d turns are not given back", n)
	}
}
