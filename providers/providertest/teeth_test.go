package providertest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// faulty is a provider with one thing wrong.
type faulty struct {
	*memory.Provider
	info      func(*providers.Info)
	configure func([]byte) (done bool, err error)
	create    func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error)
	seen      func(*providers.Machine)
	getErr    func(error) error
	power     func(ctx context.Context, p *memory.Provider, id providers.MachineID, on bool) error
	apply     func(ctx context.Context, p *memory.Provider, c providers.Change) (providers.Machine, error)
	destroy   func(ctx context.Context, p *memory.Provider, id providers.MachineID, keep bool) error
	list      func(*providers.Page)
	image     func(ctx context.Context, p *memory.Provider, i providers.Image, progress func(int64, int64)) error
	attach    func(ctx context.Context, p *memory.Provider, m, from providers.MachineID) error
	snapshot  func(*providers.Snapshot)
	endorse   func(id providers.MachineID, key []byte, err error) ([]byte, error)
}

func (f *faulty) Info(ctx context.Context) (providers.Info, error) {
	i, err := f.Provider.Info(ctx)
	if f.info != nil {
		f.info(&i)
	}
	return i, err
}

func (f *faulty) Configure(ctx context.Context, b []byte) error {
	if f.configure != nil {
		if done, err := f.configure(b); done {
			return err
		}
	}
	return f.Provider.Configure(ctx, b)
}

func (f *faulty) EnsureImage(ctx context.Context, i providers.Image, progress func(int64, int64)) error {
	if f.image != nil {
		return f.image(ctx, f.Provider, i, progress)
	}
	return f.Provider.EnsureImage(ctx, i, progress)
}

func (f *faulty) look(m providers.Machine, err error) (providers.Machine, error) {
	if f.seen != nil && err == nil {
		f.seen(&m)
	}
	return m, err
}

func (f *faulty) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	if f.create != nil {
		return f.look(f.create(ctx, f.Provider, req))
	}
	return f.look(f.Provider.Create(ctx, req))
}

func (f *faulty) Get(ctx context.Context, id providers.MachineID) (providers.Machine, error) {
	m, err := f.Provider.Get(ctx, id)
	if f.getErr != nil {
		err = f.getErr(err)
	}
	return f.look(m, err)
}

func (f *faulty) List(ctx context.Context, i providers.InstallationID, page string) (providers.Page, error) {
	p, err := f.Provider.List(ctx, i, page)
	if f.list != nil {
		f.list(&p)
	}
	return p, err
}

func (f *faulty) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	if f.power != nil {
		return f.power(ctx, f.Provider, id, on)
	}
	return f.Provider.SetPower(ctx, id, on)
}

func (f *faulty) Apply(ctx context.Context, c providers.Change) (providers.Machine, error) {
	if f.apply != nil {
		return f.look(f.apply(ctx, f.Provider, c))
	}
	return f.look(f.Provider.Apply(ctx, c))
}

func (f *faulty) Delete(ctx context.Context, id providers.MachineID, keep bool) error {
	if f.destroy != nil {
		return f.destroy(ctx, f.Provider, id, keep)
	}
	return f.Provider.Delete(ctx, id, keep)
}

func (f *faulty) AttachData(ctx context.Context, m, from providers.MachineID) error {
	if f.attach != nil {
		return f.attach(ctx, f.Provider, m, from)
	}
	return f.Provider.AttachData(ctx, m, from)
}

func (f *faulty) Snapshot(ctx context.Context, m providers.MachineID, id providers.SnapshotID) (providers.Snapshot, error) {
	s, err := f.Provider.Snapshot(ctx, m, id)
	if f.snapshot != nil {
		f.snapshot(&s)
	}
	return s, err
}

func (f *faulty) EndorsementKey(ctx context.Context, id providers.MachineID) ([]byte, error) {
	key, err := f.Provider.EndorsementKey(ctx, id)
	if f.endorse != nil {
		return f.endorse(id, key, err)
	}
	return key, err
}

// errLost is what a provider says that does not know the codes.
var errLost = errors.New("lost")

