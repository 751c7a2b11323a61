package voucher_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/orchestrator/voucher"
	"github.com/toolshed-cloud/shed/providers"
)

// cloud names keys by machine.
type cloud struct {
	keys  map[providers.MachineID][]byte
	asked int
	err   error
}

func (c *cloud) EndorsementKey(_ context.Context, id providers.MachineID) ([]byte, error) {
	c.asked++
	return c.keys[id], c.err
}

func encode(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func onCurve(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var now = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

func newVoucher(t *testing.T, c *cloud) *voucher.Voucher {
	t.Helper()
	key := onCurve(t, elliptic.P256())
	der, err := voucher.NewRoot(rand.Reader, key, "cumulus", now)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &voucher.Voucher{
		Provider: "cumulus", Endorser: c, Key: key, Root: root, Clock: func() time.Time { return now }, Random: rand.Reader,
	}
}

// What is certified verifies as any endorsement certificate, for each kind of
// key, and the provider is asked once.
func TestVouches(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.PublicKey{
		"P-256": onCurve(t, elliptic.P256()).Public(), "P-384": onCurve(t, elliptic.P384()).Public(), "RSA": small.Public(),
	} {
		der := encode(t, key)
		c := &cloud{keys: map[providers.MachineID][]byte{"one": der, "two": der}}
		v := newVoucher(t, c)
		first, err := v.Vouch(t.Context(), "one", attest.Sum(der))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := v.Vouch(t.Context(), "one", attest.Sum(der))
		if err != nil || !bytes.Equal(first, again) || c.asked != 1 {
			t.Errorf("%s: asked %d times, %v", name, c.asked, err)
		}
		if _, err := v.Vouch(t.Context(), "two", attest.Sum(der)); err != nil || c.asked != 2 {
			t.Errorf("%s: another machine's word was taken: asked %d times, %v", name, c.asked, err)
		}
		ek, err := tpm.ParseEK(first)
		if err != nil || ek.ID != attest.Sum(der) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, at := range []time.Time{now.Add(-30 * time.Minute), now, now.AddDate(30, 0, 0)} {
			if _, err := ek.Path(nil, v.Anchor().Certificate, at); err != nil {
				t.Errorf("%s at %s: %v", name, at, err)
			}
		}
		if _, err := ek.Path(nil, newVoucher(t, c).Root, now); !errors.Is(err, attest.ErrIdentity) {
			t.Errorf("%s: another control plane's root accepts it: %v", name, err)
		}
	}
}

func TestDoesNotVouch(t *testing.T) {
	named, other := encode(t, onCurve(t, elliptic.P384()).Public()), encode(t, onCurve(t, elliptic.P384()).Public())
	outage := providers.Errorf(providers.CodeUnavailable, "the region is down")
	for name, c := range map[string]struct {
		cloud cloud
		shown []byte
		want  error
	}{
		"another key":         {cloud{keys: map[providers.MachineID][]byte{"m": named}}, other, attest.ErrIdentity},
		"no key":              {cloud{}, other, attest.ErrMalformed},
		"a key of no TPM":     {cloud{keys: map[providers.MachineID][]byte{"m": encode(t, onCurve(t, elliptic.P521()).Public())}}, other, attest.ErrIdentity},
		"a cloud in trouble":  {cloud{keys: map[providers.MachineID][]byte{"m": named}, err: outage}, named, outage},
		"nothing is a key":    {cloud{keys: map[providers.MachineID][]byte{"m": {}}}, nil, attest.ErrMalformed},
		"bytes behind a key":  {cloud{keys: map[providers.MachineID][]byte{"m": append(bytes.Clone(named), 0)}}, named, attest.ErrMalformed},
		"another's, as known": {cloud{keys: map[providers.MachineID][]byte{"m": named, "known": other}}, other, attest.ErrIdentity},
	} {
		v := newVoucher(t, &c.cloud)
		if key := c.cloud.keys["known"]; key != nil {
			if _, err := v.Vouch(t.Context(), "known", attest.Sum(key)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if certificate, err := v.Vouch(t.Context(), "m", attest.Sum(c.shown)); !errors.Is(err, c.want) || certificate != nil {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
	}
	v := newVoucher(t, &cloud{keys: map[providers.MachineID][]byte{"m": named}})
	if _, err := v.Vouch(t.Context(), "m", attest.Sum(named)); err != nil {
		t.Fatal(err)
	}
	if certificate, err := v.Vouch(t.Context(), "m", attest.Sum(other)); !errors.Is(err, attest.ErrIdentity) || certificate != nil {
		t.Errorf("another key than the one that is known: %v", err)
	}
	// An empty answer to what was never asked is no match for nothing shown.
	if certificate, err := newVoucher(t, &cloud{}).Vouch(t.Context(), "m", attest.Digest{}); err == nil || certificate != nil {
		t.Error("nothing is vouched for")
	}
}
