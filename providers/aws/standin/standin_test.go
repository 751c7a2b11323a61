package standin

import (
	"strings"
	"testing"
)

// What is parsed and written again is the same document.
func FuzzXML(f *testing.F) {
	for _, seed := range []string{
		`<?xml version="1.0"?><A xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><b>1 &amp; 2</b><c/></A>`, `<a>`, `</a>`, `<a></a><b></b>`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseXML(b)
		if err != nil {
			return
		}
		written := n.bytes()
		again, err := parseXML(written)
		if err != nil {
			t.Skip("a name that is no name")
		}
		if string(again.bytes()) != string(written) {
			t.Errorf("%q became %q", written, again.bytes())
		}
	})
}

func TestNodes(t *testing.T) {
	n, err := parseXML([]byte(`<r><set><item><id>i-1</id></item><item><id>i-2</id></item></set></r>`))
	if err != nil {
		t.Fatal(err)
	}
	if got := n.value("set", "item", "id"); got != "i-1" {
		t.Errorf("got %q", got)
	}
	if !n.mentions(map[string]bool{"i-2": true}) || n.mentions(map[string]bool{"i-3": true}) {
		t.Error("what is mentioned is not known")
	}
	n.at("set", "item").set(leaf("id", "a<b"))
	if !strings.Contains(string(n.bytes()), "<id>a&lt;b</id>") {
		t.Errorf("wrote %s", n.bytes())
	}
}
