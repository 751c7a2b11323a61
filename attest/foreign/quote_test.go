package foreign_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/foreign"
	"github.com/toolshed-cloud/shed/attest/policy"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// quoted is what the agent's attester quoted on a real software TPM, taken out
// of its evidence: the quote, and the extra data that it answers.
func quoted(tb testing.TB) (foreign.Quote, attest.Digest) {
	tb.Helper()
	m := verifiertest.Boot(tb)
	nonce := attest.Nonce{1}
	e, err := evidence.Decode(m.Evidence(tb, nonce, attest.Digest{}))
	if err != nil {
		tb.Fatal(err)
	}
	root, err := e.Batch.Root(m.Channel.Leaf(nonce, e.Config, e.Claim))
	if err != nil {
		tb.Fatal(err)
	}
	var registers strings.Builder
	registers.WriteString("  sha256:\n")
	for i, r := range tpm.Selection {
		fmt.Fprintf(&registers, "    %-2d: 0x%X\n", r, e.TPM.Registers[i][:])
	}
	public := binary.BigEndian.AppendUint16(nil, uint16(len(e.TPM.AKPublic)))
	return foreign.Quote{
		Attest: e.TPM.Quote, Signature: e.TPM.Signature, AK: append(public, e.TPM.AKPublic...), Registers: []byte(registers.String()),
	}, attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())
}