// wrongs are mistakes that a provider could make, each with a case that must
// notice.
var wrongs = []struct {
	mistake string
	noticed string
	make    func(*faulty)
}{
	{"it speaks an older contract", "info-speaks-this-contract", func(f *faulty) { f.info = func(i *providers.Info) { i.ContractVersion-- } }},
	{"it has no version", "info-says-who-it-is", func(f *faulty) { f.info = func(i *providers.Info) { i.Version = "" } }},
	{"its schema takes anything", "info-schema-is-closed", func(f *faulty) {
		f.info = func(i *providers.Info) { i.ConfigSchema = []byte(`{"type":"object"}`) }
	}},
	{"it offers what there is not", "info-offers-known-capabilities-once", func(f *faulty) {
		f.info = func(i *providers.Info) { i.Capabilities = append(i.Capabilities, "teleport") }
	}},
	{"it takes any settings", "configure-names-the-unknown", func(f *faulty) {
		f.configure = func([]byte) (bool, error) { return true, nil }
	}},
	{"it does not check the image", "image-with-another-digest-is-refused", func(f *faulty) {
		f.image = func(ctx context.Context, p *memory.Provider, i providers.Image, progress func(int64, int64)) error {
			b, err := os.ReadFile(i.Path)
			if err != nil {
				return err
			}
			i.SHA256, i.Bytes = attest.Sum(b), int64(len(b))
			return p.EnsureImage(ctx, i, progress)
		}
	}},
	{"it reports no progress", "image-reports-its-progress", func(f *faulty) {
		f.image = func(ctx context.Context, p *memory.Provider, i providers.Image, _ func(int64, int64)) error {
			return p.EnsureImage(ctx, i, nil)
		}
	}},
	{"it makes a second machine for the same id", "create-can-be-repeated", func(f *faulty) { f.create = createAnew }},
	{"it looks before it makes, and another does between", "create-fifty-at-once-makes-one", func(f *faulty) { f.create = lookThenCreate() }},
	{"it takes any spec for a known id", "create-with-another-configuration-conflicts", func(f *faulty) {
		f.create = func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
			if m, err := p.Get(ctx, req.Machine); err == nil && m.Installation == req.Installation {
				return m, nil
			}
			return p.Create(ctx, req)
		}
	}},
	{"it takes any installation for a known id", "create-for-another-installation-conflicts", func(f *faulty) {
		f.create = func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
			if m, err := p.Get(ctx, req.Machine); err == nil {
				return m, nil
			}
			return p.Create(ctx, req)
		}
	}},
	{"it answers with another machine", "create-makes-what-was-asked-for", func(f *faulty) {
		f.seen = func(m *providers.Machine) { m.SpecHash = attest.Digest{} }
	}},
	{"its errors have no code", "get-of-nothing-is-not-found", func(f *faulty) {
		f.getErr = func(err error) error {
			if err != nil {
				return errLost
			}
			return nil
		}
	}},
	{"it says that it does not know instead of not found", "get-of-a-deleted-machine-is-not-found", func(f *faulty) {
		f.getErr = func(err error) error {
			if providers.CodeOf(err) == providers.CodeNotFound {
				return providers.Errorf(providers.CodeUnavailable, "who knows")
			}
			return err
		}
	}},
	{"it does not switch off", "power-goes-off-and-on", func(f *faulty) {
		f.power = func(context.Context, *memory.Provider, providers.MachineID, bool) error { return nil }
	}},
	{"it switches what is not there", "power-of-nothing-is-not-found", func(f *faulty) {
		f.power = func(ctx context.Context, p *memory.Provider, id providers.MachineID, on bool) error {
			if err := p.SetPower(ctx, id, on); providers.CodeOf(err) != providers.CodeNotFound {
				return err
			}
			return nil
		}
	}},
	{"it takes any generation", "apply-refuses-an-older-generation", func(f *faulty) {
		f.apply = func(ctx context.Context, p *memory.Provider, c providers.Change) (providers.Machine, error) {
			m, err := p.Get(ctx, c.Machine)
			if err != nil {
				return m, err
			}
			c.Generation = max(c.Generation, m.Generation)
			return p.Apply(ctx, c)
		}
	}},
	{"it forgets the generation", "apply-raises-the-generation", func(f *faulty) {
		f.seen = func(m *providers.Machine) { m.Generation = min(m.Generation, 1) }
	}},
	{"it shrinks", "apply-refuses-to-shrink", func(f *faulty) {
		f.apply = func(ctx context.Context, p *memory.Provider, c providers.Change) (providers.Machine, error) {
			c.DataBytes = 0
			return p.Apply(ctx, c)
		}
	}},
	{"it deletes nothing", "delete-can-be-repeated", func(f *faulty) {
		f.destroy = func(context.Context, *memory.Provider, providers.MachineID, bool) error { return nil }
	}},
	{"it deletes the data that it should keep", "delete-can-keep-the-data", func(f *faulty) {
		f.destroy = func(ctx context.Context, p *memory.Provider, id providers.MachineID, _ bool) error {
			return p.Delete(ctx, id, false)
		}
	}},
	{"it keeps the data that it should delete", "delete-removes-a-kept-disk", func(f *faulty) {
		f.destroy = func(ctx context.Context, p *memory.Provider, id providers.MachineID, _ bool) error {
			return p.Delete(ctx, id, true)
		}
	}},
	{"it does not list data disks", "list-tells-what-get-tells", func(f *faulty) {
		f.list = func(p *providers.Page) {
			p.Resources = slices.DeleteFunc(p.Resources, func(r providers.Resource) bool { return r.Kind == providers.ResourceDataDisk })
		}
	}},
	{"it lists the first page alone", "list-tells-every-machine-by-pages", func(f *faulty) { f.list = func(p *providers.Page) { p.Next = "" } }},
	{"its pages never end", "list-of-a-page-that-is-none-ends", func(f *faulty) { f.list = func(p *providers.Page) { p.Next = "no such page" } }},
	{"it attaches to a machine that is on", "attach-to-a-machine-that-is-on-conflicts", func(f *faulty) {
		f.attach = func(ctx context.Context, p *memory.Provider, m, from providers.MachineID) error {
			return errors.Join(p.SetPower(ctx, m, false), p.AttachData(ctx, m, from), p.SetPower(ctx, m, true))
		}
	}},
	{"its endorsement keys are no SubjectPublicKeyInfo", "endorse-names-a-key-of-a-known-kind", func(f *faulty) {
		f.endorse = func(_ providers.MachineID, key []byte, err error) ([]byte, error) { return key[:len(key)/2], err }
	}},
	{"it draws an endorsement key each time", "endorse-names-the-same-key-again", func(f *faulty) {
		f.endorse = func(_ providers.MachineID, _ []byte, err error) ([]byte, error) { return anyKey(err) }
	}},
	{"it names one endorsement key for all", "endorse-names-another-key-for-another-machine", func(f *faulty) {
		one, _ := anyKey(nil)
		f.endorse = func(_ providers.MachineID, _ []byte, err error) ([]byte, error) { return one, err }
	}},
	{"it names a key of a machine that is not there", "endorse-of-nothing-is-not-found", func(f *faulty) {
		f.endorse = func(providers.MachineID, []byte, error) ([]byte, error) { return anyKey(nil) }
	}},
	{"it names a key that the cloud did not", "endorse-survives-faults", func(f *faulty) {
		f.endorse = func(_ providers.MachineID, key []byte, err error) ([]byte, error) {
			if err != nil {
				return anyKey(nil)
			}
			return key, nil
		}
	}},
	{"its snapshots are never complete", "snapshot-can-be-repeated", func(f *faulty) {
		f.snapshot = func(s *providers.Snapshot) { s.Complete = false }
	}},
	{"it takes a lost answer for a refusal", "a-lost-answer-is-an-unknown-outcome", func(f *faulty) {
		f.create = func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
			m, err := p.Create(ctx, req)
			if providers.CodeOf(err) == providers.CodeOutcomeUnknown {
				err = providers.Errorf(providers.CodeUnavailable, "nothing was made")
			}
			return m, err
		}
	}},
	{"it gives capacity no scope", "no-capacity-is-the-regions", func(f *faulty) {
		f.create = func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
			m, err := p.Create(ctx, req)
			var e *providers.Error
			if errors.As(err, &e) {
				e.Scope = ""
			}
			return m, err
		}
	}},
	{"it takes a lagging cloud's silence for not found", "a-lagging-cloud-loses-no-machine", func(f *faulty) {
		f.getErr = func(err error) error {
			if providers.CodeOf(err) == providers.CodeUnavailable {
				return providers.Errorf(providers.CodeNotFound, "it is not listed")
			}
			return err
		}
	}},
	{"it does not see drift", "drift-is-told-and-mended", func(f *faulty) { f.seen = func(m *providers.Machine) { m.Drift = "" } }},
	{"it does not say why a machine crashed", "a-crash-is-told-with-its-reason", func(f *faulty) { f.seen = func(m *providers.Machine) { m.Reason = "" } }},
}

