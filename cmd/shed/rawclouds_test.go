package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// writeClouds writes what machines of clouds show beside their quotes: Azure's
// synthetic, Google's genuine, with policies that accept the first's processor.
func writeClouds(t *testing.T, dir string) {
	w := verifiertest.NewSNP(t, "Genoa")
	writeAzure(t, dir, "snp", func(m *verifiertest.Machine) { w.OnSNP(t, m) })
	x := verifiertest.NewTDX(t)
	writeAzure(t, dir, "tdx", func(m *verifiertest.Machine) { x.OnTDX(t, m) })
	collateral, err := x.Collateral().Encode()
	if err != nil {
		t.Fatal(err)
	}
	strict, err := os.ReadFile(filepath.Join(dir, "strict.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	aws := nitrotest.Draw(t, nil)
	pinned := strings.NewReplacer(
		"nitrotpm:\n  roots: builtin", "nitrotpm:\n  roots: [aws.pem]",
		"snp:\n  roots: builtin", "snp:\n  roots: [{product: Genoa, layout: milan, certificates: ark.pem}]",
		"{bootloader: 10, tee: 0, snp: 23, microcode: 84}", "{bootloader: 4, tee: 1, snp: 24, microcode: 219}",
		"tdx:\n  roots: builtin", "tdx:\n  roots: [intel.pem]", "xfam: {allowed: 0x61ae7,", "xfam: {allowed: 0xffffffff,",
		"azure: refused", "azure: {snp_measurements: [aa"+strings.Repeat("00", 47)+"], tdx_mrtds: [70"+strings.Repeat("00", 47)+"]}",
	).Replace(string(strict))
	write(t, dir, map[string][]byte{
		"azure.yaml": []byte(pinned), "other.yaml": []byte(strings.Replace(pinned, "[aa00", "[bb00", 1)),
		"ark.pem": pemOf(w.Vendor.ARK.Certificate.Raw), "ark.crl": w.Vendor.ARK.List(nil), "snp.certs": w.Key.Table(),
		"intel.pem": pemOf(x.Roots()[0].Raw), "tdx.collateral": collateral,
		"aws.pem": pemOf(aws.Terms().Roots[0].Raw), "aws.document": aws.Document([]byte{0x90, 0x09}, nil, nil, nil),
		"snp.report":   w.Key.Report(func(r *snp.Report) { r.ReportData[0] = 7 }),
		"debug.report": w.Key.Report(func(r *snp.Report) { r.Policy |= snp.PolicyDebug }),
		"td.quote":     x.Quote([64]byte{7}, nil),
		"debug.quote":  x.Quote([64]byte{7}, func(d *tdxtest.Draft) { d.Report.TDAttributes |= tdx.AttributeDebug }),
	})
	writeGoogle(t, dir)
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writeAzure writes a quote by a paravisor's key and what is in its index, with
// the quote of TDX in a file of its own.
func writeAzure(t *testing.T, dir, name string, start func(*verifiertest.Machine)) {
	m := verifiertest.Boot(t)
	start(m)
	e, err := evidence.Decode(m.Evidence(t, attest.Nonce{1}, attest.Digest{}))
	if err != nil {
		t.Fatal(err)
	}
	index, quote := e.Reports[0].Report, []byte{}
	if name == "tdx" {
		at := azuretest.RequestAt + 20 + len(m.Paravisor.Claims)
		index, quote = append(append([]byte{}, index[:at]...), make([]byte, 100)...), index[at:]
	}
	write(t, dir, map[string][]byte{
		name + ".quote": e.TPM.Quote, name + ".signature": e.TPM.Signature, name + ".ak": e.TPM.AKPublic, name + ".hcl": index, name + ".tdquote": quote,
	})
}

// writeGoogle takes a genuine attestation of Google's apart.
func writeGoogle(t *testing.T, dir string) {
	tools := moduleDir(t, "github.com/google/go-tpm-tools")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(tools, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	attestation := protobuf(t, read("internal/test/attestations/gce-cos-85-nonce9009.pb"))
	quote := protobuf(t, attestation[2][1])
	intermediate := read("server/ca-certs/tpm_ek_intermediate_2.crt")
	write(t, dir, map[string][]byte{
		"google.quote": quote[1][0], "google.signature": quote[2][0], "google.ak": attestation[1][0],
	})
	write(t, filepath.Join(dir, "google.certs"), map[string][]byte{"ak.der": attestation[6][0], "intermediate.crt": intermediate})
}

// protobuf are the length-delimited fields of a message, by number.
func protobuf(t *testing.T, b []byte) map[protowire.Number][][]byte {
	t.Helper()
	all := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		number, kind, value, n := consume(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		if kind == protowire.BytesType {
			all[number] = append(all[number], value)
		}
		b = b[n:]
	}
	return all
}

func consume(b []byte) (protowire.Number, protowire.Type, []byte, int) {
	number, kind, head := protowire.ConsumeTag(b)
	if head < 0 {
		return 0, 0, nil, head
	}
	size := protowire.ConsumeFieldValue(number, kind, b[head:])
	if size < 0 {
		return 0, 0, nil, size
	}
	value, _ := protowire.ConsumeBytes(b[head:])
	return number, kind, value, head + size
}
