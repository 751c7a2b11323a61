package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
	"github.com/toolshed-cloud/shed/cmd/internal/scripttest"
)

// TestMachineScripts are scripts with machines to verify: real software TPMs
// behind TLS, that show a release and its proof in a log.
func TestMachineScripts(t *testing.T) {
	scripttest.Run(t, "testdata/machine", func(env *testscript.Env) error {
		setUpMachines(t, env)
		return nil
	})
}

// tiny is as much of a machine as a client verifies.
type tiny struct {
	t    *testing.T
	m    *verifiertest.Machine
	spki []byte
	// shown is the release that it shows.
	shown evidence.ReferenceValues
	// owned is nil for a machine that is never claimed.
	owned *owned
}

func setUpMachines(t *testing.T, env *testscript.Env) {
	good, altered := &tiny{t: t, m: verifiertest.Boot(t)}, &tiny{t: t, m: verifiertest.Boot(t)}
	key, log := logtest.NewReleaseKey(t), logtest.New(t, 2)
	good.shown = signed(t, key, log, good.m.Release)
	altered.shown = good.shown
	altered.m.Extend(t, 11, attest.Sum([]byte("something else")))
	for name, machine := range map[string]*tiny{"GOOD": good, "ALTERED": altered} {
		env.Setenv(name, machine.serve(env))
	}
	dir := filepath.Join(env.WorkDir, ".shed", "client")
	files := map[string][]byte{
		"release.pub": publicPEM(key), "other.pub": publicPEM(logtest.NewReleaseKey(t)),
		"ek-root.pem": append(certificatePEM(good.m), certificatePEM(altered.m)...),
		"log.vkey":    []byte(log.Policy().Log.String()),
	}
	for _, w := range log.Policy().Witnesses {
		files["witnesses"] = append(files["witnesses"], w.Key.String()+" dev\n"...)
	}
	for name, edit := range spoilt {
		files[name+".bundle"] = good.saved(edit)
	}
	write(t, dir, files)
}

// spoilt are bundles of a good machine that differ in one thing each; none is
// as it was.
var spoilt = map[string]func(*bundle.Bundle){
	"intact":        func(*bundle.Bundle) {},
	"nonce":         func(b *bundle.Bundle) { b.Nonce[0]++ },
	"exporter":      func(b *bundle.Bundle) { b.Channel.Exporter[0]++ },
	"spki":          func(b *bundle.Bundle) { b.Channel.SPKI[0]++ },
	"role":          func(b *bundle.Bundle) { b.Channel.Role = attest.RoleEnrol },
	"not-activated": func(b *bundle.Bundle) { b.Activation = bundle.NotActivated },
	"list":          func(b *bundle.Bundle) { b.RevocationLists = [][]byte{{1}} },
	"evidence":      func(b *bundle.Bundle) { b.Evidence = b.Evidence[:len(b.Evidence)-1] },
}

func (x *tiny) saved(edit func(*bundle.Bundle)) []byte {
	nonce, ch := attest.Nonce{1}, attest.Channel{Role: attest.RoleServe, SPKI: []byte("a key of its own"), Exporter: [32]byte{2}}
	b := &bundle.Bundle{
		SavedAt: time.Now(), Machine: "https://machine.example:443", Channel: ch, Nonce: nonce,
		Activation: bundle.ActivatedHere, Evidence: x.evidence(ch, nonce),
	}
	b.Channel.SPKI = append([]byte(nil), ch.SPKI...)
	edit(b)
	encoded, err := b.Encode()
	if err != nil {
		x.t.Fatal(err)
	}
	return encoded
}

func (x *tiny) evidence(ch attest.Channel, nonce attest.Nonce) []byte {
	subject := attester.Subject{Channel: ch, Nonce: nonce, Config: attest.ConfigDigest(x.m.Config), ReferenceValues: x.shown}
	if x.owned != nil && x.owned.claim != nil {
		subject.Claim = x.owned.claim.Digest()
	}
	b, err := x.m.TPM.Evidence(subject)
	if err != nil {
		x.t.Error(err)
	}
	return b
}

// signed is the machine's release as its publisher signs and logs it.
func signed(t *testing.T, key logtest.ReleaseKey, log *logtest.Log, booted *release.Manifest) evidence.ReferenceValues {
	t.Helper()
	m, err := release.ParseManifest(logtest.NewRelease(t, key, 3).Manifest)
	if err != nil {
		t.Fatal(err)
	}
	m.Boots[0].SHA256 = booted.Boots[0].SHA256
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	index := log.Add(logtest.EntryFor(t, key, m, manifest))
	return evidence.ReferenceValues{Manifest: manifest, Bundle: logtest.NewBundle(t, key, manifest), Proof: log.Document(index)}
}

func (x *tiny) serve(deferred interface{ Defer(func()) }) string {
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		x.t.Fatal(err)
	}
	x.spki = spki
	server := httptest.NewUnstartedServer(x)
	server.TLS = channel.ServerConfig(certificate)
	server.StartTLS()
	deferred.Defer(server.Close)
	return server.URL
}

// ServeHTTP answers for evidence and for activation.
func (x *tiny) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ch, err := channel.FromState(*r.TLS, attest.RoleServe, x.spki)
	if err != nil {
		x.t.Error(err)
		return
	}
	if x.serveOwner(w, r) {
		return
	}
	if r.URL.Path == channel.EvidencePath {
		nonce, err := hex.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil || len(nonce) != 32 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Write(x.evidence(ch, attest.Nonce(nonce))) //nolint:errcheck // the client's error tells
		return
	}
	body, err := io.ReadAll(r.Body)
	var asked channel.ActivationRequest
	if err != nil || canon.Unmarshal("activation", body, channel.MaxRequestBytes, &asked) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer, err := x.m.TPM.Activate(ch, asked.CredentialBlob, asked.EncryptedSecret)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Write(answer[:]) //nolint:errcheck // the client's error tells
}

func publicPEM(key logtest.ReleaseKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key.DER()})
}

func certificatePEM(m *verifiertest.Machine) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Device.Root.Raw})
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
