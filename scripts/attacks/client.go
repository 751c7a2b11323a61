package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// served is a machine that answers its owner's client on loopback.
type served struct {
	tb          testing.TB
	machine     *verifiertest.Machine
	certificate tls.Certificate
	spki        []byte
	values      evidence.ReferenceValues
	key         logtest.ReleaseKey
	url         *url.URL
	claim       attest.Digest
}

func serve(tb testing.TB, key logtest.ReleaseKey) (*served, error) {
	s := &served{tb: tb, machine: verifiertest.Boot(tb), key: key}
	manifest, err := s.machine.Manifest()
	if err != nil {
		return nil, err
	}
	s.values = evidence.ReferenceValues{Manifest: manifest, Bundle: logtest.NewBundle(tb, key, manifest)}
	tlsKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("drawing a tls key: %w", err)
	}
	if s.certificate, s.spki, err = channel.CertificateFor(rand.Reader, tlsKey); err != nil {
		return nil, err
	}
	s.url = listen(tb, s.certificate, http.HandlerFunc(s.answer))
	return s, nil
}

// listen serves a handler by TLS 1.3 on loopback for as long as the test.
func listen(tb testing.TB, certificate tls.Certificate, h http.Handler) *url.URL {
	server := httptest.NewUnstartedServer(h)
	server.TLS = channel.ServerConfig(certificate)
	server.StartTLS()
	tb.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func (s *served) answer(w http.ResponseWriter, r *http.Request) {
	ch, err := channel.FromState(*r.TLS, attest.RoleServe, s.spki)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var b []byte
	switch r.URL.Path {
	case channel.EvidencePath:
		b, err = s.evidence(ch, r.URL.Query().Get("nonce"))
	case channel.ActivationPath:
		b, err = s.activate(ch, r.Body)
	default:
		b = []byte("served")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(b) //nolint:errcheck // the other side is gone
}

func (s *served) evidence(ch attest.Channel, text string) ([]byte, error) {
	var nonce attest.Nonce
	if _, err := hex.Decode(nonce[:], []byte(text)); err != nil {
		return nil, fmt.Errorf("nonce: %w", err)
	}
	return s.machine.TPM.Evidence(attester.Subject{
		Channel: ch, Nonce: nonce, Config: attest.ConfigDigest(s.machine.Config), Claim: s.claim, ReferenceValues: s.values,
	})
}

func (s *served) activate(ch attest.Channel, body io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, channel.MaxRequestBytes))
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	var req channel.ActivationRequest
	if err := canon.Unmarshal("activation request", b, channel.MaxRequestBytes, &req); err != nil {
		return nil, err
	}
	answer, err := s.machine.TPM.Activate(ch, req.CredentialBlob, req.EncryptedSecret)
	return answer[:], err
}

func (s *served) trust() client.Trust {
	p := s.machine.Policy()
	return client.Trust{
		ReleaseKey: s.key.Public(), Policy: p, Log: release.LogPolicy{NotRequired: true},
		Verifier: new(verifier.Verifier), Now: time.Now, Rand: rand.Reader,
	}
}

func (s *served) connect(at *url.URL, pin *client.Pin) (*client.Session, outcome) {
	session, err := s.trust().Connect(s.tb.Context(), at, pin)
	return session, outcome{accepted: err == nil, err: err}
}

// onClient are the attacks on the connection and on what a client remembers.
func onClient(tb testing.TB) ([]attack, error) {
	key := logtest.NewReleaseKey(tb)
	s, err := serve(tb, key)
	if err != nil {
		return nil, err
	}
	other, err := serve(tb, key)
	if err != nil {
		return nil, err
	}
	session, good := s.connect(s.url, nil)
	if session == nil {
		return nil, fmt.Errorf("the good machine: %w", good.err)
	}
	defer session.Close()
	pin := session.Pin()
	add := func(name string, r reason, bad outcome) attack {
		return attack{name: name, reason: r, good: good, bad: bad}
	}
	proxied, err := s.proxied(tb)
	if err != nil {
		return nil, err
	}
	relayed := s.relayed(tb)
	claimed := pin
	claimed.Claim = attest.Digest{1}
	_, another := s.connect(other.url, &pin)
	_, foreign := s.connect(s.url, &claimed)
	return []attack{
		add("proxy that terminates TLS", reason{kind: attest.ErrBinding, says: "terminates tls"}, proxied),
		add("relay with the machine's stolen key", reason{kind: attest.ErrBinding}, relayed),
		add("another machine than the pinned one", reason{kind: attest.ErrIdentity, says: "another machine"}, another),
		add("machine that lost the owner's claim", reason{kind: attest.ErrClaim}, foreign),
		s.older(),
		s.expired(),
		s.switched(tb, other),
	}, nil
}

