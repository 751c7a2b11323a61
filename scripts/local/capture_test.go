package main

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
)

// capturing names the directory to which SHED_CAPTURE has machines' proofs
// saved: the attack corpus reads them from scripts/attacks/testdata.
func capturing() string { return os.Getenv("SHED_CAPTURE") }

// clientFiles are what the owner's client judges by.
var clientFiles = []string{"policy.yaml", "release.pub", "ek-root.pem", "log.vkey", "witnesses"}

// capture saves what a machine proves to its owner's client, good or bad, with
// what that judges it by.
func (w *world) capture(name, machine string) {
	w.t.Helper()
	if capturing() == "" {
		return
	}
	dir := filepath.Join(capturing(), name)
	trust, err := readTrust(w.place.client())
	w.must(err)
	var saved *bundle.Bundle
	trust.Captured = func(b *bundle.Bundle) error { saved = b; return nil }
	u, err := url.Parse(machine)
	w.must(err)
	w.must(os.MkdirAll(dir, 0o755))
	session, err := trust.Connect(w.t.Context(), u, nil)
	if err == nil {
		w.must(os.WriteFile(filepath.Join(dir, "activation"), w.activation(session), 0o644))
		session.Close()
	} else if refused := (*client.RefusedError)(nil); !errors.As(err, &refused) {
		w.t.Fatal(err)
	}
	encoded, err := saved.Encode()
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "bundle"), encoded, 0o644))
	for _, file := range clientFiles {
		b, err := os.ReadFile(filepath.Join(w.place.client(), file))
		w.must(err)
		w.must(os.WriteFile(filepath.Join(dir, file), b, 0o644))
	}
}

// activation is the machine's answer to a challenge whose secret is 32 zero
// bytes, for whoever has the bundle to hold against.
func (w *world) activation(s *client.Session) []byte {
	w.t.Helper()
	challenge, err := s.Evidence.Challenge(zeros{})
	w.must(err)
	body, err := canon.Marshal(channel.ActivationRequest{
		CredentialBlob: challenge.CredentialBlob, EncryptedSecret: challenge.EncryptedSecret,
	})
	w.must(err)
	answer, err := s.Conn.Call(w.t.Context(), http.MethodPost, channel.ActivationPath, channel.ContentType, body, channel.MaxRequestBytes)
	w.must(err)
	w.must(challenge.Answered(answer, s.Conn.Channel))
	return answer
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// captureAnother saves what a second machine of the same installation proves,
// and deletes it.
func (w *world) captureAnother(name string) {
	w.t.Helper()
	if capturing() == "" {
		return
	}
	w.signUp("another")
	i := w.ready("another")
	w.capture(name, i.URL)
	w.must(w.place.shed(w.t.Context(), nil, "instance", "delete", "--wait", i.ID))
}
