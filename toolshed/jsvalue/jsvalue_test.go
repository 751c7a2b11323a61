package jsvalue

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"testing"
)

// What Node.js 20's v8.serialize wrote, with what JSON.stringify said of it;
// empty where JSON cannot hold it.
var written = []struct{ name, bytes, json string }{
	{"null", "ff0f30", `null`},
	{"true", "ff0f54", `true`},
	{"small", "ff0f4954", `42`},
	{"negative", "ff0f4901", `-1`},
	{"double", "ff0f4e9a9999999999f13f", `1.1`},
	{"latin", "ff0f22026fe9", `"oé"`},
	{"wide", "ff0f6304e5652c67", `"日本"`},
	{"object", "ff0f6f22016149022201624100240000" + "7b02", `{"a":1,"b":[]}`},
	{"array", "ff0f410249025f240002", `[1,null]`},
	{"date", "ff0f440000000000000000", `"1970-01-01T00:00:00.000Z"`},
	{"undefined", "ff0f5f", ""},
	{"bigint", "ff0f5a100100000000000000", ""},
	{"map", "ff0f3b22016149023a02", ""},
}

func TestReads(t *testing.T) {
	for _, c := range written {
		b, err := hex.DecodeString(c.bytes)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ToJSON(b)
		if string(got) != c.json || (c.json == "") != errors.Is(err, ErrNotJSON) {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
}

func TestWrites(t *testing.T) {
	for _, c := range written {
		if c.json == "" || c.name == "date" || c.name == "array" {
			continue
		}
		got, err := FromJSON([]byte(c.json))
		if err != nil || hex.EncodeToString(got) != c.bytes {
			t.Errorf("%s: %x, %v, want %s", c.name, got, err, c.bytes)
		}
	}
}

func TestNumbers(t *testing.T) {
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	for _, n := range []Number{{Float: 1.5}, {Float: -7}, {Big: big.NewInt(0)}, {Big: big.NewInt(-255)}, {Big: huge}} {
		got, err := ReadNumber(n.Bytes())
		if err != nil || got.Float != n.Float || (n.Big != nil && got.Big.Cmp(n.Big) != 0) {
			t.Errorf("%v is %v, %v", n, got, err)
		}
	}
	if _, err := ReadNumber([]byte{0xff, 15, '0'}); !errors.Is(err, ErrBroken) {
		t.Errorf("null as a number: %v", err)
	}
}

// Deep and endless values are refused.
func TestBounds(t *testing.T) {
	deep := bytes.Repeat([]byte("["), maxDepth+2)
	if _, err := FromJSON(append(deep, bytes.Repeat([]byte("]"), maxDepth+2)...)); err == nil {
		t.Error("deep JSON is taken")
	}
	if _, err := ToJSON(append([]byte{0xff, 15}, bytes.Repeat([]byte("A\x01"), maxDepth+2)...)); err == nil {
		t.Error("a deep value is taken")
	}
}

// What is read as JSON is JSON, and is read the same when it is written again.
func FuzzToJSON(f *testing.F) {
	for _, c := range written {
		b, _ := hex.DecodeString(c.bytes)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ReadNumber(b)
		got, err := ToJSON(b)
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%x is %q", b, got)
		}
		again, err := FromJSON(got)
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if third, err := ToJSON(again); err != nil || !bytes.Equal(got, third) {
			t.Errorf("%q, then %q, %v", got, third, err)
		}
	})
}

// Any JSON is held, and comes out the same.
func FuzzFromJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,-0,"x",null,true]}`, `"日本\u0000"`, `1e400`, `[[]]`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := FromJSON(text)
		if err != nil {
			return
		}
		if _, err := ToJSON(b); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
