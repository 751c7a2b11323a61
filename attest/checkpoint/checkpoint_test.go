package checkpoint_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
)

var at = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)

// signer is synthetic: its seed is the letter.
func signer(tb testing.TB, kind checkpoint.Kind, name string, seed byte) *checkpoint.Signer {
	tb.Helper()
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
	s, err := checkpoint.NewSigner(kind, name, private, func() time.Time { return at })
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func sample(tb testing.TB) (text []byte, log, witness *checkpoint.Signer, head checkpoint.Checkpoint) {
	tb.Helper()
	log, witness = signer(tb, checkpoint.KindLog, "log.example", 'l'), signer(tb, checkpoint.KindWitness, "w.example", 'w')
	head = checkpoint.Checkpoint{Origin: "log.example", Size: 12, Root: tlog.RecordHash([]byte("root"))}
	text, err := checkpoint.Sign(head, log, witness)
	if err != nil {
		tb.Fatal(err)
	}
	return text, log, witness, head
}

func TestOpen(t *testing.T) {
	text, log, witness, head := sample(t)
	s, err := checkpoint.Open(text, log.Key, []checkpoint.Key{witness.Key})
	if err != nil {
		t.Fatal(err)
	}
	if s.Checkpoint != head || s.Log != log.Key || len(s.Cosignatures) != 1 || !s.Cosignatures[0].At.Equal(at) {
		t.Errorf("opened %+v", s)
	}
	if s, err := checkpoint.Open(text, log.Key, nil); err != nil || len(s.Cosignatures) != 0 {
		t.Errorf("a witness that is not known counts: %+v, %v", s, err)
	}
}

// TestOthersAgree holds our keys and cosignatures against transparency-dev's
// implementation of C2SP tlog-cosignature, and theirs against ours.
func TestOthersAgree(t *testing.T) {
	text, log, witness, _ := sample(t)
	theirs, err := f_note.NewVerifierForCosignatureV1(witness.String())
	if err != nil {
		t.Fatal(err)
	}
	logKey, err := note.NewVerifier(log.String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(text, note.VerifierList(logKey, theirs)); err != nil || len(n.Sigs) != 2 {
		t.Errorf("they refuse our checkpoint: %v", err)
	}
	secret, _, err := note.GenerateKey(strings.NewReader(strings.Repeat("k", 64)), "other.example")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := f_note.NewSignerForCosignatureV1(secret)
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, head := sample(t)
	b, err := checkpoint.Sign(head, log, cosigner)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := f_note.NewVerifierForCosignatureV1(witness.String())
	if err != nil || ours.KeyHash() != witness.KeyHash() {
		t.Errorf("key ids differ: %v", err)
	}
	key, err := checkpoint.NewKey(checkpoint.KindWitness, "other.example", publicOf(t, secret))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := checkpoint.Open(b, log.Key, []checkpoint.Key{key}); err != nil || len(s.Cosignatures) != 1 {
		t.Errorf("we refuse their cosignature: %+v, %v", s, err)
	}
}

// publicOf reads the public half of a private key's text as package note
// writes it, which is the text of a log's.
func publicOf(t *testing.T, secret string) ed25519.PublicKey {
	t.Helper()
	s, err := checkpoint.ParseSigner(checkpoint.KindLog, secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s.Public()
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

func TestOpenRefuses(t *testing.T) {
	text, log, witness, head := sample(t)
	keys := []checkpoint.Key{witness.Key}
	good := string(text)
	unsigned, err := checkpoint.Sign(head, witness)
	if err != nil {
		t.Fatal(err)
	}
	// The last of 43 digits has two bits that say nothing.
	spelled := strings.TrimSuffix(head.Text(), "=\n")
	last := strings.IndexByte(base64Digits, spelled[len(spelled)-1])
	otherwise := spelled[:len(spelled)-1] + string(base64Digits[last^1]) + "=\n"
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":          {"", attest.ErrMalformed},
		"no signatures":  {head.Text(), attest.ErrMalformed},
		"extension line": {strings.Replace(good, "\n\n", "\nmore\n\n", 1), attest.ErrMalformed},
		"leading zero":   {strings.Replace(good, "\n12\n", "\n012\n", 1), attest.ErrMalformed},
		"huge size":      {strings.Replace(good, "\n12\n", "\n9223372036854775807\n", 1), attest.ErrMalformed},
		"negative size":  {strings.Replace(good, "\n12\n", "\n-1\n", 1), attest.ErrMalformed},
		"other size":     {strings.Replace(good, "\n12\n", "\n13\n", 1), attest.ErrSignature},
		"short root":     {strings.Replace(good, head.Text(), "log.example\n12\nAAAA\n", 1), attest.ErrMalformed},
		"root otherwise": {strings.Replace(good, head.Text(), otherwise, 1), attest.ErrMalformed},
		"no origin":      {strings.Replace(good, "log.example\n", "\n", 1), attest.ErrMalformed},
		"log alone":      {string(unsigned), attest.ErrTransparency},
		"too large":      {good + strings.Repeat("— x AAAAAAAA\n", checkpoint.MaxBytes), attest.ErrMalformed},
	} {
		if _, err := checkpoint.Open([]byte(c.text), log.Key, keys); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// One key may be that of several origins, and a checkpoint is of one.
	elsewhere := head
	elsewhere.Origin = "elsewhere.example"
	if b, err := checkpoint.Sign(elsewhere, log, witness); err != nil {
		t.Fatal(err)
	} else if _, err := checkpoint.Open(b, log.Key, keys); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("the log's signature below another origin: %v", err)
	}
	other := signer(t, checkpoint.KindLog, "log.example", 'o')
	if _, err := checkpoint.Open(text, other.Key, keys); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("another's key: %v", err)
	}
}

func TestKeysHaveOneSpelling(t *testing.T) {
	log := signer(t, checkpoint.KindLog, "log.example", 'l')
	if again, err := checkpoint.ParseKey(checkpoint.KindLog, log.String()); err != nil || again != log.Key {
		t.Errorf("%v, %v", again, err)
	}
	if again, err := checkpoint.ParseSigner(checkpoint.KindLog, log.Encode(), nil); err != nil || again.Key != log.Key {
		t.Errorf("signer: %v", err)
	}
	for _, text := range []string{
		"", "log.example", log.String() + "\n", strings.ToUpper(log.String()), "other" + log.String(),
		strings.Replace(log.String(), "log", "l\tg", 1),
	} {
		if _, err := checkpoint.ParseKey(checkpoint.KindLog, text); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := checkpoint.ParseKey(checkpoint.KindWitness, log.String()); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a log's key as a witness's: %v", err)
	}
}

// A time that has no text is none of a witness's, whatever it signs.
func TestCosignatureOfNoTimeIsRefused(t *testing.T) {
	_, log, _, head := sample(t)
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", ed25519.SeedSize)))
	for at, want := range map[int64]error{253402300799: nil, 253402300800: attest.ErrSignature} {
		w, err := checkpoint.NewSigner(checkpoint.KindWitness, "w.example", private, func() time.Time { return time.Unix(at, 0) })
		if err != nil {
			t.Fatal(err)
		}
		b, err := checkpoint.Sign(head, log, w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkpoint.Open(b, log.Key, []checkpoint.Key{w.Key}); !errors.Is(err, want) {
			t.Errorf("at second %d: %v, want %v", at, err, want)
		}
	}
}

func TestSignersOfOneFile(t *testing.T) {
	line := func(name string, seed byte) string { return signer(t, checkpoint.KindLog, name, seed).Encode() }
	one, two := line("log.example", 'a'), line("log.example", 'b')
	if keys, err := checkpoint.ParseSigners(checkpoint.KindLog, "# keys\n"+one+two); err != nil || len(keys) != 2 || keys[0].Encode() != one {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for name, text := range map[string]string{
		"none": "# keys\n", "another log's": one + line("other.example", 'b'),
		"too many": strings.Repeat(one, checkpoint.MaxSigners+1), "no key": one + "key\n",
	} {
		if _, err := checkpoint.ParseSigners(checkpoint.KindLog, text); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	text, log, witness, _ := sample(f)
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := checkpoint.Open(b, log.Key, []checkpoint.Key{witness.Key})
		if err != nil {
			if !errors.Is(err, attest.ErrRefused) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if s.Log != log.Key || !strings.HasPrefix(string(b), s.Text()) {
			t.Errorf("opened what was not signed: %q", b)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add(signer(f, checkpoint.KindLog, "log.example", 'l').String())
	f.Add(signer(f, checkpoint.KindWitness, "w.example", 'w').Encode())
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []checkpoint.Kind{checkpoint.KindLog, checkpoint.KindWitness} {
			if k, err := checkpoint.ParseKey(kind, text); err == nil && k.String() != text || err != nil && !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%q: %v", text, err)
			}
			if _, err := checkpoint.ParseSigner(kind, text, time.Now); err != nil && !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

// What is no key of either kind signs nothing.
func TestSignersAreWhole(t *testing.T) {
	log := signer(t, checkpoint.KindLog, "log.example", 'l')
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("l", ed25519.SeedSize)))
	for name, c := range map[string]struct {
		kind    checkpoint.Kind
		name    string
		private ed25519.PrivateKey
		clock   func() time.Time
	}{
		"short":                   {checkpoint.KindLog, "log.example", private[1:], nil},
		"a witness with no clock": {checkpoint.KindWitness, "w.example", private, nil},
		"no name":                 {checkpoint.KindLog, "", private, nil},
		"a name with a plus":      {checkpoint.KindLog, "log+example", private, nil},
		"a name with a space":     {checkpoint.KindLog, "log example", private, nil},
		"a name of no ascii":      {checkpoint.KindLog, "l\u00f6g", private, nil},
		"a long name":             {checkpoint.KindLog, strings.Repeat("n", 129), private, nil},
	} {
		if _, err := checkpoint.NewSigner(c.kind, c.name, c.private, c.clock); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := checkpoint.NewKey(checkpoint.KindLog, "log.example", log.Public()[1:]); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a short key: %v", err)
	}
	good := strings.TrimSuffix(log.Encode(), "\n")
	for name, text := range map[string]string{
		"empty": "", "a verifier key": log.String(), "no end of line, and more": good + "+", "another id": strings.Replace(good, "+", "+0", 2),
		"another name": strings.Replace(good, "log.example", "other.example", 1), "a long one": good + "AAAA",
	} {
		if _, err := checkpoint.ParseSigner(checkpoint.KindLog, text, nil); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := checkpoint.ParseSigner(checkpoint.KindWitness, good, time.Now); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a log's key as a witness's: %v", err)
	}
}

// What is too large is not taken apart.
func TestCaps(t *testing.T) {
	text, log, _, _ := sample(t)
	if _, err := checkpoint.Open(append(text, make([]byte, checkpoint.MaxBytes)...), log.Key, nil); err == nil || !strings.Contains(fmt.Sprint(err), "at most") {
		t.Errorf("a checkpoint: %v", err)
	}
	if _, err := checkpoint.ParseKey(checkpoint.KindLog, log.String()+"AAAA"); err == nil || !strings.Contains(fmt.Sprint(err), "too long") {
		t.Errorf("a key: %v", err)
	}
}

// A name alone makes no key: who has the log's signs for no log, and of two
// witnesses with one name the one that signed counts.
func TestNamesakes(t *testing.T) {
	_, log, witness, head := sample(t)
	namesake := signer(t, checkpoint.KindWitness, log.Name(), 'n')
	b, err := checkpoint.Sign(head, namesake)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := checkpoint.Open(b, log.Key, []checkpoint.Key{namesake.Key}); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a witness with the log's name signs for it: %+v, %v", s, err)
	}
	twin := signer(t, checkpoint.KindWitness, witness.Name(), 't')
	if b, err = checkpoint.Sign(head, log, witness); err != nil {
		t.Fatal(err)
	}
	s, err := checkpoint.Open(b, log.Key, []checkpoint.Key{witness.Key, twin.Key, signer(t, checkpoint.KindWitness, "other.example", 'o').Key})
	if err != nil || len(s.Cosignatures) != 1 || s.Cosignatures[0].Key != witness.Key {
		t.Errorf("cosigned by %+v, %v", s, err)
	}
}