// createAnew deletes and makes again: the same id, another machine.
func createAnew(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
	if err := p.Delete(ctx, req.Machine, false); err != nil {
		return providers.Machine{}, err
	}
	return p.Create(ctx, req)
}

// lookThenCreate makes a second disk where two callers found nothing.
func lookThenCreate() func(context.Context, *memory.Provider, providers.CreateRequest) (providers.Machine, error) {
	var mu sync.Mutex
	looked := map[providers.MachineID]int{}
	return func(ctx context.Context, p *memory.Provider, req providers.CreateRequest) (providers.Machine, error) {
		mu.Lock()
		looked[req.Machine]++
		second := looked[req.Machine] == 2
		mu.Unlock()
		if second {
			// What a cloud without a client token does.
			other := req
			other.Machine = providers.MachineID("other-" + string(req.Machine))
			if _, err := p.Create(ctx, other); err != nil {
				return providers.Machine{}, err
			}
		}
		return p.Create(ctx, req)
	}
}

// subject is a memory cloud behind a provider with something wrong.
func subject(t *testing.T, spoil func(*faulty)) providertest.Subject {
	t.Helper()
	cloud := memory.New(time.Now)
	f := &faulty{Provider: cloud}
	if spoil != nil {
		spoil(f)
	}
	if err := cloud.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	disk := []byte("not a disk")
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	image := providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	return providertest.Subject{
		Provider: f, Settings: []byte("{}"), Image: image, Faults: cloud,
		Spec:     providers.Spec{Release: image.Release, DataBytes: 1 << 20, Config: []byte("config")},
		Patience: 200 * time.Millisecond,
	}
}

