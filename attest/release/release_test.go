package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
)

func sampleManifest() *Manifest {
	registers := func(n int) map[string]string {
		m := map[string]string{}
		for i, r := range []string{"4", "9", "11"} {
			m[r] = strings.Repeat(fmt.Sprintf("%02x", i+1), n)
		}
		return m
	}
	return &Manifest{
		Schema: SchemaVersion, Version: "1.2.3-rc.1+build.5", Epoch: 7, Architecture: "amd64",
		Disk:        File{Name: "disk.raw", SHA256: attest.Sum([]byte("disk")), Bytes: 4},
		UKI:         File{Name: "uki.efi", SHA256: attest.Sum([]byte("uki")), Bytes: 3},
		StubVersion: 252,
		Boots: []Boot{
			{SecureBoot: false, SHA256: registers(32), SHA384: registers(48)},
			{SecureBoot: true, SHA256: registers(32), SHA384: registers(48)},
		},
		Inputs: []Input{{Name: "agent", SHA256: attest.Sum([]byte("a")), Bytes: 1}, {Name: "toolshed", SHA256: attest.Sum([]byte("t")), Bytes: 1}},
	}
}

// withFirmware makes a release its own firmware, for two shapes of machine.
func withFirmware(m *Manifest) *Firmware {
	shape := func(memory int64) Shape {
		values := func(n int) map[string]string {
			return map[string]string{"0": strings.Repeat("0a", n), "1": strings.Repeat("0b", n)}
		}
		return Shape{Shape: board.Shape{VCPUs: 2, MemoryBytes: memory}, SHA256: values(32), SHA384: values(48)}
	}
	m.Schema = SchemaFirmware
	m.Firmware = &Firmware{
		Code:      File{Name: "firmware.fd", SHA256: attest.Sum([]byte("code")), Bytes: 4},
		Variables: File{Name: "variables.fd", SHA256: attest.Sum([]byte("vars")), Bytes: 4},
		Shapes:    []Shape{shape(512 << 20), shape(1 << 30)},
	}
	return m.Firmware
}

// withSecureBoot has that firmware start with Secure Boot on.
func withSecureBoot(m *Manifest) {
	withFirmware(m).SecureBoot = true
	m.Schema = SchemaSecureBoot
	m.Boots[1].SHA256["7"], m.Boots[1].SHA384["7"] = strings.Repeat("07", 32), strings.Repeat("07", 48)
}

