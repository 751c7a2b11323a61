package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	agentapi "github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// put adds a release with its file, past the signature.
func (d *operator) put(alter func(*release.Manifest)) orchestrator.Release {
	d.t.Helper()
	values := func(bytes int) map[string]string {
		value := strings.Repeat("ab", bytes)
		return map[string]string{"4": value, "9": value, "11": value}
	}
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 2, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: "disk.raw", SHA256: attest.Digest{1}, Bytes: 1},
		UKI:    release.File{Name: "uki.efi", SHA256: attest.Digest{2}, Bytes: 3},
		Boots:  []release.Boot{{SHA256: values(32), SHA384: values(48)}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}},
	}
	alter(m)
	manifest, err := m.Encode()
	if err != nil {
		d.t.Fatal(err)
	}
	dir := d.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "uki.efi"), []byte("uki"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	rel := orchestrator.Release{
		Digest: attest.ReleaseDigest(attest.Sum(manifest)), Version: m.Version, Epoch: m.Epoch,
		Manifest: manifest, Bundle: []byte("bundle"), DiskPath: filepath.Join(dir, "disk.raw"), AddedAt: time.Now(),
	}
	if err := d.store.Update(d.t.Context(), func(tx store.Tx) error { return tx.PutRelease(rel) }); err != nil {
		d.t.Fatal(err)
	}
	return rel
}

// running is the path of an instance whose machine runs a release.
func (d *operator) running(user string, rel orchestrator.Release) (path string) {
	d.t.Helper()
	path = d.made(user, orchestrator.StateReady)
	d.alter(path, func(i *orchestrator.Instance) { i.Plan.Release = rel.Digest })
	return path
}

func (d *operator) alter(path string, f func(*orchestrator.Instance)) (before orchestrator.Instance) {
	d.t.Helper()
	err := d.store.Update(d.t.Context(), func(tx store.Tx) error {
		i, err := tx.Instance(orchestrator.InstanceID(filepath.Base(path)))
		if err != nil {
			return err
		}
		before = i
		f(&i)
		return tx.Replace(&i)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return before
}

func offerOf(rel orchestrator.Release) string { return `{"release":"` + rel.Digest.String() + `"}` }

func shown(t *testing.T, text string) (i api.Instance) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &i); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return i
}

func TestReleaseIsOffered(t *testing.T) {
	d := newOperator(t)
	a := d.put(func(m *release.Manifest) { m.Version = "1.0.0" })
	path := d.running("amara", a)
	b := d.put(func(m *release.Manifest) { m.Version, m.Epoch = "1.1.0", 3 })
	for range 2 {
		i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(b)))
		if i.Update == nil || i.Update.Release != b.Digest.String() || i.Update.Attempt != 1 || i.Update.Step != "offered" || i.Release != a.Digest.String() {
			t.Errorf("%+v", i)
		}
	}
	// Its machine may be waiting to hear, and is told of what is new alone.
	if n := len(d.told); n != 1 {
		t.Errorf("told %d times", n)
	}
	if history := d.want(http.StatusOK, "", "GET", "/v1/events", ""); strings.Count(history, "release 1.1.0") != 1 {
		t.Errorf("%s", history)
	}
	// What it runs takes the offer back; the default is the newest.
	if i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(a))); i.Update.Step != "taken-back" {
		t.Errorf("%+v", i.Update)
	}
	i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", `{}`))
	if i.Update.Release != b.Digest.String() || i.Update.Attempt != 2 || i.Update.Step != "offered" {
		t.Errorf("%+v", i.Update)
	}
	d.alter(path, func(i *orchestrator.Instance) {
		i.Enrolment = orchestrator.Enrolment{Judged: true, Accepted: true, Release: b.Digest}
		i.Report(agentapi.UpdateStatus{Release: b.Digest, Attempt: 2, Step: agentapi.UpdateDone}, time.Now())
	})
	i = shown(t, d.want(http.StatusOK, "", "GET", path, ""))
	if i.Release != b.Digest.String() || i.MadeFrom != a.Digest.String() || i.Update.Step != "done" {
		t.Errorf("%+v", i)
	}
	d.want(http.StatusConflict, "release-older", "POST", path+"/update", offerOf(a))
}

