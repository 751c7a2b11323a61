package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
)

func newTransport(m *machine, keys client.Keys, pin client.Pin) *client.Transport {
	return &client.Transport{Trust: m.trust(), Machine: m.url, Pin: pin, Keys: keys, Lifetime: time.Minute}
}

// parallel runs f n times at once and answers how often it failed.
func parallel(t *testing.T, n int, f func(context.Context) error) (failed int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(ctx) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			failed++
			if failed == 1 {
				t.Errorf("the first of the failures: %v", err)
			}
		}
	}
	return failed
}

// However many requests an owner sends at once, each is answered, over a few
// connections that were verified once each.
func TestParallelRequests(t *testing.T) {
	m, keys, pin := claimed(t)
	through := newTransport(m, keys, pin)
	defer through.Close()
	drawn := &counting{Reader: through.Trust.Rand}
	through.Trust.Rand = drawn
	before := m.accepted.Load()
	const requests = 256
	failed := parallel(t, requests, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url.String()+"/api/x", nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: through}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	if failed > 0 {
		t.Errorf("%d of %d requests failed", failed, requests)
	}
	opened, verified := m.accepted.Load()-before, drawn.nonces.Load()
	if opened > 32 || verified != opened {
		t.Errorf("%d connections for %d requests, %d nonces drawn", opened, requests, verified)
	}
}

// counting counts the nonces that are drawn: each is one verification of a
// machine that is pinned.
type counting struct {
	io.Reader
	nonces atomic.Int64
}

func (c *counting) Read(b []byte) (int, error) {
	c.nonces.Add(1)
	return c.Reader.Read(b)
}

// A machine that is busy is waited for, and never taken for a bad one.
func TestParallelVerifications(t *testing.T) {
	m, _, pin := claimed(t)
	const verifications = 64
	failed := parallel(t, verifications, func(ctx context.Context) error {
		s, err := m.trust().Connect(ctx, m.url, &pin)
		if err != nil {
			return err
		}
		return s.Close()
	})
	if failed > 0 {
		t.Errorf("%d of %d verifications failed", failed, verifications)
	}
}

// Whoever stops waiting hears that the machine was busy, which is no refusal.
func TestBusyIsNoRefusal(t *testing.T) {
	m := newMachine(t)
	m.stop()
	busy := serveTLS(t, m, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := m.trust().Connect(ctx, parse(t, busy), nil)
	if !errors.Is(err, client.ErrBusy) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, attest.ErrRefused) {
		t.Errorf("error %v", err)
	}
}

// Trust in a connection ends with its lifetime, kept alive or not.
func TestTrustExpires(t *testing.T) {
	m, keys, pin := claimed(t)
	through := newTransport(m, keys, pin)
	defer through.Close()
	now := time.Now()
	through.Trust.Now = func() time.Time { return now }
	get := func() error {
		resp, err := (&http.Client{Transport: through}).Get(m.url.String() + "/api/x")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	// From here on the machine is another one.
	if err := extend(m, 11); err != nil {
		t.Fatal(err)
	}
	now = now.Add(through.Lifetime - time.Second)
	if err := get(); err != nil {
		t.Errorf("within its lifetime: %v", err)
	}
	now = now.Add(2 * time.Second)
	refused(t, get(), attest.ErrRegisters)
}

// What the payload prints is for its owner: nobody else gets it.
func TestOutputIsTheOwners(t *testing.T) {
	m, keys, pin := claimed(t)
	s, err := m.trust().Connect(t.Context(), m.url, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	output, err := s.Output(t.Context(), keys)
	if err != nil || !strings.Contains(string(output), "the payload's diary") {
		t.Errorf("output %q, error %v", output, err)
	}
	var status *channel.StatusError
	if output, err = s.Output(t.Context(), newKeys(t)); !errors.As(err, &status) || status.Code != http.StatusUnauthorized {
		t.Errorf("a stranger: %q, error %v", output, err)
	}
}

// Anyone may ask for evidence, and learns from it neither whose the machine is
// nor who runs it.
func TestEvidenceNamesNobody(t *testing.T) {
	m, keys, pin := claimed(t)
	s, err := m.trust().Connect(t.Context(), m.url, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	nonce := strings.Repeat("0", 64)
	shown, err := s.Conn.Call(t.Context(), "GET", channel.EvidencePath+"?nonce="+nonce, "", nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"the control plane's address": []byte("127.0.0.1:1"),
		"the machine's id":            []byte(strings.Repeat("a", 26)),
		"the owner's key":             keys.Owner.Public().(ed25519.PublicKey),
		"the recovery recipient":      keys.Recovery.PublicKey().Bytes(),
	} {
		if bytes.Contains(shown, secret) {
			t.Errorf("the evidence shows %s", name)
		}
	}
}

// failing fails commands of some codes for as long as it is broken.
type failing struct {
	transport.TPM
	codes  []tpm2.TPMCC
	broken bool
}

func (f *failing) Send(command []byte) ([]byte, error) {
	if f.broken && len(command) >= 10 {
		code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
		for _, c := range f.codes {
			if c == code {
				return nil, errors.New("the tpm does not answer")
			}
		}
	}
	return f.TPM.Send(command)
}

// A claim whose lock failed and that could not be taken back either is
// finished in the same boot, by the owner's next try.
func TestClaimIsFinishedInTheSameBoot(t *testing.T) {
	m := newMachine(t)
	device := &failing{codes: []tpm2.TPMCC{tpm2.TPMCCNVWriteLock, tpm2.TPMCCNVUndefineSpace}}
	m.wrap = func(under transport.TPM) transport.TPM {
		device.TPM = under
		return device
	}
	m.reboot()
	keys := newKeys(t)
	claim := func() error {
		s, err := m.trust().Connect(t.Context(), m.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Claim(t.Context(), keys)
	}
	device.broken = true
	switch err := claim(); {
	case err == nil:
		t.Fatal("a claim that is not locked was taken")
	case errors.Is(err, attest.ErrRefused):
		t.Errorf("a fault is said as something that does not add up: %v", err)
	}
	device.broken = false
	// The machine now finds what the first try left, and says so.
	var status *channel.StatusError
	if err := claim(); err != nil && (!errors.As(err, &status) || status.Code != http.StatusConflict) {
		t.Errorf("the next try: %v", err)
	}
	if err := claim(); err != nil {
		t.Errorf("the machine is its owner's: %v", err)
	}
	if got := m.data.mounted[len(m.data.mounted)-1]; got != m.disk {
		t.Errorf("mounted %s last", got)
	}
}
