package logentry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
)

// key is synthetic: its seed is the letter.
func key(seed string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(seed, ed25519.SeedSize)))
}

func sign(tb testing.TB, body logentry.Body, by ed25519.PrivateKey) (*logentry.Entry, error) {
	tb.Helper()
	return logentry.Sign(body, der(tb, by), func(m []byte) ([]byte, error) { return ed25519.Sign(by, m), nil })
}

func der(tb testing.TB, k ed25519.PrivateKey) []byte {
	tb.Helper()
	b, err := logentry.MarshalKey(k.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func vkey(tb testing.TB, kind checkpoint.Kind, name string, k ed25519.PrivateKey) []byte {
	tb.Helper()
	v, err := checkpoint.NewKey(kind, name, k.Public().(ed25519.PublicKey))
	if err != nil {
		tb.Fatal(err)
	}
	return []byte(v.String())
}

func bodies(tb testing.TB) map[string]logentry.Body {
	return map[string]logentry.Body{
		"release": {Kind: logentry.KindRelease, Release: &logentry.Release{
			Manifest: attest.ReleaseDigest{1}, Version: "1.2.3", Epoch: 4, Architecture: "amd64",
		}},
		"withdrawal": {Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
			Manifest: attest.ReleaseDigest{1}, Reason: logentry.ReasonCompromised,
		}},
		"rotation of a release key": {Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseRelease, Old: der(tb, key("a")), New: der(tb, key("b")),
		}},
		"rotation of a log's key": {Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseLog, Old: vkey(tb, checkpoint.KindLog, "log", key("a")), New: vkey(tb, checkpoint.KindLog, "log", key("b")),
		}},
		"rotation of a witness's key": {Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseWitness, Old: vkey(tb, checkpoint.KindWitness, "w", key("a")), New: vkey(tb, checkpoint.KindWitness, "w", key("b")),
		}},
		"audit head": {Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: attest.Digest{2}, Count: 9}},
	}
}

