package ownership_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func body() ownership.Body {
	return ownership.Body{AKName: make([]byte, 34), Nonce: attest.Nonce{1}, Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte{2}}
}

func sign(t testing.TB) *ownership.Claim {
	t.Helper()
	c, err := ownership.Sign(key(1), body())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClaimSurvivesTheWire(t *testing.T) {
	c := sign(t)
	got, err := ownership.Parse(c.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest() != c.Digest() || !bytes.Equal(got.Body.Owner[:], key(1).Public().(ed25519.PublicKey)) {
		t.Errorf("claim %+v, signed %+v", got.Body, c.Body)
	}
	if ownership.Digest(nil) != (attest.Digest{}) {
		t.Error("no claim has a digest")
	}
}

// No bit of a claim can be changed.
func TestAlteredClaim(t *testing.T) {
	good := sign(t).Encode()
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := ownership.Parse(b); !errors.Is(err, attest.ErrRefused) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
}

func TestIncompleteClaim(t *testing.T) {
	for name, change := range map[string]func(*ownership.Body){
		"ak_name":  func(b *ownership.Body) { b.AKName = nil },
		"update":   func(b *ownership.Body) { b.Update = ownership.UpdatePolicy{} },
		"recovery": func(b *ownership.Body) { b.Recovery = [32]byte{} },
	} {
		b := body()
		change(&b)
		if _, err := ownership.Sign(key(1), b); !errors.Is(err, attest.ErrClaim) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestToken(t *testing.T) {
	ch := attest.Channel{Role: attest.RoleServe, SPKI: []byte("key"), Exporter: [32]byte{1}}
	public := key(1).Public().(ed25519.PublicKey)
	token := ownership.Token(key(1), ch)
	if err := ownership.CheckToken(public, token, ch); err != nil {
		t.Error(err)
	}
	otherKey, otherConnection := ch, ch
	otherKey.SPKI = []byte("other")
	otherConnection.Exporter[0]++
	for name, c := range map[string]struct {
		owner ed25519.PublicKey
		token string
		ch    attest.Channel
	}{
		"another owner":      {key(2).Public().(ed25519.PublicKey), token, ch},
		"another machine":    {public, token, otherKey},
		"another connection": {public, token, otherConnection},
		"none":               {public, "", ch},
		"another scheme":     {public, strings.Replace(token, ownership.Scheme, "Bearer", 1), ch},
		"padded":             {public, token + "=", ch},
		"not base64":         {public, ownership.Scheme + " " + strings.Repeat("!", 86), ch},
	} {
		if err := ownership.CheckToken(c.owner, c.token, c.ch); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	good := sign(f).Encode()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ownership.Parse(b)
		if err != nil {
			if !errors.Is(err, attest.ErrRefused) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Error("a claim does not keep its bytes")
		}
	})
}

func FuzzCheckToken(f *testing.F) {
	ch := attest.Channel{SPKI: []byte("key")}
	f.Add(ownership.Token(key(1), ch))
	f.Add("")
	f.Add(ownership.Scheme + " ")
	f.Fuzz(func(t *testing.T, header string) {
		if err := ownership.CheckToken(key(2).Public().(ed25519.PublicKey), header, ch); err == nil {
			t.Errorf("%q is nobody's token and passes", header)
		}
	})
}

// What is of another version is not read, though its owner signed it.
func TestOtherVersions(t *testing.T) {
	c := sign(t)
	for _, d := range []int{-1, 1} {
		claim, approval := c.Body, approvalBody(c)
		claim.Version, approval.Version = uint64(ownership.Version+d), uint64(ownership.ApprovalVersion+d)
		if _, err := ownership.Parse(signed(t, attest.TagClaim, claim)); !errors.Is(err, attest.ErrClaim) {
			t.Errorf("a claim of version %d: %v", claim.Version, err)
		}
		if _, err := ownership.ParseApproval(signed(t, attest.TagApproval, approval), c); !errors.Is(err, attest.ErrClaim) {
			t.Errorf("an approval of version %d: %v", approval.Version, err)
		}
	}
	if _, err := ownership.Parse(signed(t, attest.TagClaim, c.Body)); err != nil {
		t.Errorf("the twin: %v", err)
	}
	if _, err := ownership.ParseApproval(signed(t, attest.TagApproval, "nonsense"), c); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("an approval of nonsense: %v", err)
	}
}

// signed is whatever body the owner signs, as it travels.
func signed(t *testing.T, tag string, body any) []byte {
	t.Helper()
	b, err := canon.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := canon.Marshal(struct {
		Body      []byte `cbor:"1,keyasint"`
		Signature []byte `cbor:"2,keyasint"`
	}{b, ed25519.Sign(key(1), append([]byte(tag+"\x00"), b...))})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
