package snp_test

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
)

// vector reads a file of go-sev-guest's.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-sev-guest").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "verify", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The lists that AMD publishes are not among the vectors, so their absence is
// said aloud.
var unpublished = chain.Revocations{Treatment: chain.NotPublished}

func TestGenuineReport(t *testing.T) {
	at := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf, err := snp.ParseCertificates(vector(t, "testdata/vcek.testcer"))
	if err != nil {
		t.Fatal(err)
	}
	r := parse(t, vector(t, "testdata/attestation.bin"))
	given, err := snp.ParseCertificates(vector(t, "testdata/milan.testcer"))
	if err != nil {
		t.Fatal(err)
	}
	for name, authorities := range map[string][]*x509.Certificate{"given": given, "known": nil} {
		e, err := snp.VerifyEndorsement(leaf[0], authorities, snp.AMD(), unpublished, at)
		if err != nil {
			t.Fatalf("authorities %s: %v", name, err)
		}
		if err := e.Check(r); err != nil {
			t.Errorf("authorities %s: %v", name, err)
		}
		if e.Product != "Milan" || e.Part != "Milan-B0" || e.Kind != snp.VCEK || e.TCB != (snp.TCB{Bootloader: 2, SNP: 5, Microcode: 0x44}) {
			t.Errorf("%+v", e)
		}
		for i := range 0x2a0 {
			bad := r.Raw()
			bad[i] ^= 0x10
			if p, err := snp.Parse(bad); err == nil && e.Check(p) == nil {
				t.Fatalf("a report with byte %#x changed passes", i)
			}
		}
	}
	if _, err := snp.VerifyEndorsement(leaf[0], given, snp.AMD()[1:], unpublished, at); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("without Milan's root: %v", err)
	}
}

// AMD's embedded roots are self-signed, publish lists, and vouch for both
// authorities of their line.
func TestAnchors(t *testing.T) {
	for _, a := range snp.AMD() {
		for i, prefix := range []string{"SEV-", "SEV-VLEK-"} {
			authority := a.Authorities[i]
			p, err := chain.Verify(authority, nil, []*x509.Certificate{a.Root}, snptest.Now)
			if err != nil || authority.Subject.CommonName != prefix+a.Product || p.Root().Subject.CommonName != "ARK-"+a.Product {
				t.Errorf("%s of %s: %v", authority.Subject.CommonName, a.Product, err)
			}
		}
		if err := a.Root.CheckSignatureFrom(a.Root); err != nil || a.Root.KeyUsage&x509.KeyUsageCRLSign == 0 {
			t.Errorf("root of %s: %v, usage %b", a.Product, err, a.Root.KeyUsage)
		}
	}
	for _, name := range []string{"ask_ark_milan", "ask_ark_milan_vlek", "ask_ark_genoa", "ask_ark_genoa_vlek", "ask_ark_turin_vcek", "ask_ark_turin_vlek"} {
		all, err := snp.ParseCertificates(vector(t, "trust/"+name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		if !known(all[0]) || !known(all[1]) {
			t.Errorf("%s is not embedded", name)
		}
	}
}

func known(c *x509.Certificate) bool {
	for _, a := range snp.AMD() {
		if a.Root.Equal(c) || a.Authorities[0].Equal(c) || a.Authorities[1].Equal(c) {
			return true
		}
	}
	return false
}

// Synthetic, since no genuine report of such a processor is public: the same
// key signs two reports that differ in the model alone. go-sev-guest v0.15.0
// takes the model that is in its table and refuses the other; here its
// endorsement decides.
func TestProcessorThatNoTableKnows(t *testing.T) {
	v := snptest.Draw(t, "Genoa")
	k := v.VCEK(nil)
	for name, c := range map[string]struct {
		model uint8
		peer  bool
	}{"in the table": {0x11, true}, "in none": {0xa0, false}} {
		t.Run(name, func(t *testing.T) {
			raw := k.Report(func(r *snp.Report) { r.CPUID.Model = c.model })
			if err := endorse(t, v, k).Check(parse(t, raw)); err != nil {
				t.Error(err)
			}
			if err := peer(t, v, append(raw, k.Table()...)); (err == nil) != c.peer {
				t.Errorf("go-sev-guest: accepted is %t, %v", err == nil, err)
			}
		})
	}
}

// peer is go-sev-guest's opinion of a report and its table under a test root.
func peer(t *testing.T, v *snptest.Vendor, extended []byte) error {
	t.Helper()
	attestation, err := abi.ReportCertsToProto(extended)
	if err != nil {
		return err
	}
	o := verify.DefaultOptions()
	o.DisableCertFetching, o.Now = true, snptest.Now
	o.TrustedRoots = map[string][]*trust.AMDRootCerts{v.Product: {{
		ProductLine: v.Product,
		ProductCerts: &trust.ProductCerts{
			Ark: v.ARK.Certificate, Ask: v.ASK.Certificate, Asvk: v.ASVK.Certificate,
		},
	}}}
	return verify.SnpAttestation(attestation, o)
}
