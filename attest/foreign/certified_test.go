package foreign_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// googles is a genuine attestation of a machine of Google's, out of
// go-tpm-tools: a quote, and the certificate of the key that signed it.
func googles(tb testing.TB) (q foreign.Quote, given []*x509.Certificate) {
	tb.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/google/go-tpm-tools").Output()
	if err != nil {
		tb.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		tb.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(module.Dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
	attestation := protobuf(tb, read("internal/test/attestations/gce-cos-85-nonce9009.pb"))
	q.AK = attestation[1][0]
	for _, encoded := range attestation[2] {
		quote := protobuf(tb, encoded)
		// The bank of SHA-256 is the second of three.
		q.Attest, q.Signature = quote[1][0], quote[2][0]
		if strings.Contains(string(q.Attest), "\x00\x00\x00\x01\x00\x0b\x03") {
			break
		}
	}
	intermediate := read("server/ca-certs/tpm_ek_intermediate_2.crt")
	if block, _ := pem.Decode(intermediate); block != nil {
		intermediate = block.Bytes
	}
	if given, err = foreign.Certificates(intermediate, attestation[6][0]); err != nil {
		tb.Fatal(err)
	}
	return q, given
}

// protobuf are the length-delimited fields of a message, by number.
func protobuf(tb testing.TB, b []byte) map[protowire.Number][][]byte {
	tb.Helper()
	all := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(number, kind, b[max(n, 0):])
		if n < 0 || size < 0 {
			tb.Fatal("no message")
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[n:])
			all[number] = append(all[number], value)
		}
		b = b[n+size:]
	}
	return all
}

// Google's own certificate of a key leads to its root, and names the machine;
// its machines were not tried live.
func TestGooglesCertificate(t *testing.T) {
	q, given := googles(t)
	asked := foreign.Asked{At: time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC), Data: []byte{0x90, 0x09}}
	r, err := foreign.Certified(q, given, nil, asked)
	if err != nil || r.Policy != foreign.NotAsked || r.Kind != "certified-quote" || fact(r, "tier") != "provider-rooted" ||
		!strings.Contains(fact(r, "machine"), "instance cos-test (") {
		t.Fatalf("%+v, %v", r, err)
	}
	if said := strings.Join(r.Warnings, "\n"); !strings.Contains(said, "revoked was not looked at") || !strings.Contains(said, "those of a release") {
		t.Errorf("%q", r.Warnings)
	}
	list := chaintest.Root(t, "other", chaintest.P256(t), nil).Parsed(nil)
	for name, c := range map[string]struct {
		given []*x509.Certificate
		lists []*chain.List
		asked foreign.Asked
		want  error
	}{
		"no intermediate": {given[1:], nil, asked, attest.ErrIdentity},
		"no certificate":  {given[:1], nil, asked, attest.ErrBinding},
		"another nonce":   {given, nil, foreign.Asked{At: asked.At, Data: []byte{1}}, attest.ErrBinding},
		"before":          {given, nil, foreign.Asked{At: time.Unix(1e9, 0)}, attest.ErrIdentity},
		"another's list":  {given, []*chain.List{list}, asked, attest.ErrCollateral},
	} {
		if _, err := foreign.Certified(q, c.given, c.lists, c.asked); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A policy says whose word counts.
func TestCertifiedByPolicy(t *testing.T) {
	m, g := verifiertest.Boot(t), verifiertest.NewGoogle(t)
	g.Install(t, m, nil)
	e, err := evidence.Decode(m.Evidence(t, attest.Nonce{1}, attest.Digest{}))
	if err != nil {
		t.Fatal(err)
	}
	q := foreign.Quote{Attest: e.TPM.Quote, Signature: e.TPM.Signature, AK: e.TPM.AKPublic}
	given, err := foreign.Certificates(m.Endorsements.AKCertificate, m.Endorsements.AKIntermediates[0])
	if err != nil {
		t.Fatal(err)
	}
	lists := []*chain.List{g.Root.Parsed(nil)}
	for name, c := range map[string]struct {
		change  func(*policy.Policy)
		lists   []*chain.List
		verdict foreign.Verdict
		want    error
		says    string
	}{
		"accepted":       {func(*policy.Policy) {}, lists, foreign.Accepted, nil, ""},
		"none accepted":  {func(p *policy.Policy) { p.Verifier.AKAnchors = nil }, lists, foreign.Refused, nil, "no authority of attestation keys"},
		"below its tier": {func(p *policy.Policy) { p.Verifier.Minimum.Identity = attest.TierHardware }, lists, foreign.Refused, nil, "below the minimum"},
		"no list":        {func(*policy.Policy) {}, nil, "", attest.ErrCollateral, ""},
		"revoked":        {func(*policy.Policy) {}, []*chain.List{g.Root.Parsed(nil, g.Intermediate.Certificate)}, "", attest.ErrRevoked, ""},
		"another root": {func(p *policy.Policy) {
			p.Verifier.AKAnchors[0].Certificate = verifiertest.NewGoogle(t).Root.Certificate
		}, lists, "", attest.ErrIdentity, ""},
	} {
		p := &policy.Policy{Verifier: m.PolicyAt(attest.TierProviderRooted)}
		g.Accept(&p.Verifier)
		c.change(p)
		r, err := foreign.Certified(q, given, c.lists, foreign.Asked{At: time.Now(), Policy: p})
		if !errors.Is(err, c.want) || err == nil && (r.Policy != c.verdict || !strings.Contains(fmt.Sprint(r.Refusals), c.says)) {
			t.Errorf("%s: %+v, %v, want %q, %v", name, r, err, c.verdict, c.want)
		}
	}
	p := &policy.Policy{Verifier: m.PolicyAt(attest.TierProviderRooted)}
	g.Accept(&p.Verifier)
	p.Verifier.Grace = time.Hour
	stale := []*chain.List{g.Root.Parsed(func(l *x509.RevocationList) { l.NextUpdate = chaintest.Now.Add(-time.Minute) })}
	if r, err := foreign.Certified(q, given, stale, foreign.Asked{At: time.Now(), Policy: p}); err != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "used in its grace") {
		t.Errorf("a list in its grace: %+v, %v", r, err)
	}
	if _, err := foreign.Certified(q, given, lists, foreign.Asked{At: time.Now()}); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("by google's own roots: %v", err)
	}
	if _, err := foreign.Certificates([]byte("-----BEGIN")); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
}
