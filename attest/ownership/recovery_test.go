package ownership_test

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

func recoverable(t testing.TB) (*ownership.Claim, *ecdh.PrivateKey) {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ownership.Sign(owner, ownership.Body{
		AKName: make([]byte, 34), Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte(key.PublicKey().Bytes()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func TestRecovery(t *testing.T) {
	c, key := recoverable(t)
	want := &ownership.Recovery{OwnerAuth: []byte("owner"), LockoutAuth: []byte("lockout"), VolumeKey: []byte("key")}
	wrapped, err := c.WrapRecovery(*want, []byte("this volume"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ownership.OpenRecovery(key, []byte("this volume"), wrapped)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	_, other := recoverable(t)
	altered := append([]byte{}, wrapped...)
	altered[len(altered)-1]++
	for name, open := range map[string]func() (*ownership.Recovery, error){
		"another key": func() (*ownership.Recovery, error) {
			return ownership.OpenRecovery(other, []byte("this volume"), wrapped)
		},
		"another volume": func() (*ownership.Recovery, error) {
			return ownership.OpenRecovery(key, []byte("that volume"), wrapped)
		},
		"altered": func() (*ownership.Recovery, error) {
			return ownership.OpenRecovery(key, []byte("this volume"), altered)
		},
		"nothing": func() (*ownership.Recovery, error) { return ownership.OpenRecovery(key, []byte("this volume"), nil) },
		"too long": func() (*ownership.Recovery, error) {
			return ownership.OpenRecovery(key, nil, make([]byte, ownership.MaxRecoveryBytes+1))
		},
	} {
		if _, err := open(); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is too large is not taken apart.
func TestCapOnRecovery(t *testing.T) {
	_, key := recoverable(t)
	if _, err := ownership.OpenRecovery(key, nil, make([]byte, ownership.MaxRecoveryBytes+1)); !strings.Contains(fmt.Sprint(err), "at most") {
		t.Errorf("%v", err)
	}
}

// A recipient that wraps to everybody, or to nobody, makes no claim.
func TestRecipientOfLowOrder(t *testing.T) {
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The points of order 4 and of order 2 (RFC 7748, section 6.1).
	for _, recipient := range [][32]byte{{1}, {}} {
		_, err := ownership.Sign(owner, ownership.Body{AKName: make([]byte, 34), Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: recipient})
		if !errors.Is(err, attest.ErrClaim) {
			t.Errorf("%x: %v", recipient[:2], err)
		}
	}
}

func FuzzOpenRecovery(f *testing.F) {
	c, key := recoverable(f)
	good, err := c.WrapRecovery(ownership.Recovery{OwnerAuth: []byte("o")}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ownership.OpenRecovery(key, nil, b); err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}