func TestEntriesSurvive(t *testing.T) {
	for name, body := range bodies(t) {
		e, err := sign(t, body, key("a"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := logentry.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := again.Verify(key("a").Public()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := again.Verify(key("b").Public()); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s by another key: %v", name, err)
		}
		if again.Body.Rotation != nil {
			if err := again.VerifyRotation(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err := again.VerifyRotation(); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s as a rotation: %v", name, err)
		}
	}
}

// A rotation is the word of the key that it takes out of use, whatever the key is for.
func TestRotationsByStrangers(t *testing.T) {
	for name, body := range bodies(t) {
		if body.Rotation == nil {
			continue
		}
		// The key that is to come into use, and another.
		for _, by := range []string{"b", "c"} {
			e, err := sign(t, body, key(by))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.VerifyRotation(); !errors.Is(err, attest.ErrSignature) {
				t.Errorf("%s by %s: %v", name, by, err)
			}
		}
	}
}

// What has no name is none of the names that there are.
func TestNames(t *testing.T) {
	for _, u := range []logentry.Use{0, logentry.UseRelease, logentry.UseLog, logentry.UseWitness, 4} {
		text, err := u.MarshalText()
		known := u >= 1 && u <= 3
		if known != (err == nil) {
			t.Errorf("%s: %v", u, err)
		}
		var again logentry.Use
		if err := again.UnmarshalText([]byte(u.String())); known != (err == nil) || known && again != u {
			t.Errorf("%q is read as %s, %v", text, again, err)
		}
	}
	for r := range logentry.Reason(6) {
		again, err := logentry.ParseReason(r.String())
		if known := r >= 1 && r <= 4; known != (err == nil) || known && again != r {
			t.Errorf("%s is read as %s, %v", r, again, err)
		}
	}
	if got := logentry.Kind(9).String(); got != "kind(9)" {
		t.Errorf("an unknown kind is %s", got)
	}
}

// A signature over the body alone is none: the tag keeps entries apart from
// whatever else the same key signs.
func TestSignatureCoversTheTag(t *testing.T) {
	body := bodies(t)["release"]
	body.Version = logentry.Version
	bare, err := canon.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	e := logentry.Entry{Body: body, Signature: ed25519.Sign(key("a"), bare)}
	if err := e.Verify(key("a").Public()); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("error %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	for name, change := range map[string]func(*logentry.Body, map[string]logentry.Body){
		"unknown kind":       func(b *logentry.Body, _ map[string]logentry.Body) { b.Kind = 9 },
		"no statement":       func(b *logentry.Body, _ map[string]logentry.Body) { b.Release = nil },
		"two statements":     func(b *logentry.Body, all map[string]logentry.Body) { b.AuditHead = all["audit head"].AuditHead },
		"another's kind":     func(b *logentry.Body, _ map[string]logentry.Body) { b.Kind = logentry.KindAuditHead },
		"no digest":          func(b *logentry.Body, _ map[string]logentry.Body) { b.Release.Manifest = attest.ReleaseDigest{} },
		"no version":         func(b *logentry.Body, _ map[string]logentry.Body) { b.Release.Version = "" },
		"control characters": func(b *logentry.Body, _ map[string]logentry.Body) { b.Release.Version = "1\x1b[2J" },
		"long architecture":  func(b *logentry.Body, _ map[string]logentry.Body) { b.Release.Architecture = strings.Repeat("a", 65) },
		"epoch zero":         func(b *logentry.Body, _ map[string]logentry.Body) { b.Release.Epoch = 0 },
		"unknown reason": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["withdrawal"]
			b.Withdrawal.Reason = 5
		},
		"unknown use": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a release key"]
			b.Rotation.Use = 4
		},
		"rotation to itself": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a release key"]
			b.Rotation.New = b.Rotation.Old
		},
		"rotation to no key": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a release key"]
			b.Rotation.New = []byte("key")
		},
		"a key too long": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a log's key"]
			b.Rotation.New = make([]byte, 513)
		},
		"an old key too long": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a log's key"]
			b.Rotation.Old = make([]byte, 513)
		},
		"rotation from no key": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a release key"]
			b.Rotation.Old = []byte("key")
		},
		"rotation of a log from no key": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a log's key"]
			b.Rotation.Old = []byte("key")
		},
		"withdrawal of nothing": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["withdrawal"]
			b.Withdrawal.Manifest = attest.ReleaseDigest{}
		},
		"reason zero": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["withdrawal"]
			b.Withdrawal.Reason = 0
		},
		"head of nothing": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["audit head"]
			b.AuditHead.Head = attest.Digest{}
		},
		"rotation to another log": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a log's key"]
			b.Rotation.New = vkey(t, checkpoint.KindLog, "other", key("b"))
		},
		"rotation of a log to a witness": func(b *logentry.Body, all map[string]logentry.Body) {
			*b = all["rotation of a log's key"]
			b.Rotation.New = vkey(t, checkpoint.KindWitness, "log", key("b"))
		},
	} {
		all := bodies(t)
		body := all["release"]
		change(&body, all)
		if _, err := sign(t, body, key("a")); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := logentry.Parse(make([]byte, logentry.MaxBytes+1)); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
}

// Keys of other kinds sign nothing here, and would be learned by a rotation.
func TestReleaseKeysAreOfTwoKinds(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		want error
	}{
		"ecdsa p-256": {p256.Public(), nil}, "ed25519": {key("a").Public(), nil},
		"ecdsa p-384": {p384.Public(), attest.ErrMalformed}, "x25519": {agreement.Public(), attest.ErrMalformed},
	} {
		b, err := logentry.MarshalKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logentry.ParseReleaseKey(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, body := range bodies(f) {
		e, err := sign(f, body, key("a"))
		if err != nil {
			f.Fatal(err)
		}
		b, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := logentry.Parse(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("two spellings of one entry: %v", err)
		}
	})
}

// What Sign does not make is not read either, by whomever it is signed.
func TestParseRefuses(t *testing.T) {
	release := bodies(t)["release"]
	for name, change := range map[string]func(*logentry.Entry){
		"version 0":      func(e *logentry.Entry) { e.Body.Version = 0 },
		"version 2":      func(e *logentry.Entry) { e.Body.Version = 2 },
		"no signature":   func(e *logentry.Entry) { e.Signature = []byte{} },
		"long signature": func(e *logentry.Entry) { e.Signature = make([]byte, 129) },
		"no statement":   func(e *logentry.Entry) { e.Body.Release = nil },
	} {
		e, err := sign(t, release, key("a"))
		if err != nil {
			t.Fatal(err)
		}
		change(e)
		b, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logentry.Parse(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
