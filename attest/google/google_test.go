package google_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// vector reads a file of go-tpm-tools, which has certificates of Google's.
func vector(tb testing.TB, name string) []byte {
	tb.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/google/go-tpm-tools").Output()
	if err != nil {
		tb.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(module.Dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	if block, _ := pem.Decode(b); block != nil {
		return block.Bytes
	}
	return b
}

func certificate(tb testing.TB, name string) *tpm.AKCertificate {
	tb.Helper()
	c, err := tpm.ParseAKCertificate(vector(tb, "internal/test/certificates/"+name+".pem"))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestRoots(t *testing.T) {
	want := []struct{ file, sum string }{
		{"gcp_ek_ak_ca_root.crt", "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"},
		{"tpm_ek_root_1.cer", "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf"},
	}
	roots := google.Roots()
	if len(roots) != len(want) {
		t.Fatalf("%d roots", len(roots))
	}
	for i, w := range want {
		sum := sha256.Sum256(roots[i].Raw)
		if !bytes.Equal(roots[i].Raw, vector(t, "server/ca-certs/"+w.file)) || hex.EncodeToString(sum[:]) != w.sum {
			t.Errorf("%s: %x", w.file, sum)
		}
	}
}

// Google's own certificates of attestation keys lead to its root, name their
// instance, and are told from those of endorsement keys.
func TestCertificates(t *testing.T) {
	var intermediates []*x509.Certificate
	for _, name := range []string{"gcp_ek_ak_ca_intermediate_v3", "tpm_ek_intermediate_3"} {
		some, err := chain.ParseAll(name, vector(t, "server/ca-certs/"+name+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		intermediates = append(intermediates, some...)
	}
	at := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	for name, root := range map[string]int{"pca_tpm_ecc_sign_cert": 0, "pca_tpm_rsa_sign_cert": 0, "uca_tpm_ecc_sign_cert": 1, "uca_tpm_rsa_sign_cert": 1} {
		c := certificate(t, name)
		p, err := c.Path(intermediates, google.Roots()[root], at)
		if err != nil || len(p.Certificates) != 3 {
			t.Fatalf("%s: %v", name, err)
		}
		i, err := google.ParseInstance(c.Extension(google.OID))
		want := google.Instance{
			Zone: "us-central1-a", ProjectNumber: 117478743145, ProjectID: "google.com:wuale-gcp-testing",
			ID: 218557372616137117, Name: "cs-debug-pca", Production: true,
		}
		if root == 1 {
			want.ID, want.Name = 5780156274199835632, "cs-debug"
		}
		if err != nil || *i != want {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
	for _, name := range []string{"pca_tpm_ecc_enc_cert", "pca_tpm_rsa_enc_cert", "uca_tpm_ecc_enc_cert", "uca_tpm_rsa_enc_cert"} {
		if _, err := tpm.ParseAKCertificate(vector(t, "internal/test/certificates/"+name+".pem")); !errors.Is(err, attest.ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// info is the extension as Google writes it.
type info struct {
	Zone     string `asn1:"utf8"`
	Number   *big.Int
	Project  string `asn1:"utf8"`
	ID       *big.Int
	Name     string   `asn1:"utf8"`
	Security security `asn1:"optional,explicit,tag:0"`
}

type security struct {
	Version    int  `asn1:"explicit,tag:0"`
	Production bool `asn1:"explicit,tag:1"`
}

func good() info {
	return info{Zone: "here-1", Number: big.NewInt(5), Project: "project", ID: new(big.Int).SetUint64(1<<63 + 1), Name: "machine", Security: security{1, true}}
}

func TestParseInstance(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*info)
		says string
	}{
		"good":             {func(*info) {}, ""},
		"no zone":          {func(i *info) { i.Zone = "" }, "zone"},
		"line in the zone": {func(i *info) { i.Zone = "a\nb" }, "zone"},
		"long project":     {func(i *info) { i.Project = strings.Repeat("x", 129) }, "project id"},
		"longest project":  {func(i *info) { i.Project = strings.Repeat("x", 128) }, ""},
		"name not ascii":   {func(i *info) { i.Name = "m\u00e4chine" }, "instance name"},
		"negative number":  {func(i *info) { i.Number = big.NewInt(-1) }, "project number"},
		"large id":         {func(i *info) { i.ID = new(big.Int).Lsh(big.NewInt(1), 64) }, "instance id"},
		"too long":         {func(i *info) { i.Name = strings.Repeat("x", 1025) }, "bytes"},
	} {
		i := good()
		c.edit(&i)
		der, err := asn1.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		read, err := google.ParseInstance(der)
		if c.says == "" {
			if err != nil || read.Name != i.Name || read.ID != i.ID.Uint64() || read.ProjectNumber != 5 || !read.Production {
				t.Errorf("%s: %+v, %v", name, read, err)
			}
		} else if !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if c.says == "" {
			if _, err := google.ParseInstance(append(der, 0)); !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%s and more: %v", name, err)
			}
		}
	}
}

func TestProduction(t *testing.T) {
	for _, want := range []bool{true, false} {
		i := good()
		i.Security.Production = want
		der, err := asn1.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		read, err := google.ParseInstance(der)
		if err != nil || read.Production != want || strings.Contains(read.String(), "not a production machine") == want {
			t.Errorf("%v: %v, %v", want, read, err)
		}
	}
}

// What stands behind the five fields is read, or refused.
func TestSecurityProperties(t *testing.T) {
	der, err := asn1.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tail string
		want error
	}{
		"none":            {"", nil},
		"as Google's":     {"\xa0\x0c\x30\x0a\xa0\x03\x02\x01\x00\xa1\x03\x01\x01\xff", nil},
		"nothing in them": {"\xa0\x02\x30\x00", nil},
		"no sequence":     {"\xa0\x03\x02\x01\x00", attest.ErrMalformed},
		"no truth":        {"\xa0\x07\x30\x05\xa1\x03\x01\x01\x05", attest.ErrMalformed},
		"more than one":   {"\xa0\x04\x30\x00\x05\x00", attest.ErrMalformed},
	} {
		// The extension ends with the properties, which have 12 bytes and a head
		// of two; all lengths are below 128.
		fields := der[2 : len(der)-14]
		b := append([]byte{0x30, byte(len(fields) + len(c.tail))}, fields...)
		if _, err := google.ParseInstance(append(b, c.tail...)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParseInstance(f *testing.F) {
	der, err := asn1.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(certificate(f, "pca_tpm_ecc_sign_cert").Extension(google.OID))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := google.ParseInstance(b)
		if err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("error %v of no known kind", err)
		}
		if err == nil && (i.Zone == "" || strings.ContainsAny(i.String(), "\n\x1b")) {
			t.Errorf("read %q", i)
		}
	})
}
