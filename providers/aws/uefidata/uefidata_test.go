package uefidata_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/providers/aws/uefidata"
)

// sample has a variable of every kind.
func sample() []uefidata.Variable {
	all := uefidata.SecureBoot([]byte("platform key"), bytes.Repeat([]byte("kek"), 500), []byte("db"), []byte("dbx"))
	return append(all,
		uefidata.Variable{Name: "Boot0000", GUID: uefidata.Global, Attributes: uefidata.NonVolatile | uefidata.Runtime, Data: []byte{1, 0, 0}},
		uefidata.Variable{
			Name: "Größe", GUID: uefidata.GUID{1}, Attributes: uefidata.Authenticated, Data: []byte{0},
			Timestamp: [16]byte{0xea, 7, 1}, Digest: bytes.Repeat([]byte{9}, 32),
		})
}

func encode(t testing.TB, all []uefidata.Variable) string {
	t.Helper()
	text, err := uefidata.Encode(all)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	text := encode(t, sample())
	got, err := uefidata.Decode(text, nil)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("got %+v, %v", got, err)
	}
	if again := encode(t, sample()); again != text {
		t.Error("the same variables have two texts")
	}
	if all := uefidata.SecureBoot(nil, nil, nil, nil); len(all) != 3 {
		t.Errorf("without dbx there are %d variables", len(all))
	}
}

func TestEncodeRefuses(t *testing.T) {
	noise := make([]byte, 60000)
	mathrand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // it never fails
	for name, all := range map[string][]uefidata.Variable{
		"no name":              {{}},
		"a long name":          {{Name: strings.Repeat("n", 300)}},
		"a name that is none":  {{Name: "\xff"}},
		"too many":             make([]uefidata.Variable, 2000),
		"too large":            {{Name: "n", Data: make([]byte, 2<<20)}},
		"too long a text":      {{Name: "n", Data: noise}},
		"a digest of no one's": {{Name: "n", Digest: []byte{1}}},
	} {
		if text, err := uefidata.Encode(all); !errors.Is(err, uefidata.ErrData) || text != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// spoilt is the sample with its bytes changed and the checksum put right.
func spoilt(t *testing.T, change func([]byte) []byte) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(encode(t, sample()))
	if err != nil {
		t.Fatal(err)
	}
	b = change(b)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:], crc32.MakeTable(crc32.Castagnoli)))
	return base64.StdEncoding.EncodeToString(b)
}

func TestDecodeRefuses(t *testing.T) {
	whole := encode(t, sample())
	for name, text := range map[string]string{
		"nothing":         "",
		"no base64":       "?" + whole,
		"too long":        strings.Repeat("A", uefidata.MaxText+4),
		"another magic":   spoilt(t, func(b []byte) []byte { b[0]++; return b }),
		"another version": spoilt(t, func(b []byte) []byte { b[12]++; return b }),
		"cut off":         spoilt(t, func(b []byte) []byte { return b[:len(b)-9] }),
		"no compression":  spoilt(t, func(b []byte) []byte { return append(b[:16], "variables"...) }),
		"a bad checksum":  whole[:12] + "AAAA" + whole[16:],
	} {
		if all, err := uefidata.Decode(text, nil); !errors.Is(err, uefidata.ErrData) || all != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// packed is a text of bytes that may be no variables.
func packed(t *testing.T, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return spoilt(t, func(head []byte) []byte { return append(head[:16], b.Bytes()...) })
}

// unpacked is the bytes of one variable with so much data, n times.
func unpacked(n, data int) []byte {
	var one []byte
	one = append(binary.LittleEndian.AppendUint64(one, 1), 'n')
	one = append(binary.LittleEndian.AppendUint64(one, uint64(data)), make([]byte, data)...)
	one = append(one, make([]byte, 16+4)...)
	return append(binary.LittleEndian.AppendUint64(nil, uint64(n)), bytes.Repeat(one, n)...)
}

// A small text can hold much: what is read has bounds of its own, and no bytes
// but the variables'.
func TestWhatIsPackedIsBounded(t *testing.T) {
	const most = 1 << 20
	fixed := len(unpacked(1, 0))
	for name, c := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"as many as there may be": {unpacked(1<<10, 0), true},
		"one more":                {unpacked(1<<10+1, 0), false},
		"as large as they may be": {unpacked(1, most-fixed), true},
		"a byte more":             {unpacked(1, most-fixed+1), false},
		"a byte behind them":      {append(unpacked(1, 0), 0), false},
		"a byte is missing":       {unpacked(1, 0)[:fixed-1], false},
		"a count of none":         {nil, false},
		"more than there are":     {append([]byte{2}, unpacked(1, 0)[1:]...), false},
		"a length that overflows": {append(unpacked(1, 0)[:8], bytes.Repeat([]byte{0xff}, 40)...), false},
	} {
		all, err := uefidata.Decode(packed(t, c.raw), nil)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, uefidata.ErrData) {
			t.Errorf("%s: %d variables, %v", name, len(all), err)
		}
	}
}

