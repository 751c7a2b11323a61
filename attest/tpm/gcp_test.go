package tpm_test

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// gcpVector reads certificates out of go-tpm-tools, which has Google's own.
func gcpVector(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/google/go-tpm-tools").Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(module.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	// Some of the files have a text in front of their PEM.
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	all, err := chain.ParseAll(name, b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Google has had two hierarchies, each for endorsement and attestation keys: the
// one that names a manufacturer, and the private CA after it.
func TestGCPCertificates(t *testing.T) {
	manufacturer := []*x509.Certificate{gcpVector(t, "server/ca-certs/tpm_ek_root_1.cer")[0]}
	private := []*x509.Certificate{gcpVector(t, "server/ca-certs/gcp_ek_ak_ca_root.crt")[0]}
	given := slices.Concat(
		gcpVector(t, "server/ca-certs/tpm_ek_intermediate_2.crt"),
		gcpVector(t, "server/ca-certs/tpm_ek_intermediate_3.crt"),
		gcpVector(t, "server/ca-certs/gcp_ek_ak_ca_intermediate_v3.crt"),
	)
	at := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	for name, roots := range map[string][2][]*x509.Certificate{
		"uca_tpm_ecc_enc_cert":  {manufacturer, private},
		"uca_tpm_ecc_sign_cert": {manufacturer, private},
		"uca_tpm_rsa_enc_cert":  {manufacturer, private},
		"uca_tpm_rsa_sign_cert": {manufacturer, private},
		"pca_tpm_ecc_enc_cert":  {private, manufacturer},
		"pca_tpm_ecc_sign_cert": {private, manufacturer},
		"pca_tpm_rsa_enc_cert":  {private, manufacturer},
		"pca_tpm_rsa_sign_cert": {private, manufacturer},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := chain.Handled(gcpVector(t, "internal/test/certificates/"+name+".pem")[0], san)
			p, err := chain.Verify(leaf, given, roots[0], at)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.Certificates) != 3 {
				t.Errorf("path of %d certificates", len(p.Certificates))
			}
			if _, err := chain.Verify(leaf, given, roots[1], at); !errors.Is(err, attest.ErrIdentity) {
				t.Errorf("the other root: %v", err)
			}
			if _, err := chain.Verify(leaf, nil, roots[0], at); !errors.Is(err, attest.ErrIdentity) {
				t.Errorf("no intermediates: %v", err)
			}
			if strings.Contains(name, "_enc_") {
				ofEndorsementKey(t, leaf, given, roots[0][0], at)
			} else if strings.HasPrefix(name, "pca_") {
				notOfEndorsementKey(t, leaf, given, roots[0][0], at)
			}
			// The lists are not among the vectors.
			_, err = chain.Revocations{Treatment: chain.RequiredWhereNamed}.Check(p, at)
			if named := len(p.Leaf().CRLDistributionPoints)+len(p.Certificates[1].CRLDistributionPoints) > 0; named != errors.Is(err, attest.ErrCollateral) {
				t.Errorf("a list is named: %t, %v", named, err)
			}
		})
	}
}

// ofEndorsementKey holds that a certificate is taken for an endorsement key's: that
// of the private CA, which says so by its key usage alone, too.
func ofEndorsementKey(t *testing.T, leaf *x509.Certificate, given []*x509.Certificate, root *x509.Certificate, at time.Time) {
	t.Helper()
	ek, err := tpm.ParseEK(leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ek.Path(given, root, at); err != nil {
		t.Error(err)
	}
}

// notOfEndorsementKey holds that a certificate of a key that signs is not taken for
// one, under the root that vouches for both.
func notOfEndorsementKey(t *testing.T, leaf *x509.Certificate, given []*x509.Certificate, root *x509.Certificate, at time.Time) {
	t.Helper()
	ek, err := tpm.ParseEK(leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ek.Path(given, root, at); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a certificate of a key that signs: %v", err)
	}
}