func TestQuote(t *testing.T) {
	good, extra := quoted(t)
	asked := foreign.Asked{Data: extra[:]}
	r, err := foreign.TPM(good, asked)
	if err != nil || r.Policy != foreign.NotAsked || len(r.Verified) != 4 || fact(r, "pcr2") == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	bare := good
	bare.AK = good.AK[2:]
	if _, err := foreign.TPM(bare, asked); err != nil {
		t.Errorf("TPMT_PUBLIC: %v", err)
	}
	if r, err = foreign.TPM(good, foreign.Asked{Policy: new(policy.Policy)}); err != nil || r.Policy != foreign.Refused {
		t.Errorf("by policy: %+v, %v", r, err)
	}
	other, _ := quoted(t)
	for name, c := range map[string]struct {
		edit func(*foreign.Quote)
		want error
	}{
		"quote":          {func(q *foreign.Quote) { q.Attest = flipped(q.Attest, 60) }, attest.ErrSignature},
		"signature":      {func(q *foreign.Quote) { q.Signature = flipped(q.Signature, 30) }, attest.ErrSignature},
		"another's":      {func(q *foreign.Quote) { q.AK = other.AK }, attest.ErrSignature},
		"no key":         {func(q *foreign.Quote) { q.AK = nil }, attest.ErrMalformed},
		"registers":      {func(q *foreign.Quote) { q.Registers = []byte(strings.Replace(string(q.Registers), "0x0", "0x1", 1)) }, attest.ErrRegisters},
		"no registers":   {func(q *foreign.Quote) { q.Registers = []byte{} }, attest.ErrRegisters},
		"register twice": {func(q *foreign.Quote) { q.Registers = append(q.Registers, "0: 0x00\n"...) }, attest.ErrMalformed},
		"no log":         {func(q *foreign.Quote) { q.EventLog = []byte{1} }, attest.ErrMalformed},
		"rsa attributes": {func(q *foreign.Quote) { q.AK = flipped(q.AK, 7) }, attest.ErrIdentity},
	} {
		q := good
		q.Registers = append([]byte{}, good.Registers...)
		c.edit(&q)
		if _, err := foreign.TPM(q, asked); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A program that is not ours accepts our quote, by the same files, and its key
// in PEM is accepted here; what it refuses is refused here too.
func TestOthersAgree(t *testing.T) {
	tool, err := exec.LookPath("tpm2_checkquote")
	if err != nil {
		t.Fatalf("%v (Debian package tpm2-tools)", err)
	}
	q, extra := quoted(t)
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(message []byte, extra string) error {
		out, err := exec.Command(tool, "-u", file("ak.pub", q.AK), "-m", file("quote", message), "-s", file("signature", q.Signature), "-g", "sha256", "-q", extra).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	if err := check(q.Attest, hex.EncodeToString(extra[:])); err != nil {
		t.Errorf("tpm2_checkquote refuses our quote: %v", err)
	}
	if check(flipped(q.Attest, 60), hex.EncodeToString(extra[:])) == nil || check(q.Attest, "00") == nil {
		t.Error("tpm2_checkquote accepts what is not ours")
	}
	text, err := exec.Command("tpm2_print", "-t", "TPM2B_PUBLIC", "-f", "pem", filepath.Join(dir, "ak.pub")).Output()
	if err != nil {
		t.Fatal(err)
	}
	q.AK = text
	r, err := foreign.TPM(q, foreign.Asked{Data: extra[:]})
	if err != nil || len(r.Warnings) != 3 {
		t.Errorf("the key in PEM: %+v, %v", r, err)
	}
}

// A log of firmware's explains what the firmware measured and no more: what ran
// later is named.
func TestEventLog(t *testing.T) {
	q, _ := quoted(t)
	q.EventLog = header()
	r, err := foreign.TPM(q, foreign.Asked{})
	if err != nil || !strings.Contains(strings.Join(r.Warnings, "\n"), "0 events does not explain pcr2, pcr3, pcr4, pcr9, pcr11, pcr14, pcr15") {
		t.Errorf("%+v, %v", r, err)
	}
	q.Registers = nil
	if _, err := foreign.TPM(q, foreign.Asked{}); !errors.Is(err, attest.ErrRegisters) {
		t.Errorf("a log that does not replay: %v", err)
	}
}

// header is a log without an event, with a bank of SHA-256 (TCG PC Client
// Platform Firmware Profile 1.06, section 10.2.1.3). Synthetic.
func header() []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	b := make([]byte, 28)
	b[4] = 3
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
}

// What tpm2_pcrread does not print is no list of registers.
func TestParseRegistersRefuses(t *testing.T) {
	value := strings.Repeat("00", 32)
	for name, text := range map[string]string{
		"no number": "x: " + value, "below zero": "-1: " + value, "beyond the last": "24: " + value, "twice": "1: " + value + "\n1: " + value,
		"short": "1: 00", "no hex": "1: " + strings.Repeat("xx", 32), "too large": strings.Repeat("\n", 16<<10+1),
	} {
		if _, err := foreign.ParseRegisters([]byte(text)); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	registers, err := foreign.ParseRegisters([]byte("sha1:\n  1 : 0x00\nsha256:\n  1 : 0X" + strings.Repeat("AB", 32) + "\n"))
	if err != nil || registers[1].String() != strings.Repeat("ab", 32) {
		t.Errorf("as it prints them: %s, %v", registers[1], err)
	}
}

func FuzzParseRegisters(f *testing.F) {
	f.Add([]byte("sha256:\n 0 : 0x" + strings.Repeat("00", 32) + "\n"))
	f.Add([]byte("sha1:\n0: 1\nsha256:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := foreign.ParseRegisters(text); err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Error(err)
		}
	})
}

// Whatever lies in a directory sorts without a panic, and what is no
// certificate is none.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"tcbInfo":{},"signature":"00"}`))
	f.Add([]byte("-----BEGIN%20CERTIFICATE-----%0A"))
	f.Add([]byte("30820000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		foreign.SortCollateral(b)
		if _, err := foreign.SNPCertificates(b); err != nil && !errors.Is(err, attest.ErrMalformed) {
			t.Error(err)
		}
		if _, _, err := tpm.ParseAKAnyForm(b); err != nil && !errors.Is(err, attest.ErrMalformed) && !errors.Is(err, attest.ErrIdentity) {
			t.Error(err)
		}
	})
}
