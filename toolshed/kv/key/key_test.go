package key

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func integer(text string) *big.Int {
	v, ok := new(big.Int).SetString(text, 10)
	if !ok {
		panic(text)
	}
	return v
}

// ordered are keys in Deno's order.
var ordered = []Key{
	{[]byte{}}, {[]byte{0}}, {[]byte{0, 0}}, {[]byte{0, 1}}, {[]byte{1}}, {[]byte{0xff}},
	{""}, {"\x00"}, {"a"}, {"a", []byte{}}, {"a", "b"}, {"a", 1.0}, {"a", true}, {"a\x00"}, {"ab"}, {"é"}, {"\U0010ffff"},
	{integer("-" + strings.Repeat("9", 40))}, {integer("-18446744073709551616")}, {integer("-18446744073709551615")}, {integer("-256")},
	{integer("-1")}, {integer("0")}, {integer("1")}, {integer("255")}, {integer("256")}, {integer("18446744073709551615")},
	{integer("18446744073709551616")}, {integer(strings.Repeat("9", 40))},
	{math.Copysign(math.NaN(), -1)}, {math.Inf(-1)}, {-10.0}, {math.Copysign(0, -1)}, {0.0}, {0.5}, {10.0}, {math.Inf(1)}, {math.NaN()},
	{false}, {true}, {true, false},
}

func TestOrder(t *testing.T) {
	var last []byte
	for _, k := range ordered {
		b, err := k.Encode()
		if err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		if bytes.Compare(last, b) >= 0 {
			t.Errorf("%v does not follow: %x, %x", k, last, b)
		}
		last = b
		for form, again := range map[string]func() (Key, error){
			"bytes": func() (Key, error) { return Decode(b) },
			"text":  func() (Key, error) { return ParseText(k.Text()) },
			"json": func() (back Key, err error) {
				text, err := json.Marshal(k)
				if err == nil {
					err = json.Unmarshal(text, &back)
				}
				return back, err
			},
		} {
			back, err := again()
			if err != nil {
				t.Errorf("%v as %s: %v", k, form, err)
				continue
			}
			if second, err := back.Encode(); err != nil || !bytes.Equal(b, second) {
				t.Errorf("%v as %s is %v: %v", k, form, back, err)
			}
		}
	}
}

// The bytes that Deno's documentation of the form leads to.
func TestEncoding(t *testing.T) {
	for want, k := range map[string]Key{
		"02746573740002e6b58be8af9500": {"test", "测试"},
		"0100ffff01020300":             {[]byte{0, 0xff, 1, 2, 3}},
		"1501160100" + "13fe" + "14":   {integer("1"), integer("256"), integer("-1"), integer("0")},
		"21c0000000000000002627":       {2.0, false, true},
		"1d09010000000000000000":       {integer("18446744073709551616")},
		"0bf6feffffffffffffffff":       {integer("-18446744073709551616")},
	} {
		if got, err := k.Encode(); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%v is %x, %v, want %s", k, got, err, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	encode := func(k Key) []byte {
		b, err := k.EncodePrefix()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	start, end := Prefix(encode(Key{"a"}))
	for _, k := range ordered {
		b := encode(k)
		within := bytes.Compare(start, b) <= 0 && bytes.Compare(b, end) < 0
		if want := len(k) > 1 && k[0] == "a"; within != want {
			t.Errorf("%v is within ['a']: %t", k, within)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, text := range []string{"a//b", "a/", "%zz", "%ff", "~i:x", "~n:", "~b:yes", "~x:*", "~i:" + strings.Repeat("9", 700), strings.Repeat("a/", MaxParts) + "a"} {
		if k, err := ParseText(text); !errors.Is(err, ErrBroken) {
			t.Errorf("%.20q is %v, %v", text, k, err)
		}
	}
	for _, text := range []string{`1`, `[null]`, `[[]]`, `[{}]`, `[{"bigint":"1","number":"1"}]`, `[{"bigint":"x"}]`, `[{"other":1}]`, `[{"number":"x"}]`} {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); !errors.Is(err, ErrBroken) {
			t.Errorf("%s is %v, %v", text, k, err)
		}
	}
	for _, k := range []Key{{}, {1}, {nil}, {strings.Repeat("a", MaxBytes)}, {"\xff"}, {new(big.Int).Lsh(big.NewInt(1), 3000)}, slices.Repeat(Key{"a"}, MaxParts+1)} {
		if _, err := k.Encode(); !errors.Is(err, ErrBroken) {
			t.Errorf("%.40v: %v", k, err)
		}
	}
}

// What decodes has one form.
func FuzzDecode(f *testing.F) {
	for _, k := range ordered {
		b, _ := k.Encode()
		f.Add(b)
	}
	f.Add([]byte{0x15, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := k.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x, then %x, %v", b, again, err)
		}
	})
}

func FuzzParseText(f *testing.F) {
	for _, k := range ordered {
		f.Add(k.Text())
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseText(text)
		if err != nil || len(k) == 0 {
			return
		}
		again, err := ParseText(k.Text())
		if err != nil || again.Text() != k.Text() {
			t.Errorf("%q is %q, then %q, %v", text, k.Text(), again.Text(), err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, k := range ordered {
		b, _ := json.Marshal(k)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var k, again Key
		if json.Unmarshal(b, &k) != nil {
			return
		}
		text, err := json.Marshal(k)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if err != nil || again.Text() != k.Text() {
			t.Errorf("%s: %v", b, err)
		}
	})
}
