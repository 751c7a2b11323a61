package ingress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/problem"
)

// still is an unclaimed machine whose TPM answers at once.
type still struct{}

func (still) Evidence(attest.Channel, attest.Nonce) ([]byte, error) { return []byte("evidence"), nil }
func (still) Activate(attest.Channel, []byte, []byte) (attest.Digest, error) {
	return attest.Digest{}, errors.New("no credential")
}
func (still) Owner() *ownership.Claim                       { return nil }
func (still) Claim(context.Context, *ownership.Claim) error { return attest.ErrClaim }
func (still) Trying() bool                                  { return false }
func (still) ShownUpdate() (channel.Update, error)          { return channel.Update{Number: 1}, nil }
func (still) ApproveUpdate([]byte) error                    { return attest.ErrClaim }
func (still) Left() (*seal.Left, error)                     { return nil, nil }
func (still) Recover(context.Context, *ownership.Claim, seal.VolumeID, []byte) error {
	return seal.ErrNothingLeft
}

// open serves an ingress that waits for a stranger as long as patience.
func open(t *testing.T, patience time.Duration) string {
	t.Helper()
	return openOn(t, still{}, patience)
}

func openOn(t *testing.T, m Machine, patience time.Duration) string {
	t.Helper()
	return openWith(t, m, http.DefaultTransport, patience)
}

func openWith(t *testing.T, m Machine, payload http.RoundTripper, patience time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &Ingress{
		Machine: m, Rand: rand.Reader, Payload: payload, patience: patience,
		Output: func() []byte { return []byte("printed") },
	}
	if p, ok := m.(http.RoundTripper); ok {
		d.Payload = p
	}
	if d.Certificate, d.SPKI, err = channel.NewCertificate(rand.Reader); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.Serve(ctx, l) //nolint:errcheck // it ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-served })
	return l.Addr().String()
}

// slow begins a request whose body never comes.
func slow(t *testing.T, address, path string) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", address, channel.ClientConfigTrustingEvidenceAlone())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Strangers who send their bodies slowly keep nobody from the TPM.
func TestSlowBodiesHoldNothingUp(t *testing.T) {
	address := open(t, time.Minute)
	for range maxBusy {
		for _, path := range []string{channel.ClaimPath, channel.ActivationPath} {
			// The ingress says to go on only once it reads, so it is held by then.
			b := make([]byte, len("HTTP/1.1 100"))
			if _, err := io.ReadFull(slow(t, address, path), b); err != nil || string(b) != "HTTP/1.1 100" {
				t.Fatalf("%q, error %v", b, err)
			}
		}
	}
	conn, err := channel.Dial(t.Context(), &url.URL{Scheme: "https", Host: address})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Call(t.Context(), "GET", channel.EvidencePath+"?nonce="+strings.Repeat("0", 64), "", nil, 1<<10); err != nil {
		t.Errorf("evidence: %v", err)
	}
}

// held is a machine whose TPM answers once it is let go.
type held struct {
	still
	entered, release chan struct{}
}

func (m held) Activate(attest.Channel, []byte, []byte) (attest.Digest, error) {
	m.entered <- struct{}{}
	<-m.release
	return attest.Digest{}, nil
}

