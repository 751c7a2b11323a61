package logtest

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
)

// Release is a signed release with its entry for the log.
type Release struct {
	Manifest, Bundle, Entry []byte
	Digest                  attest.ReleaseDigest
	Statement               logentry.Release
}

// NewRelease signs a synthetic release of that epoch.
func NewRelease(tb testing.TB, key ReleaseKey, epoch uint64) Release {
	tb.Helper()
	registers := func(n int) map[string]string {
		return map[string]string{"4": strings.Repeat("04", n), "9": strings.Repeat("09", n), "11": strings.Repeat("11", n)}
	}
	m := &release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: epoch, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: "disk.raw", SHA256: attest.Sum([]byte("disk")), Bytes: 4},
		UKI:    release.File{Name: "uki.efi", SHA256: attest.Sum([]byte("uki")), Bytes: 3},
		Boots:  []release.Boot{{SHA256: registers(32), SHA384: registers(48)}},
		Inputs: []release.Input{{Name: "init", SHA256: attest.Sum([]byte("init")), Bytes: 4}},
	}
	manifest, err := m.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	digest := attest.ReleaseDigest(attest.Sum(manifest))
	statement := release.EntryOf(m, digest)
	return Release{
		Manifest: manifest, Bundle: NewBundle(tb, key, manifest), Digest: digest, Statement: statement,
		Entry: key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &statement}),
	}
}

// EntryFor is the log's entry about a manifest, signed.
func EntryFor(tb testing.TB, key ReleaseKey, m *release.Manifest, manifest []byte) []byte {
	tb.Helper()
	statement := release.EntryOf(m, attest.ReleaseDigest(attest.Sum(manifest)))
	return key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &statement})
}

// NewBundle signs a manifest as a Sigstore bundle by key.
func NewBundle(tb testing.TB, key ReleaseKey, manifest []byte) []byte {
	tb.Helper()
	signature, err := key.SignMessage(manifest)
	if err != nil {
		tb.Fatal(err)
	}
	digest := sha256.Sum256(manifest)
	b, err := json.Marshal(map[string]any{
		"mediaType":            release.BundleMediaType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": "test"}},
		"messageSignature": map[string]any{
			"messageDigest": map[string]any{"algorithm": "SHA2_256", "digest": digest[:]}, "signature": signature,
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