func TestWhatIsNotOffered(t *testing.T) {
	d := newOperator(t)
	a := d.put(func(m *release.Manifest) { m.Version = "1.0.0" })
	path := d.running("amara", a)
	firmware := func(m *release.Manifest) {
		hex := func(n int) map[string]string {
			return map[string]string{"0": strings.Repeat("cd", n), "1": strings.Repeat("cd", n)}
		}
		m.Schema = release.SchemaFirmware
		m.Firmware = &release.Firmware{
			Code:      release.File{Name: "firmware.fd", SHA256: attest.Digest{4}, Bytes: 1},
			Variables: release.File{Name: "variables.fd", SHA256: attest.Digest{5}, Bytes: 1},
			Shapes:    []release.Shape{{Shape: board.Shape{VCPUs: 1, MemoryBytes: 1 << 30}, SHA256: hex(32), SHA384: hex(48)}},
		}
	}
	lost := d.put(func(m *release.Manifest) { m.Version = "1.0.4" })
	if err := os.Remove(filepath.Join(filepath.Dir(lost.DiskPath), "uki.efi")); err != nil {
		t.Fatal(err)
	}
	for code, rel := range map[string]orchestrator.Release{
		"release-older":        d.put(func(m *release.Manifest) { m.Version, m.Epoch = "1.0.1", 1 }),
		"release-architecture": d.put(func(m *release.Manifest) { m.Version, m.Architecture = "1.0.2", "arm64" }),
		"release-firmware":     d.put(firmware),
		"release-incomplete":   lost,
	} {
		if text := d.want(http.StatusConflict, code, "POST", path+"/update", offerOf(rel)); !strings.Contains(text, rel.Version) {
			t.Errorf("%s: %s", code, text)
		}
	}
	good := d.put(func(m *release.Manifest) { m.Version = "1.0.5" })
	d.want(http.StatusNotFound, "not-found", "POST", path+"/update", offerOf(orchestrator.Release{Digest: attest.ReleaseDigest{9}}))
	d.want(http.StatusNotFound, "not-found", "POST", "/v1/instances/"+nobody+"/update", offerOf(good))
	for _, body := range []string{`{"release":"1.0.5"}`, `{"release":"` + good.Digest.String() + `","force":true}`, `{"release":7}`} {
		d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "POST", path+"/update", body)
	}
	if i := shown(t, d.want(http.StatusOK, "", "GET", path, "")); i.Update != nil {
		t.Errorf("%+v", i.Update)
	}
	d.alter(path, func(i *orchestrator.Instance) { i.Created = false })
	d.want(http.StatusConflict, "conflict", "POST", path+"/update", offerOf(good))
	d.want(http.StatusAccepted, "", "DELETE", path, "")
	d.want(http.StatusConflict, "conflict", "POST", path+"/update", offerOf(good))
	d.token = ""
	d.want(http.StatusUnauthorized, "token-missing", "POST", path+"/update", offerOf(good))
}

// A release that is withdrawn is offered to nobody, and to nobody any more.
func TestWithdrawnReleaseIsNotOffered(t *testing.T) {
	d, key := withLog(t)
	a := d.put(func(m *release.Manifest) { m.Epoch = 1 })
	r := logtest.NewRelease(t, key, 1)
	d.want(http.StatusCreated, "", "POST", "/v1/releases", d.body(r, r.Entry))
	path, other := d.running("amara", a), d.running("grace", a)
	b := orchestrator.Release{Digest: r.Digest, Version: "1.0.1"}
	offerIt := func(i *orchestrator.Instance) {
		if _, ok, err := i.Offer(b, time.Now()); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	d.alter(path, offerIt)
	d.want(http.StatusCreated, "", "POST", "/v1/log/entries", d.entry(key.Entry(logentry.Body{
		Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonFaulty},
	})))
	if i := shown(t, d.want(http.StatusOK, "", "GET", path, "")); i.Update == nil || i.Update.Step != "taken-back" {
		t.Errorf("%+v", i.Update)
	}
	if i := shown(t, d.want(http.StatusOK, "", "GET", other, "")); i.Update != nil {
		t.Errorf("%+v", i.Update)
	}
	if history := d.want(http.StatusOK, "", "GET", "/v1/events", ""); strings.Count(history, "taken back") != 1 {
		t.Errorf("%s", history)
	}
	d.want(http.StatusConflict, "release-withdrawn", "POST", other+"/update", offerOf(b))
	// Nor is it what anything new is made from.
	for digest, want := range map[string]string{
		a.Digest.String(): `"default":true`,
		r.Digest.String(): `"default":false,"withdrawn":true`,
	} {
		if text := d.want(http.StatusOK, "", "GET", "/v1/releases/"+digest, ""); !strings.Contains(text, want) {
			t.Errorf("%s, want %s", text, want)
		}
	}
	if i := shown(t, d.want(http.StatusAccepted, "", "POST", other+"/update", `{}`)); i.Update != nil {
		t.Errorf("the default release is the one that runs, and %+v was offered", i.Update)
	}
}

// The release that a machine runs is offered once more for the change of db that it
// has, as an attempt of its own, where the file of it is there.
func TestChangeIsOffered(t *testing.T) {
	d := newOperator(t)
	a := d.put(logtest.Changing)
	path := d.running("amara", a)
	if text := d.want(http.StatusConflict, "release-incomplete", "POST", path+"/update", offerOf(a)); !strings.Contains(text, "secure-boot.auth") {
		t.Errorf("%s", text)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.DiskPath), "secure-boot.auth"), []byte("write"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(a)))
		if i.Update == nil || i.Update.Release != a.Digest.String() || i.Update.Attempt != 1 || i.Update.Step != "offered" {
			t.Errorf("%+v", i.Update)
		}
	}
	if history := d.want(http.StatusOK, "", "GET", "/v1/events", ""); strings.Count(history, "the change of Secure Boot's variables") != 1 {
		t.Errorf("%s", history)
	}
	d.alter(path, func(i *orchestrator.Instance) {
		i.Enrolment = orchestrator.Enrolment{Judged: true, Accepted: true, Release: a.Digest}
		i.Report(agentapi.UpdateStatus{Release: a.Digest, Attempt: 1, Step: agentapi.UpdateDone}, time.Now())
	})
	if text := d.want(http.StatusOK, "", "GET", "/v1/releases", ""); !strings.Contains(text, `"secure_boot_change":"db"`) {
		t.Errorf("%s", text)
	}
	// Whether there is something left to change is the machine's to say.
	i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(a)))
	if i.Update.Attempt != 2 || i.Release != a.Digest.String() {
		t.Errorf("%+v", i)
	}
	b := d.put(func(m *release.Manifest) { m.Version, m.Epoch = "1.1.0", 3 })
	d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(b))
	// What it runs takes that back, and is not offered by the same call.
	if i := shown(t, d.want(http.StatusAccepted, "", "POST", path+"/update", offerOf(a))); i.Update.Step != "taken-back" || i.Update.Release != b.Digest.String() {
		t.Errorf("%+v", i.Update)
	}
}
