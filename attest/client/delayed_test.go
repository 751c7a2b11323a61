package client_test

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// shows has a machine show its own registers as a release of key.
func shows(t *testing.T, m *verifiertest.Machine, key logtest.ReleaseKey) {
	t.Helper()
	manifest, err := release.ParseManifest(logtest.NewRelease(t, key, 3).Manifest)
	if err != nil {
		t.Fatal(err)
	}
	manifest.Boots[0].SHA256 = m.Release.Boots[0].SHA256
	encoded, err := manifest.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.Values = evidence.ReferenceValues{Manifest: encoded, Bundle: logtest.NewBundle(t, key, encoded)}
}

// listen answers for evidence on TLS; before is called ahead of each answer.
func listen(t *testing.T, m *verifiertest.Machine, before func()) *url.URL {
	t.Helper()
	return listenBeside(t, m, before, nil)
}

// listenBeside has beside answer whatever else is asked for.
func listenBeside(t *testing.T, m *verifiertest.Machine, before func(), beside http.HandlerFunc) *url.URL {
	t.Helper()
	certificate, spki, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if beside != nil && r.URL.Path != channel.EvidencePath {
			beside(w, r)
			return
		}
		ch, err := channel.FromState(*r.TLS, attest.RoleServe, spki)
		nonce, bad := hex.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil || bad != nil || len(nonce) != len(attest.Nonce{}) {
			t.Errorf("%v, %v", err, bad)
			return
		}
		b, err := m.Ask(attest.Nonce(nonce), ch, attest.Digest{})
		if err != nil {
			t.Error(err)
		}
		before()
		w.Write(b) //nolint:errcheck // the client's error tells
	}))
	server.TLS = channel.ServerConfig(certificate)
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Whoever is between can keep an answer for hours: what it shows is as old as
// the nonce, and so is the trust in it.
func TestTrustBeginsWithTheNonce(t *testing.T) {
	m, key := verifiertest.Boot(t), logtest.NewReleaseKey(t)
	shows(t, m, key)
	asked := time.Now()
	var kept atomic.Int64
	machine := listen(t, m, func() { kept.Store(int64(time.Hour)) })
	trust := trusting(m, key)
	trust.Now = func() time.Time { return asked.Add(time.Duration(kept.Load())) }
	ek, err := keyOf(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.Connect(t.Context(), machine, &client.Pin{AK: m.TPM.AKName(), EK: ek})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if late := s.VerifiedAt.Sub(asked); late > 0 {
		t.Errorf("verified as of %s after the nonce was drawn", late)
	}
	if s.Evidence.EK != ek {
		t.Error("another machine")
	}
}

// trusting is what a client trusts that accepts the machine.
func trusting(m *verifiertest.Machine, key logtest.ReleaseKey) client.Trust {
	p := m.Policy()
	p.Releases = nil
	return client.Trust{
		ReleaseKey: key.Public(), Policy: p, Verifier: new(verifier.Verifier), Log: release.LogPolicy{NotRequired: true},
		Now: time.Now, Rand: rand.Reader,
	}
}

// keyOf is the id of the machine's endorsement key.
func keyOf(m *verifiertest.Machine) (attest.Digest, error) {
	ek, err := tpm.ParseEK(m.TPM.EKCertificate())
	if err != nil {
		return attest.Digest{}, err
	}
	return ek.ID, nil
}
