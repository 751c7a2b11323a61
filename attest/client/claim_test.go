package client

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// serve answers as a machine does, but for its evidence.
func serve(t *testing.T, h http.HandlerFunc) *url.URL {
	t.Helper()
	certificate, _, err := channel.NewCertificate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.TLS = channel.ServerConfig(certificate)
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func dial(t *testing.T, machine *url.URL) *channel.Conn {
	t.Helper()
	c, err := channel.Dial(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func newKeys(t *testing.T) Keys {
	t.Helper()
	keys, err := ClientState{Dir: t.TempDir()}.Keys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func sign(t *testing.T, keys Keys, name []byte, nonce byte) *ownership.Claim {
	t.Helper()
	c, err := ownership.Sign(keys.Owner, ownership.Body{
		AKName: name, Nonce: attest.Nonce{nonce}, Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: keys.recipient(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A claim that a machine holds already is the owner's where the document is
// what was measured, signed with the owner's key, and made for this machine.
func TestClaimThatIsThere(t *testing.T) {
	keys := newKeys(t)
	name, other := append([]byte{0, 0x0b}, make([]byte, 32)...), append([]byte{0, 0x0b, 1}, make([]byte, 31)...)
	own := sign(t, keys, name, 1)
	foreign, elsewhere := sign(t, newKeys(t), name, 1), sign(t, keys, other, 1)
	for what, c := range map[string]struct {
		measured, shown *ownership.Claim
		status          int
		want            error
	}{
		"own":                  {own, own, http.StatusOK, nil},
		"not the measured one": {own, sign(t, keys, name, 2), http.StatusOK, attest.ErrClaim},
		"another owner's":      {foreign, foreign, http.StatusOK, attest.ErrClaim},
		"another machine's":    {elsewhere, elsewhere, http.StatusOK, attest.ErrClaim},
		"not shown":            {own, own, http.StatusUnauthorized, attest.ErrClaim},
	} {
		t.Run(what, func(t *testing.T) {
			conn := dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				w.Write(c.shown.Encode()) //nolint:errcheck // the client sees
			}))
			s := &Session{Conn: conn, Evidence: &verifier.Verified{AK: name, Claim: c.measured.Digest()}}
			if err := s.Claim(t.Context(), keys); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// What was accepted of a machine before is what it has to be.
func TestPinDecides(t *testing.T) {
	pin := Pin{AK: []byte{1}, EK: attest.Digest{2}, Claim: attest.Digest{3}}
	s := &Session{pin: &pin}
	good := verifier.Verified{AK: pin.AK, EK: pin.EK, Claim: pin.Claim}
	accepted := attest.AttestationResult{Status: attest.Affirming}
	for _, d := range attest.Dimensions {
		accepted.Findings = append(accepted.Findings, attest.Finding{Dimension: d, Verdict: attest.Affirming})
	}
	for name, c := range map[string]struct {
		change   func(*verifier.Verified)
		identity error
		accept   error
	}{
		"the same":          {func(*verifier.Verified) {}, nil, nil},
		"another key":       {func(v *verifier.Verified) { v.AK = []byte{9} }, attest.ErrIdentity, nil},
		"another TPM":       {func(v *verifier.Verified) { v.EK = attest.Digest{9} }, attest.ErrIdentity, nil},
		"another claim":     {func(v *verifier.Verified) { v.Claim = attest.Digest{9} }, nil, attest.ErrClaim},
		"no claim any more": {func(v *verifier.Verified) { v.Claim = attest.Digest{} }, nil, attest.ErrClaim},
	} {
		v := good
		c.change(&v)
		if how, err := s.activation(t.Context(), &v); !errors.Is(err, c.identity) || err == nil && how != verifier.ActivatedBefore {
			t.Errorf("%s: activation %v, error %v, want %v", name, how, err, c.identity)
		}
		if err := s.accept(&v, accepted); !errors.Is(err, c.accept) {
			t.Errorf("%s: error %v, want %v", name, err, c.accept)
		}
	}
	refused := accepted
	refused.Findings = nil
	var refusal *RefusedError
	if err := s.accept(&good, refused); !errors.As(err, &refusal) {
		t.Errorf("what establishes nothing: %v", err)
	}
}
