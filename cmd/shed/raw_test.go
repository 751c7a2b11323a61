package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	tdxtesting "github.com/google/go-tdx-guest/testing"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
	"github.com/toolshed-cloud/shed/cmd/internal/scripttest"
)

// TestRawScripts are scripts about evidence from elsewhere.
func TestRawScripts(t *testing.T) {
	// Drawing keys as AMD's takes seconds: once for all scripts.
	dir := t.TempDir()
	extra := writeQuote(t, dir)
	intel := filepath.Join(moduleDir(t, "github.com/google/go-tdx-guest"), "testing", "testdata")
	writePolicy(t, dir)
	writeClouds(t, dir)
	writeCollateral(t, dir, intel)
	writeMany(t, filepath.Join(dir, "many"))
	write(t, dir, map[string][]byte{"nitro.document": nitrotest.Draw(t, nil).Document(nil, nil, nil, nil)})
	scripttest.Run(t, "testdata/raw", func(env *testscript.Env) error {
		env.Setenv("EXTRA", extra)
		env.Setenv("SEV", filepath.Join(moduleDir(t, "github.com/google/go-sev-guest"), "verify", "testdata"))
		env.Setenv("TDX", intel)
		captured, err := filepath.Abs("../../scripts/attacks/testdata/captured")
		env.Setenv("CAPTURED", captured)
		return errors.Join(err, os.CopyFS(env.WorkDir, os.DirFS(dir)))
	})
}

// moduleDir has the module downloaded where nothing that was built needed it.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m.Dir
}

// writeQuote writes a real TPM's quote, as its machine's evidence has it, in
// the forms of tpm2-tools, and answers its extra data.
func writeQuote(t *testing.T, dir string) string {
	m, nonce := verifiertest.Boot(t), attest.Nonce{1}
	e, err := evidence.Decode(m.Evidence(t, nonce, attest.Digest{}))
	if err != nil {
		t.Fatal(err)
	}
	root, err := e.Batch.Root(m.Channel.Leaf(nonce, e.Config, e.Claim))
	if err != nil {
		t.Fatal(err)
	}
	extra := attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())
	registers := "sha256:\n"
	for i, r := range tpm.Selection {
		registers += fmt.Sprintf("  %d : 0x%X\n", r, e.TPM.Registers[i][:])
	}
	write(t, dir, map[string][]byte{
		"quote": e.TPM.Quote, "signature": e.TPM.Signature, "registers": []byte(registers), "log": eventlog.Encode(measured(m)),
		"other.log": eventlog.Encode(measured(m)[1:]),
		"ak.pub":    append(binary.BigEndian.AppendUint16(nil, uint16(len(e.TPM.AKPublic))), e.TPM.AKPublic...),
	})
	return hex.EncodeToString(extra[:])
}

// measured are the events that make the registers of a machine what they are.
func measured(m *verifiertest.Machine) (events []eventlog.Event) {
	separator, image := attest.Sum(make([]byte, 4)), attest.Sum([]byte("image"))
	for register, digest := range map[uint32]attest.Digest{
		2: separator, 3: separator, 4: image, 9: image, 11: image, 14: attest.ConfigDigest(m.Config), 15: attest.Unclaimed(),
	} {
		events = append(events, eventlog.Event{Register: register, Type: 13, Digest: digest})
	}
	return events
}

// writeMany fills a directory with a file more than is read.
func writeMany(t *testing.T, dir string) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for n := range maxFiles + 1 {
		files[strconv.Itoa(n)] = []byte("certificate")
	}
	write(t, dir, files)
}

// writePolicy writes the strict default and what an owner fills it in with.
func writePolicy(t *testing.T, dir string) {
	strict, err := policy.Default("strict")
	if err != nil {
		t.Fatal(err)
	}
	log := logtest.New(t, 2)
	witnesses := ""
	for _, w := range log.Policy().Witnesses {
		witnesses += w.Key.String() + "\n"
	}
	write(t, dir, map[string][]byte{
		"strict.yaml": strict, "release.pub": publicPEM(logtest.NewReleaseKey(t)),
		"log.vkey": []byte(log.Policy().Log.String()), "witnesses": []byte(witnesses),
	})
}

// writeCollateral writes a genuine quote without the tail that its owners added
// for a test of theirs, and what Intel's service said of its platform, each
// part as the service hands it out.
func writeCollateral(t *testing.T, dir, intel string) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(intel, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var issuers string
	for _, values := range tdxtesting.TcbInfoHeader {
		issuers = values[0]
	}
	write(t, dir, map[string][]byte{
		"spr.quote": bytes.TrimSuffix(read("tdx_prod_quote_SPR_E4.dat"), []byte("\nextra bytes(only for testing purpose)\n")),
	})
	write(t, filepath.Join(dir, "collateral"), map[string][]byte{
		"tcb.json": read("sample_tcbInfo_response"), "qe.json": read("sample_qeIdentity_response"), "issuers": []byte(issuers),
		"pck.crl": read("pckcrl"), "root.crl": read("rootcrl.der"),
	})
}
