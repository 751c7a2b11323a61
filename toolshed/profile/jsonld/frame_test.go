package jsonld

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// clique are nodes of which each leads to each.
func clique(n int) []any {
	var all []any
	for i := range n {
		var to []any
		for j := range n {
			if j != i {
				to = append(to, map[string]any{"@id": fmt.Sprint("http://e/", j)})
			}
		}
		all = append(all, map[string]any{"@id": fmt.Sprint("http://e/", i), "@type": []any{"http://e/T" + fmt.Sprint(i%2)}, "http://e/p": to})
	}
	return all
}

// What a frame makes is bounded before it is made: a few nodes that lead to each
// other are more than any memory holds where each is written wherever it stands.
func TestFramesAreBounded(t *testing.T) {
	const vocabulary = `"@context": {"@vocab": "http://e/", "how": "@embed", "from": {"@reverse": "http://e/p"}}`
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf(`"p%d": {}`, i))
	}
	for _, c := range []struct {
		frame string
		nodes int
		want  string
	}{
		{`{` + vocabulary + `, "@embed": "@always"}`, 20, "@embed"}, {`{` + vocabulary + `, "how": "@always"}`, 20, "@embed"},
		{`{` + vocabulary + `, "p": {"@embed": "@last"}}`, 20, "@embed"}, {`{` + vocabulary + `, "p": {"p": [{"@embed": ["@always"]}]}}`, 20, "@embed"},
		{`{` + vocabulary + `}`, 20, ""}, {`{` + vocabulary + `, "@embed": "@never"}`, 20, ""}, {`{` + vocabulary + `, "@embed": true, "@type": "T1"}`, 40, ""},
		{`{` + vocabulary + `}`, 90, "more than 100000"}, {`{` + vocabulary + `, "@id": "http://e/3"}`, 90, ""}, {`{` + vocabulary + `, "@type": "T0"}`, 90, "more than 100000"},
		{`{` + vocabulary + `, ` + strings.Join(many, ", ") + `}`, 30, "more than 100000"},
		{`{` + vocabulary + `, "from": {}}`, 90, "more than 100000"}, {`{` + vocabulary + `, "from": {}}`, 10, ""},
	} {
		frame, err := Decode([]byte(c.frame))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Frame(clique(c.nodes), frame.(map[string]any))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrDocument) || !strings.Contains(fmt.Sprint(err), c.want)) {
			t.Errorf("%.150s of %d: error %v, want %q", c.frame, c.nodes, err, c.want)
		}
	}
}
