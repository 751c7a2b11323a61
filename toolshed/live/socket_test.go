package live

import (
	"errors"
	"testing"
)

// What a client says is a command, or refused.
func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{
		`{"subscribe":["a"],"after":"e-1"}`, `{"publish":{"topic":"a","data":{"b":[1,null]}},"ref":"x"}`, `{"unsubscribe":[]}`,
		`{}`, `null`, `[]`, `{"subscribe":null}`, `{"publish":{}} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCommand(b)
		if err != nil {
			if !errors.Is(err, errCommand) {
				t.Fatal(err)
			}
			return
		}
		if len(c.Ref) > 64 || c.Subscribe == nil && c.Unsubscribe == nil && c.Publish == nil || c.Publish != nil && len(c.Publish.Data) == 0 {
			t.Errorf("%q is %+v", b, c)
		}
	})
}