// proxied is a proxy with a key of its own, which forwards everything.
func (s *served) proxied(tb testing.TB) (outcome, error) {
	certificate, _, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		return outcome{}, err
	}
	_, o := s.connect(listen(tb, certificate, s.forward()), nil)
	return o, nil
}

// relayed is the same with the machine's own key.
func (s *served) relayed(tb testing.TB) outcome {
	_, o := s.connect(listen(tb, s.certificate, s.forward()), nil)
	return o
}

func (s *served) forward() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(s.url) },
		Transport: &http.Transport{TLSClientConfig: channel.ClientConfigTrustingEvidenceAlone()},
	}
}

func (s *served) older() attack {
	good, floor := s.trust(), s.trust()
	floor.Policy.EpochFloor = s.machine.Release.Epoch + 1
	ask := func(t client.Trust) outcome {
		session, err := t.Connect(s.tb.Context(), s.url, nil)
		if err == nil {
			session.Close() //nolint:errcheck // it was only asked whether it is had
		}
		var refused *client.RefusedError
		if errors.As(err, &refused) {
			return outcome{result: refused.Result}
		}
		return outcome{accepted: err == nil, err: err}
	}
	return attack{name: "release older than one that was accepted", reason: reason{kind: attest.ErrRelease, says: "epoch"}, good: ask(good), bad: ask(floor)}
}

// expired asks twice on one kept-alive connection, before and after its
// verification has expired.
func (s *served) expired() attack {
	var ahead atomic.Int64
	t := s.trust()
	t.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	d := &client.Dialer{Trust: t, Machine: s.url, Lifetime: time.Minute}
	conn, err := d.DialTLSContext(s.tb.Context(), "tcp", s.url.Host)
	if err != nil {
		return attack{name: "expired", good: outcome{err: err}}
	}
	defer conn.Close()
	ask := func() outcome {
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: machine\r\n\r\n")
		return outcome{accepted: err == nil, err: err}
	}
	good := ask()
	ahead.Store(int64(time.Minute))
	return attack{name: "trust expired on a kept-alive connection", reason: reason{kind: client.ErrExpired}, good: good, bad: ask()}
}

// switched has the machine's address lead to another machine once the first
// connection has gone.
func (s *served) switched(tb testing.TB, other *served) attack {
	var to atomic.Pointer[string]
	to.Store(&s.url.Host)
	address := pipe(tb, &to)
	session, _ := s.connect(s.url, nil)
	pin := session.Pin()
	session.Close() //nolint:errcheck // it was only for the pin
	transport := &client.Transport{Trust: s.trust(), Machine: &url.URL{Scheme: "https", Host: address}, Pin: pin, Lifetime: time.Minute}
	ask := func() outcome {
		resp, err := (&http.Client{Transport: transport}).Get("https://machine/")
		if err == nil {
			resp.Body.Close()
		}
		return outcome{accepted: err == nil, err: err}
	}
	good := ask()
	transport.Close()
	to.Store(&other.url.Host)
	bad := ask()
	transport.Close()
	return attack{name: "connection switched to another machine", reason: reason{kind: attest.ErrIdentity}, good: good, bad: bad}
}

// pipe forwards bytes to wherever it is told.
func pipe(tb testing.TB, to *atomic.Pointer[string]) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go forwardBytes(conn, *to.Load())
		}
	}()
	return listener.Addr().String()
}

func forwardBytes(conn net.Conn, address string) {
	defer conn.Close()
	up, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		io.Copy(up, conn) //nolint:errcheck // either end may go
		up.Close()
	}()
	io.Copy(conn, up) //nolint:errcheck // either end may go
}
