package strictjson_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest/strictjson"
)

type value struct {
	A int `json:"a"`
}

func TestUnmarshal(t *testing.T) {
	var v value
	if err := strictjson.Unmarshal([]byte(" {\"a\": 1}\n"), &v); err != nil || v.A != 1 {
		t.Errorf("%+v, error %v", v, err)
	}
	for _, text := range []string{`{"a":1,"b":2}`, `{"a":`, ``, `{"a":"x"}`, ` null`} {
		if err := strictjson.Unmarshal([]byte(text), &v); err == nil {
			t.Errorf("%s was read", text)
		}
	}
	for _, text := range []string{`{"a":1} {}`, `{"a":1}}`, `{"a":1},`, `{"a":1}x`} {
		if err := strictjson.Unmarshal([]byte(text), &v); !errors.Is(err, strictjson.ErrTrailing) {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte(`{"a":1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v value
		if strictjson.Unmarshal(b, &v) == nil && !json.Valid(b) {
			t.Errorf("%q is no json value", b)
		}
	})
}
