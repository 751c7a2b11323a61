package agent_test

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/ingress"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

func TestOwnerTalksToTheirMachine(t *testing.T) {
	m, keys, pin := claimed(t)
	client := &http.Client{Transport: &client.Transport{
		Trust: m.trust(), Machine: m.url, Pin: pin, Keys: keys, Lifetime: time.Minute,
	}}
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url.String()+"/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{
			"Authorization": {"Bearer mine"}, ownership.Header: {"forged"}, ingress.OwnerHeader: {"forged", "twice"},
			"Connection": {ingress.OwnerHeader},
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := fmt.Sprintf(`/api/x authorization=["Bearer mine"] token=[] owner=["%x"]`, keys.Owner.Public())
		if err != nil || string(b) != want {
			t.Errorf("answer %q, want %q, error %v: the token goes no further than the ingress, whose word is its own", b, want, err)
		}
	}
	if got := strings.Join(m.data.mounted, " "); got != "memory "+m.disk {
		t.Errorf("mounted %s", got)
	}
}

// The claim and the data's place outlive a reboot, with another TLS key.
func TestClaimOutlivesReboot(t *testing.T) {
	m, keys, pin := claimed(t)
	m.reboot()
	s, err := m.trust().Connect(t.Context(), m.url, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Claim(t.Context(), keys); err != nil {
		t.Errorf("the owner claims again: %v", err)
	}
	refused(t, s.Claim(t.Context(), newKeys(t)), attest.ErrClaim)
	if got := strings.Join(m.data.mounted, " "); got != m.disk {
		t.Errorf("mounted %s", got)
	}
}

// A volume that does not mount keeps the machine up, so that its owner can see
// that it is still theirs; nothing of it is served.
func TestBrokenVolumeStaysVisible(t *testing.T) {
	m, keys, pin := claimed(t)
	m.broken = errors.New("bad superblock")
	m.reboot()
	client := &http.Client{Transport: &client.Transport{
		Trust: m.trust(), Machine: m.url, Pin: pin, Keys: keys, Lifetime: time.Minute,
	}}
	resp, err := client.Get(m.url.String() + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// A WebSocket's kind of request passes the ingress and the owner's own proxy.
func TestUpgradedConnection(t *testing.T) {
	m, keys, pin := claimed(t)
	transport := &client.Transport{Trust: m.trust(), Machine: m.url, Pin: pin, Keys: keys, Lifetime: time.Minute}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(m.url) }, Transport: transport,
	})
	defer proxy.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL+"/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatalf("answered %d with a %T", resp.StatusCode, resp.Body)
	}
	if _, err := io.WriteString(stream, "hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(stream, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, error %v", b, err)
	}
}

// A transport that no claim is pinned for sends nothing.
func TestTransportNeedsAClaim(t *testing.T) {
	m, keys, pin := claimed(t)
	pin.Claim = attest.Digest{}
	client := &http.Client{Transport: &client.Transport{
		Trust: m.trust(), Machine: m.url, Pin: pin, Keys: keys, Lifetime: time.Minute,
	}}
	resp, err := client.Get(m.url.String() + "/api/x")
	if err == nil {
		resp.Body.Close()
	}
	refused(t, err, attest.ErrPolicy)
}

// No request of a stranger's passes the ingress: before the claim nobody's does.
func TestIngressIsClosedToStrangers(t *testing.T) {
	m := newMachine(t)
	status := func(header string) int {
		conn, err := channel.Dial(t.Context(), m.url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url.String()+"/api/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(ownership.Header, header)
		resp, err := conn.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := status(""); got != http.StatusForbidden {
		t.Errorf("unclaimed: %d", got)
	}
	keys := newKeys(t)
	s, err := m.trust().Connect(t.Context(), m.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Claim(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"no token": "", "another scheme": "Bearer x", "another owner's": s.Token(newKeys(t)),
		"this owner's for another connection": s.Token(keys),
	} {
		if got := status(header); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
}

// A claim is made on the connection that asked for its nonce, once.
func TestClaimIsBoundToItsNonce(t *testing.T) {
	m := newMachine(t)
	keys := newKeys(t)
	connect := func() *client.Session {
		s, err := m.trust().Connect(t.Context(), m.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first := connect()
	var status *channel.StatusError
	_, err := first.Conn.Call(t.Context(), "POST", channel.ClaimPath, channel.ContentType, []byte("nonsense"), 1<<10)
	if !errors.As(err, &status) || status.Code != http.StatusBadRequest {
		t.Errorf("nonsense for a claim: %v", err)
	}
	_, err = first.Conn.Call(t.Context(), "POST", channel.ClaimPath, channel.ContentType, make([]byte, channel.MaxRequestBytes+1), 1<<10)
	if !errors.As(err, &status) || status.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too long a claim: %v", err)
	}
	late := connect()
	if err := connect().Claim(t.Context(), keys); err != nil {
		t.Error(err)
	}
	// Whoever looked before the claim and comes after it is too late.
	err = late.Claim(t.Context(), newKeys(t))
	if !errors.As(err, &status) || status.Code != http.StatusConflict {
		t.Errorf("a claim on a claimed machine: %v", err)
	}
}

// What stands between is refused, whatever it passes on: CVE-2026-33697's
// class.
func TestProxyThatTerminatesTLS(t *testing.T) {
	m := newMachine(t)
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(m.url) },
		Transport: &http.Transport{TLSClientConfig: channel.ClientConfigTrustingEvidenceAlone()},
	})
	proxy.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	proxy.StartTLS()
	defer proxy.Close()
	_, err := m.trust().Connect(t.Context(), parse(t, proxy.URL), nil)
	refused(t, err, attest.ErrBinding)
}

// A machine that leaked its TLS key gives its thief nothing: the exporter is
// another connection's.
func TestRelayWithTheMachinesOwnKey(t *testing.T) {
	m := newMachine(t)
	relay := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(m.url) },
		Transport: &http.Transport{TLSClientConfig: channel.ClientConfigTrustingEvidenceAlone()},
	}
	_, err := m.trust().Connect(t.Context(), parse(t, serveTLS(t, m, relay.ServeHTTP)), nil)
	refused(t, err, attest.ErrBinding)
}

