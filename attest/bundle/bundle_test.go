package bundle_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

func small() *bundle.Bundle {
	return &bundle.Bundle{
		SavedAt: time.Unix(1790000000, 0).UTC(), Machine: "https://127.0.0.1:4000",
		Channel: attest.Channel{Role: attest.RoleServe, SPKI: []byte("spki"), Exporter: [32]byte{1}},
		Nonce:   attest.Nonce{2}, Activation: bundle.ActivatedHere, Evidence: []byte("evidence"), RevocationLists: [][]byte{[]byte("list")},
	}
}

func encode(t testing.TB, b *bundle.Bundle) []byte {
	t.Helper()
	encoded, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestEncoding(t *testing.T) {
	want := small()
	got, err := bundle.Decode(encode(t, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, edit := range map[string]func(*bundle.Bundle){
		"no evidence":   func(b *bundle.Bundle) { b.Evidence = nil },
		"role":          func(b *bundle.Bundle) { b.Channel.Role = 3 },
		"no key":        func(b *bundle.Bundle) { b.Channel.SPKI = nil },
		"activation":    func(b *bundle.Bundle) { b.Activation = 3 },
		"escape in url": func(b *bundle.Bundle) { b.Machine = "https://\x1b[2J" },
		"delete in url": func(b *bundle.Bundle) { b.Machine = "https://\x7f" },
		"c1 in url":     func(b *bundle.Bundle) { b.Machine = "https://\u009b2J" },
		"too many":      func(b *bundle.Bundle) { b.RevocationLists = make([][]byte, 17) },
		"beyond time":   func(b *bundle.Bundle) { b.SavedAt = time.Unix(1<<60, 0) },
	} {
		b := small()
		edit(b)
		if _, err := bundle.Decode(encode(t, b)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bundle.Decode(append(encode(t, small()), 0)); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("trailing byte: %v", err)
	}
	if b := small(); true {
		b.Evidence = make([]byte, bundle.MaxBytes)
		if _, err := b.Encode(); err == nil {
			t.Error("a bundle beyond the cap is encoded")
		}
	}
	if b := small(); true {
		b.SavedAt = time.Unix(-1, 0)
		if _, err := b.Encode(); err == nil {
			t.Error("a bundle from before 1970 is encoded")
		}
	}
}

// Each differs from what Encode writes in one field.
func TestFieldsThatEncodeDoesNotWrite(t *testing.T) {
	var good map[int]any
	if err := cbor.Unmarshal(encode(t, small()), &good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		field  int
		value  any
		reason string
	}{
		"another version":  {1, 2, "version 2, want 1"},
		"a short exporter": {6, make([]byte, 31), "exporter has 31 bytes"},
		"a long key":       {5, make([]byte, bundle.MaxSPKI+1), "spki has 1025 bytes"},
	} {
		bad := maps.Clone(good)
		bad[c.field] = c.value
		b, err := canon.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Decode(b); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// saved is what a client saves of a good machine, and what it is judged by.
func saved(t *testing.T) (*bundle.Bundle, bundle.Terms) {
	t.Helper()
	m := verifiertest.Boot(t)
	key := logtest.NewReleaseKey(t)
	in := m.Input(t)
	p := m.Policy()
	p.Releases = nil
	b := &bundle.Bundle{
		SavedAt: time.Now(), Machine: "https://machine.example:443", Channel: in.Channel, Nonce: in.Nonce,
		Activation: bundle.ActivatedHere, Evidence: in.Evidence,
	}
	return b, bundle.Terms{
		Verifier: new(verifier.Verifier), Policy: p, Keys: []crypto.PublicKey{key.Public()},
		Log: release.LogPolicy{NotRequired: true}, At: time.Now(),
	}
}

// Whatever is wrong between the parts of a bundle is refused by the same words
// as on a connection. A machine that shows no release is judged by nothing.
func TestJudge(t *testing.T) {
	good, terms := saved(t)
	for name, c := range map[string]struct {
		edit func(*bundle.Bundle)
		want error
	}{
		"no release":    {func(*bundle.Bundle) {}, attest.ErrRelease},
		"other nonce":   {func(b *bundle.Bundle) { b.Nonce[0]++ }, attest.ErrStale},
		"other key":     {func(b *bundle.Bundle) { b.Channel.SPKI = []byte("another") }, attest.ErrBinding},
		"other channel": {func(b *bundle.Bundle) { b.Channel.Exporter[0]++ }, attest.ErrBinding},
		"other role":    {func(b *bundle.Bundle) { b.Channel.Role = attest.RoleEnrol }, attest.ErrBinding},
		"bad evidence":  {func(b *bundle.Bundle) { b.Evidence = b.Evidence[1:] }, attest.ErrMalformed},
		"bad list":      {func(b *bundle.Bundle) { b.RevocationLists = [][]byte{{1}} }, attest.ErrMalformed},
	} {
		b := *good
		b.Channel.SPKI = bytes.Clone(good.Channel.SPKI)
		c.edit(&b)
		if _, err := b.Judge(terms); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A file shows neither that a session was live nor how a key was activated: the
// saver's word stays theirs.
func TestSaversWordIsNoMore(t *testing.T) {
	m, key := verifiertest.Boot(t), logtest.NewReleaseKey(t)
	manifest, err := m.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	m.Values = evidence.ReferenceValues{Manifest: manifest, Bundle: logtest.NewBundle(t, key, manifest)}
	in := m.Input(t)
	b := &bundle.Bundle{SavedAt: time.Now(), Machine: "https://machine.example:443", Channel: in.Channel, Nonce: in.Nonce, Evidence: in.Evidence}
	terms := bundle.Terms{
		Verifier: new(verifier.Verifier), Policy: m.Policy(), Keys: []crypto.PublicKey{key.Public()},
		Log: release.LogPolicy{NotRequired: true}, At: time.Now(),
	}
	for said, want := range map[bundle.Activation]attest.Verdict{
		bundle.NotActivated: attest.NoClaim, bundle.ActivatedHere: attest.Warning, bundle.ActivatedBefore: attest.Warning,
	} {
		b.Activation = said
		judged, err := b.Judge(terms)
		if err != nil {
			t.Fatal(err)
		}
		if got := judged.Result.Finding(attest.InstanceIdentity).Verdict; got != want || !judged.At.Equal(terms.At) {
			t.Errorf("activation %d: verdict %v at %s, want %v at %s", said, got, judged.At, want, terms.At)
		}
	}
	b.Activation = bundle.ActivatedHere
	// A list that the policy has too is one list.
	root := chaintest.Root(t, "root", chaintest.P256(t), nil)
	for n := range chain.MaxLists {
		list := root.Parsed(func(l *x509.RevocationList) { l.NextUpdate = l.NextUpdate.Add(time.Duration(n) * time.Minute) })
		terms.Policy.RevocationLists, b.RevocationLists = append(terms.Policy.RevocationLists, list), append(b.RevocationLists, list.Raw())
	}
	if judged, err := b.Judge(terms); err != nil || !judged.Result.Accepted() {
		t.Errorf("with the policy's own lists: %v, %+v", err, judged.Result.Findings)
	}
	// What is known to have been is a floor under the clock.
	terms.Log.TimeFloor = terms.At.Add(time.Hour)
	if judged, err := b.Judge(terms); err != nil || !judged.At.Equal(terms.Log.TimeFloor) {
		t.Errorf("judged of %s, %v, want %s", judged.At, err, terms.Log.TimeFloor)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, small()))
	f.Add([]byte{0xaa, 0x01, 0x01})
	root := chaintest.Root(f, "root", chaintest.P256(f), nil)
	f.Fuzz(func(t *testing.T, encoded []byte) {
		b, err := bundle.Decode(encoded)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if again := encode(t, b); !bytes.Equal(again, encoded) {
			t.Errorf("decodes and encodes to %x", again)
		}
		_, err = b.Judge(bundle.Terms{
			Verifier: new(verifier.Verifier), Log: release.LogPolicy{NotRequired: true},
			Policy: verifier.Policy{TrustAnchors: []verifier.TrustAnchor{{Certificate: root.Certificate, Tier: attest.TierSoftware}}},
		})
		if !errors.Is(err, attest.ErrRefused) {
			t.Errorf("judged: %v", err)
		}
	})
}
