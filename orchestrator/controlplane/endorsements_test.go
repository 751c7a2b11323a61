package controlplane

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/orchestrator/config"
)

func writePEM(t *testing.T, kind string, blocks ...string) string {
	t.Helper()
	var text []byte
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(b)})...)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadEndorsements(t *testing.T) {
	if b, err := readEndorsements(nil); b != nil || err != nil {
		t.Errorf("none: %x, %v", b, err)
	}
	b, err := readEndorsements([]config.Endorsement{
		{File: writePEM(t, "CERTIFICATE", "one", "two"), Kind: config.EKIntermediates},
		{File: writePEM(t, "CERTIFICATE", "vcek"), Kind: config.ReportCertificates},
		{File: writePEM(t, "X509 CRL", "list"), Kind: config.RevocationLists},
		{File: writePEM(t, "X509 CRL", "another"), Kind: config.RevocationLists},
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.DecodeEndorsements(b)
	if err != nil {
		t.Fatal(err)
	}
	if e.EKCertificate != nil || len(e.EKIntermediates) != 2 || len(e.ReportCertificates) != 1 ||
		len(e.RevocationLists) != 2 || !bytes.Equal(e.RevocationLists[1], []byte("another")) {
		t.Errorf("%+v", e)
	}
}

func TestEndorsementsThatAreNone(t *testing.T) {
	list := writePEM(t, "X509 CRL", "list")
	long := writePEM(t, "X509 CRL", string(make([]byte, 140<<10)))
	for name, named := range map[string][]config.Endorsement{
		"absent":        {{File: filepath.Join(t.TempDir(), "none"), Kind: config.RevocationLists}},
		"another kind":  {{File: list, Kind: config.EKIntermediates}},
		"empty":         {{File: writePEM(t, "X509 CRL"), Kind: config.RevocationLists}},
		"no collateral": {{File: list, Kind: config.TDXCollateral}},
		"too long":      {{File: long, Kind: config.RevocationLists}},
		"too many":      {{File: writePEM(t, "CERTIFICATE", "1", "2", "3", "4", "5"), Kind: config.EKIntermediates}},
	} {
		if _, err := readEndorsements(named); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