// Evidence of another time is refused, also on the right connection.
func TestReplayedEvidence(t *testing.T) {
	m := newMachine(t)
	var kept []byte
	replay := serveTLS(t, m, func(w http.ResponseWriter, r *http.Request) {
		ch, err := channel.FromState(*r.TLS, attest.RoleServe, m.Ingress().SPKI)
		if err != nil {
			t.Error(err)
		}
		if kept == nil {
			nonce, err := hex.DecodeString(r.URL.Query().Get("nonce"))
			if err != nil {
				t.Error(err)
			}
			if kept, err = m.Evidence(ch, attest.Nonce(nonce)); err != nil {
				t.Error(err)
			}
		}
		w.Write(kept) //nolint:errcheck // the client's error tells
	})
	for range 2 {
		_, err := m.trust().Connect(t.Context(), parse(t, replay), nil)
		if err == nil {
			t.Error("accepted without an activation")
		}
		if kept != nil && errors.Is(err, attest.ErrStale) {
			return
		}
	}
	t.Error("evidence for another nonce was not refused as stale")
}

func TestWhatIsNoMachine(t *testing.T) {
	m := newMachine(t)
	any := httptest.NewUnstartedServer(http.NotFoundHandler())
	any.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	any.StartTLS()
	defer any.Close()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12} //nolint:gosec // that is the point
	old.StartTLS()
	defer old.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for name, c := range map[string]struct {
		url  string
		want error
	}{
		"any https server": {any.URL, attest.ErrMalformed},
		"tls 1.2":          {old.URL, attest.ErrBinding},
		"plain http":       {strings.Replace(plain.URL, "http:", "https:", 1), attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.trust().Connect(t.Context(), parse(t, c.url), nil)
			refused(t, err, c.want)
		})
	}
}

// What was accepted once is not replaced without a word.
func TestPinnedMachine(t *testing.T) {
	m, _, pin := claimed(t)
	connect := func(change func(*client.Pin)) error {
		p := pin
		change(&p)
		s, err := m.trust().Connect(t.Context(), m.url, &p)
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := connect(func(*client.Pin) {}); err != nil {
		t.Error(err)
	}
	refused(t, connect(func(p *client.Pin) { p.AK = append([]byte{1}, p.AK[1:]...) }), attest.ErrIdentity)
	refused(t, connect(func(p *client.Pin) { p.EK[0]++ }), attest.ErrIdentity)
	refused(t, connect(func(p *client.Pin) { p.Claim[0]++ }), attest.ErrClaim)
	trust := m.trust()
	trust.Policy.EpochFloor = 2
	_, err := trust.Connect(t.Context(), m.url, nil)
	refused(t, err, attest.ErrRefused)
}

// A release counts by its signature, whoever brings it.
func TestReleaseOfAnotherPublisher(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	m.SetReferenceValues(other.endorsement("1.0.0"))
	_, err := m.trust().Connect(t.Context(), m.url, nil)
	refused(t, err, attest.ErrSignature)
	m.SetReferenceValues(api.EnrolResult{})
	_, err = m.trust().Connect(t.Context(), m.url, nil)
	refused(t, err, attest.ErrRelease)
}

// Another release's machine is refused, and the register that differs named.
func TestAnotherReleasesMachine(t *testing.T) {
	m := newMachine(t)
	if err := extend(m, 11); err != nil {
		t.Fatal(err)
	}
	_, err := m.trust().Connect(t.Context(), m.url, nil)
	var refusal *client.RefusedError
	if !errors.As(err, &refusal) || strings.Join(refusal.Result.Differs, " ") != "pcr11" {
		t.Errorf("error %v", err)
	}
	refused(t, err, attest.ErrRegisters)
}

// extend changes a register of the running machine.
func extend(m *machine, register uint8) error {
	tpm, err := attester.Open(m.device)
	if err != nil {
		return err
	}
	return tpm.Extend(register, attest.Digest{1})
}

// serveTLS answers under the machine's own key.
func serveTLS(t *testing.T, m *machine, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.TLS = channel.ServerConfig(m.Ingress().Certificate)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