// Bytes have one text: the bits behind the last byte are zero.
func TestBitsBehindTheLastByte(t *testing.T) {
	for n := range 3 {
		text := encode(t, []uefidata.Variable{{Name: strings.Repeat("n", n+1)}})
		body := strings.TrimRight(text, "=")
		if body == text {
			continue
		}
		last := body[len(body)-1] + 1 // The ones that end so have zero bits: another letter or digit follows.
		if _, err := uefidata.Decode(body[:len(body)-1]+string(last)+text[len(body):], nil); !errors.Is(err, uefidata.ErrData) {
			t.Errorf("%d: %v", n, err)
		}
		return
	}
	t.Error("no text ends in padding")
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add(encode(f, nil))
	f.Add("QU1aTlVFRkkAAAAAAAAAAA==")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := uefidata.Decode(text, nil)
		if err != nil {
			if !errors.Is(err, uefidata.ErrData) || all != nil {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := uefidata.Encode(all)
		if errors.Is(err, uefidata.ErrData) {
			return // it was packed better than we do
		}
		if got, err := uefidata.Decode(again, nil); err != nil || !reflect.DeepEqual(got, all) {
			t.Errorf("%+v became %+v, %v", all, got, err)
		}
	})
}

// theirs is AWS's own tool, in a virtual environment that make test makes.
func theirs(t *testing.T, name string) string {
	t.Helper()
	bin := os.Getenv("SHED_UEFIVARS")
	if bin == "" {
		t.Skip("runs python-uefivars, which make test installs: set SHED_UEFIVARS")
	}
	return filepath.Join(filepath.Dir(bin), name)
}

// AWS's own tool reads what is written here.
func TestTheirsReadsOurs(t *testing.T) {
	cmd := exec.Command(theirs(t, "uefivars"), "-i", "aws", "-o", "json")
	cmd.Stdin = strings.NewReader(encode(t, sample()))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("uefivars: %v", err)
	}
	var got struct {
		Variables []struct {
			Name, Data, Timestamp, Digest string
			Attr                          uint32
		}
	}
	if err := json.Unmarshal(out, &got); err != nil || len(got.Variables) != len(sample()) {
		t.Fatalf("%d variables, %v: %s", len(got.Variables), err, out)
	}
	for i, want := range sample() {
		v := got.Variables[i]
		if v.Name != want.Name || v.Data != hex.EncodeToString(want.Data) || v.Attr != want.Attributes || v.Digest != hex.EncodeToString(want.Digest) {
			t.Errorf("they read %+v, want %+v", v, want)
		}
	}
}

// What is written by AWS's own tool from the files of Secure Boot's variables is
// read here, with their dictionary, and is what we make of them.
func TestOursReadsTheirs(t *testing.T) {
	dir := t.TempDir()
	args := []string{"-i", "none", "-o", "aws"}
	for flag, name := range map[string]string{"-P": "platform key", "-K": "kek", "-b": "db", "-x": "dbx"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, flag, path)
	}
	text, err := exec.Command(theirs(t, "uefivars"), args...).Output()
	if err != nil {
		t.Fatalf("uefivars: %v", err)
	}
	dictionary, err := exec.Command(theirs(t, "python"), "-c",
		"import sys, pyuefivars.aws_v0; sys.stdout.buffer.write(pyuefivars.aws_v0.UEFIVarStoreV0.dict)").Output()
	if err != nil || len(dictionary) == 0 {
		t.Fatalf("their dictionary: %d bytes, %v", len(dictionary), err)
	}
	got, err := uefidata.Decode(strings.TrimSpace(string(text)), dictionary)
	want := uefidata.SecureBoot([]byte("platform key"), []byte("kek"), []byte("db"), []byte("dbx"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}
