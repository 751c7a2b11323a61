package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/eventlog"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// fields are the length-delimited fields of a protobuf message, by number.
func fields(t *testing.T, b []byte) map[protowire.Number][][]byte {
	t.Helper()
	all := map[protowire.Number][][]byte{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(number, kind, b)
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b)
			all[number] = append(all[number], value)
		}
		b = b[size:]
	}
	return all
}

// Quotes of a confidential VM of Google's, as go-tpm-tools has them
// (proto/attest/attest.proto, proto/tpm/tpm.proto): the attestation key is
// accepted, the quote genuine, and the log replays to what it covers. Google's
// machines were not tried live.
func TestGCPQuotes(t *testing.T) {
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/google/go-tpm-tools").Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	for name, nonce := range map[string][]byte{"gce-cos-85-no-nonce.pb": nil, "gce-cos-85-nonce9009.pb": {0x90, 0x09}} {
		b, err := os.ReadFile(filepath.Join(module.Dir, "internal", "test", "attestations", name))
		if err != nil {
			t.Fatal(err)
		}
		attestation := fields(t, b)
		ak, err := tpm.ParseAK(attestation[1][0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		events, err := eventlog.Parse(attestation[3][0])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		replayed, found := eventlog.Replay(events), false
		for _, encoded := range attestation[2] {
			quote := fields(t, encoded)
			q, err := tpm.ParseQuote(ak, quote[1][0], quote[2][0])
			if err != nil {
				// The SHA-1 bank's is signed over another hash in some.
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(nonce) > 0 && !bytes.Equal(q.ExtraData, nonce) {
				t.Errorf("%s: it answers %x, want %x", name, q.ExtraData, nonce)
			}
			changed := bytes.Clone(quote[1][0])
			changed[len(changed)-1] ^= 1
			if _, err := tpm.ParseQuote(ak, changed, quote[2][0]); err == nil {
				t.Errorf("%s: a changed quote is genuine", name)
			}
			found = found || q.Banks[0].Hash == 0x0b && covers(t, q, fields(t, quote[3][0])[2], replayed)
		}
		if !found {
			t.Errorf("%s: no quote of the SHA-256 bank is what the log replays to", name)
		}
	}
}

// covers reports whether the values shown, a map of numbers to values, hash to
// the quote's digest, and are what the log replays to where firmware alone
// extends.
func covers(t *testing.T, q *tpm.Quote, shown [][]byte, replayed attest.Registers) bool {
	t.Helper()
	var values attest.Registers
	for _, entry := range shown {
		number := 0
		// The entry of register 0 leaves its key out.
		if tag, kind, n := protowire.ConsumeTag(entry); tag == 1 && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(entry[n:])
			number = int(v)
		}
		values[number] = attest.Digest(fields(t, entry)[2][0])
	}
	for r := range 8 {
		if values[r] != replayed[r] {
			t.Errorf("register %d is %s, the log makes %s", r, values[r], replayed[r])
		}
	}
	h := sha256.New()
	for r := range values {
		if q.Banks[0].Bitmap[r/8]&(1<<(r%8)) != 0 {
			h.Write(values[r][:])
		}
	}
	return bytes.Equal(h.Sum(nil), q.Digest)
}