// The TPM works for so many at once; whoever comes after them is told when to
// come again, at once. Evidence is not among that work: it is shared.
func TestWorkForTheTPMIsCapped(t *testing.T) {
	m := held{entered: make(chan struct{}), release: make(chan struct{})}
	address := openOn(t, m, time.Minute)
	body, err := canon.Marshal(channel.ActivationRequest{CredentialBlob: []byte{1}, EncryptedSecret: []byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, target string, body []byte) error {
		conn, err := channel.Dial(t.Context(), &url.URL{Scheme: "https", Host: address})
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Call(t.Context(), method, target, channel.ContentType, body, 1<<10)
		return err
	}
	ask := func() error { return call("POST", channel.ActivationPath, body) }
	answers := make(chan error, maxBusy)
	for range maxBusy {
		go func() { answers <- ask() }()
		<-m.entered
	}
	var status *channel.StatusError
	if err := ask(); !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable || status.RetryAfter <= 0 {
		t.Errorf("one more than %d: %v", maxBusy, err)
	}
	if err := call("GET", channel.EvidencePath+"?nonce="+strings.Repeat("0", 64), nil); err != nil {
		t.Errorf("evidence meanwhile: %v", err)
	}
	close(m.release)
	for range maxBusy {
		if err := <-answers; err != nil {
			t.Errorf("one of the first %d: %v", maxBusy, err)
		}
	}
}

// A request that never ends is ended.
func TestSlowBodiesAreCutOff(t *testing.T) {
	address := open(t, 50*time.Millisecond)
	for _, path := range []string{channel.ClaimPath, channel.ActivationPath, "/api/x"} {
		conn := slow(t, address, path)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: still open: %v", path, err)
		}
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// One source has so many connections at most, and leaves room for others.
func TestConnectionsOfOneSourceAreCapped(t *testing.T) {
	address := open(t, time.Minute)
	for range maxPerSource {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Sooner than one that says nothing is ended.
	if err := conn.SetReadDeadline(time.Now().Add(headerTimeout / 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("one more than %d: %v", maxPerSource, err)
	}
}

// One connection carries one request after another, whatever a client offers.
func TestOnlyHTTP1(t *testing.T) {
	config := channel.ClientConfigTrustingEvidenceAlone()
	config.NextProtos = []string{"h2", "http/1.1"}
	conn, err := tls.Dial("tcp", open(t, time.Minute), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("the ingress speaks %q", got)
	}
}

// A path of the machine's own takes its methods alone, and says which: nothing
// of it reaches the payload.
func TestWrongMethods(t *testing.T) {
	address := open(t, time.Minute)
	for path, allow := range map[string]string{
		channel.EvidencePath: "GET, HEAD", channel.ActivationPath: "POST", channel.ClaimPath: "GET, HEAD, POST",
		channel.ClaimDocumentPath: "GET, HEAD", channel.OutputPath: "GET, HEAD",
	} {
		conn, err := channel.Dial(t.Context(), &url.URL{Scheme: "https", Host: address})
		if err != nil {
			t.Fatal(err)
		}
		req, err := conn.Request(t.Context(), http.MethodPut, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := conn.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != allow ||
			resp.Header.Get("Content-Type") != problem.ContentType {
			t.Errorf("%s: %s, allow %q, %s", path, resp.Status, resp.Header.Get("Allow"), resp.Header.Get("Content-Type"))
		}
		resp.Body.Close()
		conn.Close()
	}
}

// A stranger who asks and asks and takes no answer is cut off, whatever it is
// that they ask for.
func TestAnswersThatNobodyTakes(t *testing.T) {
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := ownership.Sign(owner, ownership.Body{AKName: make([]byte, 34), Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte{9}})
	if err != nil {
		t.Fatal(err)
	}
	address := open(t, 100*time.Millisecond)
	for name, request := range map[string]string{
		"evidence": fmt.Sprintf("GET %s?nonce=%064d HTTP/1.1\r\nHost: x\r\n\r\n", channel.EvidencePath, 0),
		"a claim":  fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", channel.ClaimPath, len(claim.Encode()), claim.Encode()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := tls.Dial("tcp", address, channel.ClientConfigTrustingEvidenceAlone())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetWriteDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = io.WriteString(conn, strings.Repeat(request, 100))
			}
			if isTimeout(err) {
				t.Errorf("still open: %v", err)
			}
		})
	}
}

// owned is a machine with an owner.
type owned struct {
	still
	claim *ownership.Claim
}

func (m owned) Owner() *ownership.Claim { return m.claim }

// switching is a payload that switches protocols unasked, on a connection that
// says when it was closed.
type switching struct{ closed chan struct{} }

func (p switching) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}, Request: r,
		Body: struct {
			io.ReadWriter
			io.Closer
		}{new(bytes.Buffer), closer(func() { close(p.closed) })},
	}, nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

// A payload cannot use up the agent's descriptors by switching protocols that
// nobody asked for.
func TestProtocolSwitchedUnasked(t *testing.T) {
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := ownership.Sign(owner, ownership.Body{AKName: make([]byte, 34), Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte{9}})
	if err != nil {
		t.Fatal(err)
	}
	payload := switching{make(chan struct{})}
	conn, err := channel.Dial(t.Context(), &url.URL{Scheme: "https", Host: openWith(t, owned{claim: claim}, payload, time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, err := conn.Request(t.Context(), http.MethodGet, "/api/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(ownership.Header, ownership.Token(owner, conn.Channel))
	resp, err := conn.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("answered %s", resp.Status)
	}
	select {
	case <-payload.closed:
	case <-time.After(5 * time.Second):
		t.Error("the connection to the payload is open")
	}
}

// What leads nowhere at all is answered with a problem too.
func TestNoPath(t *testing.T) {
	conn, err := tls.Dial("tcp", open(t, time.Minute), channel.ClientConfigTrustingEvidenceAlone())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != problem.ContentType {
		t.Errorf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
}