// The suite notices what it is for.
func TestMistakesAreNoticed(t *testing.T) {
	for _, w := range wrongs {
		t.Run(strings.ReplaceAll(w.mistake, " ", "-"), func(t *testing.T) {
			t.Parallel()
			r, err := providertest.Check(t.Context(), subject(t, w.make), providertest.Options{Only: []string{w.noticed}})
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() || r.Count(providertest.Failed) != 1 {
				t.Errorf("%s was not noticed by %s: %+v", w.mistake, w.noticed, r)
			}
			if len(r.Cases) == 1 && len(r.Cases[0].Said) == 0 {
				t.Error("the case does not say why it failed")
			}
		})
	}
}

// What is wrong with nothing passes, and a leak is counted.
func TestReports(t *testing.T) {
	names := []string{"info-says-who-it-is", "console-of-nothing-is-not-found", "a-killed-plugin-finds-its-machines-again", "delete-of-nothing-is-fine"}
	var started []string
	s := subject(t, nil)
	s.Name = `it's <"odd">`
	r, err := providertest.Check(t.Context(), s, providertest.Options{
		Only: names, Started: func(name string, _, _ int) { started = append(started, name) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Count(providertest.Passed) != 3 || r.Count(providertest.Skipped) != 1 || len(started) != len(names) {
		t.Errorf("%+v, started %v", r, started)
	}
	var text, object, junit bytes.Buffer
	if err := errors.Join(r.WriteText(&text), r.WriteJSON(&object), r.WriteJUnit(&junit)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "the capability process is not offered") || !strings.HasSuffix(text.String(), "3 passed, 0 failed, 1 skipped, 0 left behind\n") {
		t.Errorf("text:\n%s", text.String())
	}
	var back struct {
		Cases []struct{ Name, Outcome string }
	}
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || len(back.Cases) != len(names) {
		t.Errorf("JSON: %v\n%s", err, object.String())
	}
	var suite struct {
		Tests   int `xml:"tests,attr"`
		Skipped int `xml:"skipped,attr"`
		Cases   []struct {
			Name    string    `xml:"name,attr"`
			Skipped *struct{} `xml:"skipped"`
		} `xml:"testcase"`
	}
	if err := xml.Unmarshal(junit.Bytes(), &suite); err != nil || suite.Tests != len(suite.Cases) || suite.Skipped != 1 {
		t.Errorf("JUnit: %v %+v\n%s", err, suite, junit.String())
	}
}

func TestLeaksAreCounted(t *testing.T) {
	s := subject(t, func(f *faulty) {
		f.destroy = func(ctx context.Context, p *memory.Provider, id providers.MachineID, _ bool) error {
			return p.Delete(ctx, id, true)
		}
	})
	r, err := providertest.Check(t.Context(), s, providertest.Options{Only: []string{"get-is-the-same-again"}})
	if err != nil || r.OK() || r.Leaks != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestUnknownCasesAreRefused(t *testing.T) {
	if _, err := providertest.Check(t.Context(), subject(t, nil), providertest.Options{Only: []string{"no-such-case"}}); !errors.Is(err, providertest.ErrNoSuchCase) {
		t.Errorf("got %v", err)
	}
}

func TestNamesAreDistinct(t *testing.T) {
	names := providertest.Names()
	slices.Sort(names)
	if n := len(slices.Compact(names)); n < 80 || n != len(providertest.Names()) {
		t.Errorf("%d distinct names of %d", n, len(providertest.Names()))
	}
}

// A fault reaches a cloud in another process, and what it refuses comes back.
func TestFaultsTravel(t *testing.T) {
	cloud := memory.New(time.Now)
	server := httptest.NewServer(providertest.InjectorHandler(cloud))
	defer server.Close()
	remote := &providertest.RemoteInjector{URL: server.URL, Client: server.Client()}
	if err := cloud.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := remote.Inject(t.Context(), providertest.Fault{Kind: providertest.FaultUnavailable}); err != nil {
		t.Fatal(err)
	}
	if _, err := cloud.Offerings(t.Context()); providers.CodeOf(err) != providers.CodeUnavailable {
		t.Errorf("Offerings answered %v", err)
	}
	if err := remote.Inject(t.Context(), providertest.Fault{Kind: "flood"}); !errors.Is(err, providertest.ErrNoSuchFault) {
		t.Errorf("an unknown fault: %v", err)
	}
	if err := remote.Inject(t.Context(), providertest.Fault{Kind: providertest.FaultCrash, Machine: "none"}); err == nil || errors.Is(err, providertest.ErrNoSuchFault) {
		t.Errorf("a crash of nothing: %v", err)
	}
	if err := remote.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	for _, body := range []string{`{"kind":1}`, `{`, `{"kind":"lag","other":1}`, strings.Repeat(" ", 5000) + `{}`} {
		resp, err := server.Client().Post(server.URL, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20q: %s", body, resp.Status)
		}
	}
}

// anyKey is a key of nobody's, with the error given.
func anyKey(err error) ([]byte, error) {
	key, drawErr := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if drawErr != nil {
		return nil, drawErr
	}
	public, encodeErr := x509.MarshalPKIXPublicKey(key.Public())
	return public, errors.Join(err, encodeErr)
}