// TestManifestOfBothFormats: a release of before there was firmware in one is
// read as it was signed, and one with firmware comes back as it went.
func TestManifestOfBothFormats(t *testing.T) {
	before, err := os.ReadFile("testdata/schema1.json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseManifest(before)
	if err != nil || m.Firmware != nil {
		t.Errorf("schema 1: %+v, %v", m, err)
	}
	m = sampleManifest()
	withFirmware(m)
	m, err = ParseManifest(encoded(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if s := m.Firmware.Shapes; len(s) != 2 || s[1].String() != "2x1024MiB" || s[1].SHA256["1"] != strings.Repeat("0b", 32) {
		t.Errorf("schema 2: %+v", m.Firmware)
	}
}

func encoded(t testing.TB, m *Manifest) []byte {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bundleOf signs in the shape that Sigstore's library writes.
func bundleOf(t testing.TB, manifest []byte, key crypto.Signer) []byte {
	t.Helper()
	digest := sha256.Sum256(manifest)
	var sig []byte
	var err error
	switch key := key.(type) {
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, manifest)
	default:
		sig, err = key.Sign(seeded(9), digest[:], crypto.SHA256)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{"publicKey":{"hint":"dGVzdA=="}},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
		BundleMediaType, base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(sig))
}

func seeded(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func ecdsaKey(t testing.TB, curve elliptic.Curve, seed byte) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, seeded(seed))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func edKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(seeded(3))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerifyAcceptsBothKinds(t *testing.T) {
	manifest := encoded(t, sampleManifest())
	for _, key := range []crypto.Signer{ecdsaKey(t, elliptic.P256(), 1), edKey(t)} {
		m, digest, err := Verify(manifest, bundleOf(t, manifest, key), key.Public())
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		if digest != attest.ReleaseDigest(attest.Sum(manifest)) || m.Version != "1.2.3-rc.1+build.5" || m.Epoch != 7 {
			t.Errorf("%T: got %s %+v", key, digest, m)
		}
	}
}

// without is a bundle that lacks something, or has it otherwise.
func without(t *testing.T, good []byte, change func(*bundle)) []byte {
	t.Helper()
	var b bundle
	if err := json.Unmarshal(good, &b); err != nil {
		t.Fatal(err)
	}
	change(&b)
	out, err := json.Marshal(map[string]any{
		"mediaType":            b.MediaType,
		"verificationMaterial": map[string]any{"publicKey": b.VerificationMaterial.PublicKey},
		"messageSignature":     b.MessageSignature,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Any message is held against its bundle as a manifest is.
func TestVerifyMessage(t *testing.T) {
	key, message := ecdsaKey(t, elliptic.P256(), 1), []byte("any message")
	good := bundleOf(t, message, key)
	for name, c := range map[string]struct {
		message, bundle []byte
		key             crypto.PublicKey
		want            error
	}{
		"good":            {message, good, key.Public(), nil},
		"another message": {[]byte("another"), good, key.Public(), attest.ErrSignature},
		"another key":     {message, good, edKey(t).Public(), attest.ErrSignature},
		"no bundle":       {message, nil, key.Public(), attest.ErrMalformed},
		"no key":          {message, good, nil, attest.ErrPolicy},
	} {
		if err := VerifyMessage(c.message, c.bundle, c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What is too large is not taken apart.
func TestCaps(t *testing.T) {
	if _, err := ParseManifest(make([]byte, MaxManifestBytes+1)); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), "at most") {
		t.Errorf("a manifest: %v", err)
	}
	if _, err := ParsePublicKey(bytes.Repeat([]byte("\n"), maxKeyBytes+1)); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), "at most") {
		t.Errorf("a key: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	manifest := encoded(t, sampleManifest())
	key, other := ecdsaKey(t, elliptic.P256(), 1), ecdsaKey(t, elliptic.P256(), 2)
	good := bundleOf(t, manifest, key)
	altered := bytes.Replace(manifest, []byte(`"epoch": 7`), []byte(`"epoch": 8`), 1)
	edit := func(from, to string) []byte {
		out := bytes.Replace(good, []byte(from), []byte(to), 1)
		if bytes.Equal(out, good) {
			t.Fatalf("%q is not in the bundle", from)
		}
		return out
	}
	unsorted := []byte(strings.ReplaceAll(string(manifest), "  ", " "))
	cases := []struct {
		name             string
		manifest, bundle []byte
		key              crypto.PublicKey
		want             error
	}{
		{"another key", manifest, good, other.Public(), attest.ErrSignature},
		{"another kind of key", manifest, good, edKey(t).Public(), attest.ErrSignature},
		{"altered manifest", altered, good, key.Public(), attest.ErrSignature},
		{"altered manifest, digest of it", altered, bundleOf(t, altered, other), key.Public(), attest.ErrSignature},
		{"no key", manifest, good, nil, attest.ErrPolicy},
		{"nil key of a type", manifest, good, (*ecdsa.PublicKey)(nil), attest.ErrPolicy},
		{"P-384 key", manifest, good, ecdsaKey(t, elliptic.P384(), 1).Public(), attest.ErrPolicy},
		{"empty bundle", manifest, nil, key.Public(), attest.ErrMalformed},
		{"large bundle", manifest, append(good, bytes.Repeat([]byte(" "), MaxBundleBytes)...), key.Public(), attest.ErrMalformed},
		{"large manifest", append(manifest, bytes.Repeat([]byte(" "), MaxManifestBytes)...), good, key.Public(), attest.ErrMalformed},
		{"trailing data", manifest, append(bytes.Clone(good), "{}"...), key.Public(), attest.ErrMalformed},
		{"bundle v0.2", manifest, edit("v0.3", "v0.2"), key.Public(), attest.ErrMalformed},
		{"certificate", manifest, edit(`"publicKey":{"hint":"dGVzdA=="}`, `"certificate":{}`), key.Public(), attest.ErrMalformed},
		{"no material", manifest, edit(`"publicKey":{"hint":"dGVzdA=="}`, ``), key.Public(), attest.ErrMalformed},
		{"envelope", manifest, edit(`"messageSignature"`, `"dsseEnvelope"`), key.Public(), attest.ErrMalformed},
		{"no signature at all", manifest, without(t, good, func(b *bundle) { b.MessageSignature = nil }), key.Public(), attest.ErrMalformed},
		{"an empty signature", manifest, without(t, good, func(b *bundle) { b.MessageSignature.Signature = nil }), key.Public(), attest.ErrMalformed},
		{"a long signature", manifest, without(t, good, func(b *bundle) { b.MessageSignature.Signature = make([]byte, maxSignatureBytes+1) }), key.Public(), attest.ErrMalformed},
		{"no digest", manifest, without(t, good, func(b *bundle) { b.MessageSignature.MessageDigest = nil }), key.Public(), attest.ErrMalformed},
		{"a short digest", manifest, without(t, good, func(b *bundle) { b.MessageSignature.MessageDigest.Digest = make([]byte, 31) }), key.Public(), attest.ErrMalformed},
		{"a short Ed25519 key", manifest, good, edKey(t).Public().(ed25519.PublicKey)[1:], attest.ErrPolicy},
		{"other digest", manifest, edit("SHA2_256", "SHA2_384"), key.Public(), attest.ErrMalformed},
		{"signed but not canonical", unsorted, bundleOf(t, unsorted, key), key.Public(), attest.ErrMalformed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, digest, err := Verify(c.manifest, c.bundle, c.key)
			if !errors.Is(err, c.want) || !errors.Is(err, attest.ErrRefused) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if m != nil || !digest.IsZero() {
				t.Error("a refused manifest was returned")
			}
		})
	}
}

func TestManifestFieldsAreChecked(t *testing.T) {
	cases := map[string]func(*Manifest){
		"schema is 4":             func(m *Manifest) { m.Schema = 4 },
		"schema is 3":             func(m *Manifest) { m.Schema = 3 },
		"schema is 3: firmware.s": func(m *Manifest) { withFirmware(m); m.Schema = 3 },
		"schema is 2: firmware.s": func(m *Manifest) { withFirmware(m).SecureBoot = true },
		"no boot with Secure Boo": func(m *Manifest) { withSecureBoot(m); m.Boots = m.Boots[:1] },
		"fixes register 7":        func(m *Manifest) { withSecureBoot(m); delete(m.Boots[1].SHA256, "7"); delete(m.Boots[1].SHA384, "7") },
		"schema is 2":             func(m *Manifest) { m.Schema = 2 },
		"schema is 1":             func(m *Manifest) { withFirmware(m); m.Schema = 1 },
		"firmware.code.name":      func(m *Manifest) { withFirmware(m).Code.Name = "a/b" },
		"firmware.variables.sha":  func(m *Manifest) { withFirmware(m).Variables.SHA256 = attest.Digest{} },
		"firmware.shapes has 0":   func(m *Manifest) { withFirmware(m).Shapes = nil },
		"firmware.shapes has 65":  func(m *Manifest) { f := withFirmware(m); f.Shapes = slices.Repeat(f.Shapes[:1], 65) },
		"shapes[1] is out of":     func(m *Manifest) { f := withFirmware(m); f.Shapes[1] = f.Shapes[0] },
		"firmware.shapes[0]: no":  func(m *Manifest) { withFirmware(m).Shapes[0].VCPUs = 0 },
		"registers than 0 and 1":  func(m *Manifest) { withFirmware(m).Shapes[0].SHA256["5"] = strings.Repeat("ab", 32) },
		"other registers than 0":  func(m *Manifest) { withFirmware(m).Shapes[0].SHA384["5"] = strings.Repeat("ab", 48) },
		"sha256 register 1 is":    func(m *Manifest) { withFirmware(m).Shapes[1].SHA256["1"] = "ab" },
		"sha384 register 0 is":    func(m *Manifest) { withFirmware(m).Shapes[1].SHA384["0"] = strings.Repeat("AB", 48) },
		"which firmware fixes":    func(m *Manifest) { withFirmware(m); both(m, "1") },
		"version":                 func(m *Manifest) { m.Version = "v1.2.3" },
		"version has":             func(m *Manifest) { m.Version = "1.2.3-" + strings.Repeat("a", 60) },
		"epoch":                   func(m *Manifest) { m.Epoch = 0 },
		"architecture":            func(m *Manifest) { m.Architecture = "sparc" },
		"stub_version":            func(m *Manifest) { m.StubVersion = 0 },
		"disk.name":               func(m *Manifest) { m.Disk.Name = "../disk.raw" },
		"disk.name \"..\"":        func(m *Manifest) { m.Disk.Name = ".." },
		"disk.name \".\"":         func(m *Manifest) { m.Disk.Name = "." },
		"disk.name \"\\u202e":     func(m *Manifest) { m.Disk.Name = "\u202ewar.ksid" },
		"disk.name \"aaaa":        func(m *Manifest) { m.Disk.Name = strings.Repeat("a", maxNameBytes+1) },
		"disk.name \"\"":          func(m *Manifest) { m.Disk.Name = "" },
		"bytes is -1":             func(m *Manifest) { m.Inputs[0].Bytes = -1 },
		"disk.sha256":             func(m *Manifest) { m.Disk.SHA256 = attest.Digest{} },
		"uki.bytes":               func(m *Manifest) { m.UKI.Bytes = 0 },
		"boots has 0":             func(m *Manifest) { m.Boots = nil },
		"off, then on":            func(m *Manifest) { m.Boots[1].SecureBoot = false },
		"lacks register 9":        func(m *Manifest) { delete(m.Boots[0].SHA256, "9"); delete(m.Boots[0].SHA384, "9") },
		"64 lowercase hex":        func(m *Manifest) { m.Boots[0].SHA256["4"] = strings.Repeat("AB", 32) },
		"96 lowercase hex":        func(m *Manifest) { m.Boots[1].SHA384["4"] = strings.Repeat("ab", 32) },
		"registers in sha256":     func(m *Manifest) { m.Boots[0].SHA384["7"] = strings.Repeat("ab", 48) },
		"names register \"24\"":   func(m *Manifest) { both(m, "24") },
		"names register \"07\"":   func(m *Manifest) { both(m, "07") },
		"inputs has 0":            func(m *Manifest) { m.Inputs = nil },
		"out of order or repeat":  func(m *Manifest) { m.Inputs[1].Name = "agent" },
		"inputs[0].sha256":        func(m *Manifest) { m.Inputs[0].SHA256 = attest.Digest{} },
		"inputs[0].name \"\\x1b[": func(m *Manifest) { m.Inputs[0].Name = "\x1b[31m" },
	}
	for want, change := range cases {
		t.Run(want, func(t *testing.T) {
			m := sampleManifest()
			change(m)
			raw, err := m.marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, err = ParseManifest(raw)
			if !errors.Is(err, attest.ErrRelease) || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("parsing: got %v, want an attest.ErrRelease about %q", err, want)
			}
			if _, err := m.Encode(); !errors.Is(err, attest.ErrRelease) {
				t.Errorf("encoding: got %v", err)
			}
		})
	}
}

func both(m *Manifest, register string) {
	m.Boots[0].SHA256[register] = strings.Repeat("ab", 32)
	m.Boots[0].SHA384[register] = strings.Repeat("ab", 48)
}

func TestManifestHasOneSpelling(t *testing.T) {
	good := string(encoded(t, sampleManifest()))
	for name, text := range map[string]string{
		"unknown field":   strings.Replace(good, `"epoch"`, `"extra": 1, "epoch"`, 1),
		"repeated field":  strings.Replace(good, `"epoch": 7`, `"epoch": 6, "epoch": 7`, 1),
		"other case":      strings.Replace(good, `"epoch"`, `"Epoch"`, 1),
		"trailing data":   good + "{}",
		"no last newline": strings.TrimSuffix(good, "\n"),
		"uppercase hex":   strings.Replace(good, attest.Sum([]byte("disk")).String(), strings.ToUpper(attest.Sum([]byte("disk")).String()), 1),
		"empty":           "",
		"null":            "null",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseManifest([]byte(text)); !errors.Is(err, attest.ErrRefused) {
				t.Errorf("got %v, want a refusal", err)
			}
		})
	}
}

func TestValidVersion(t *testing.T) {
	for _, v := range []string{"0.0.0", "1.2.3", "10.20.30-alpha.1", "1.0.0-0a.x-y", "1.0.0+001.sha-5"} {
		if err := ValidVersion(v); err != nil {
			t.Errorf("%q: %v", v, err)
		}
	}
	for _, v := range []string{"", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a..b", "1.2.x", "1.2.3 "} {
		if err := ValidVersion(v); !errors.Is(err, attest.ErrRelease) {
			t.Errorf("%q: got %v", v, err)
		}
	}
}

func publicPEM(t testing.TB, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestParsePublicKey(t *testing.T) {
	for _, key := range []crypto.Signer{ecdsaKey(t, elliptic.P256(), 1), edKey(t)} {
		got, err := ParsePublicKey(publicPEM(t, key.Public()))
		if err != nil {
			t.Fatal(err)
		}
		if !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%T: another key came back", key)
		}
	}
	good := publicPEM(t, edKey(t).Public())
	for name, text := range map[string][]byte{
		"empty":    nil,
		"P-384":    publicPEM(t, ecdsaKey(t, elliptic.P384(), 1).Public()),
		"private":  bytes.ReplaceAll(good, []byte("PUBLIC"), []byte("PRIVATE")),
		"two keys": append(bytes.Clone(good), good...),
		"not DER":  pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"large":    bytes.Repeat([]byte("\n"), maxKeyBytes+1),
	} {
		if _, err := ParsePublicKey(text); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(encoded(f, sampleManifest()))
	own := sampleManifest()
	withFirmware(own)
	f.Add(encoded(f, own))
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"boots":[{"sha256":{"4":""}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			if !errors.Is(err, attest.ErrRefused) {
				t.Fatalf("error outside the tree: %v", err)
			}
			return
		}
		if again := encoded(t, m); !bytes.Equal(again, b) {
			t.Fatal("an accepted manifest does not encode to the same bytes")
		}
	})
}

// FuzzVerify holds that only the bytes that were signed are ever accepted.
func FuzzVerify(f *testing.F) {
	key := ecdsaKey(f, elliptic.P256(), 1)
	manifest := encoded(f, sampleManifest())
	f.Add(manifest, bundleOf(f, manifest, key))
	f.Add(manifest, []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`))
	f.Fuzz(func(t *testing.T, m, b []byte) {
		_, _, err := Verify(m, b, key.Public())
		if err == nil && !bytes.Equal(m, manifest) {
			t.Fatal("accepted a manifest that was never signed")
		}
		if err != nil && !errors.Is(err, attest.ErrRefused) {
			t.Fatalf("error outside the tree: %v", err)
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(publicPEM(f, edKey(f).Public()))
	f.Add(publicPEM(f, ecdsaKey(f, elliptic.P256(), 1).Public()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := ParsePublicKey(b); err == nil && checkKey(key) != nil {
			t.Fatal("returned a key that cannot verify")
		}
	})
}
