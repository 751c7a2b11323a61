// Package querytest is what whoever answers queries has to pass.
//
// Invariants: the answers were made by engines of others (testdata/make.py and chance.py), and
// none of them here.
package querytest

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

//go:embed testdata/facts.nt
var factsText []byte

//go:embed testdata/expected.json
var expectedText []byte

//go:embed testdata/random.json
var randomText []byte

var statement = regexp.MustCompile(`^<([^>]*)> <([^>]*)> (?:<([^>]*)>|"((?:[^"\\]|\\.)*)"(?:@([A-Za-z-]+)|\^\^<([^>]*)>)?) \.$`)

// Facts are those that the queries are asked over.
func Facts(t testing.TB) (all []rdf.Triple) {
	t.Helper()
	for lines := bufio.NewScanner(bytes.NewReader(factsText)); lines.Scan(); {
		m := statement.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("%s", lines.Text())
		}
		text := strings.NewReplacer(`\"`, `"`, `\n`, "\n").Replace(m[4])
		object := rdf.Text(text)
		switch {
		case m[3] != "":
			object = rdf.NewIRI(m[3])
		case m[5] != "":
			object = rdf.InLanguage(text, m[5])
		case m[6] != "":
			object = rdf.Typed(text, m[6])
		}
		all = append(all, rdf.Triple{Subject: rdf.NewIRI(m[1]), Predicate: rdf.NewIRI(m[2]), Object: object})
	}
	return all
}

// Case is a query with another engine's answer.
type Case struct {
	Name, Query string
	Ordered     bool
	Answer      struct {
		Head    struct{ Vars []string }
		Boolean *bool
		Results struct {
			Bindings []map[string]struct {
				Type, Value, Datatype string
				Lang                  string `json:"xml:lang"`
			}
		}
	}
}

// plain is a term in one form of those that mean the same number.
func plain(t rdf.Term) string {
	if t.Kind == rdf.Literal && strings.HasPrefix(t.Datatype, rdf.XSD) {
		if f, err := strconv.ParseFloat(t.Value, 64); err == nil && t.Datatype != rdf.String {
			return t.Datatype + " " + strconv.FormatFloat(f, 'g', 12, 64)
		}
	}
	return t.String()
}

// Cases are the queries.
func Cases(t testing.TB) (all []Case) {
	t.Helper()
	for _, text := range [][]byte{expectedText, randomText} {
		var some []Case
		if err := json.Unmarshal(text, &some); err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	if len(all) < 500 {
		t.Errorf("there are %d queries", len(all))
	}
	return all
}

// Run sees that each query over Facts is answered as another engine answers it.
func Run(t *testing.T, answer func(*sparql.Query) (*query.Result, error)) {
	for _, c := range Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			q, err := sparql.Parse(c.Query)
			if err != nil {
				t.Fatal(err)
			}
			r, err := answer(q)
			if err != nil {
				t.Fatal(err)
			}
			if c.Answer.Boolean != nil {
				if !r.Ask || r.Holds != *c.Answer.Boolean {
					t.Errorf("%t, want %t", r.Holds, *c.Answer.Boolean)
				}
				return
			}
			if !slices.Equal(r.Names, c.Answer.Head.Vars) && !strings.Contains(c.Query, "*") {
				t.Errorf("names %v, want %v", r.Names, c.Answer.Head.Vars)
			}
			got, want := Rows(r), c.rows(r.Names)
			if !c.Ordered {
				slices.Sort(got)
				slices.Sort(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s\nwe answer\n%s\nthey\n%s", c.Query, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// Rows are an answer's, each as a text in which equal numbers look the same.
func Rows(r *query.Result) (all []string) {
	for _, row := range r.Rows {
		var b strings.Builder
		for i, t := range row {
			b.WriteString(r.Names[i] + "=" + plain(t) + " ")
		}
		all = append(all, b.String())
	}
	return all
}

func (c Case) rows(names []string) (all []string) {
	for _, row := range c.Answer.Results.Bindings {
		var b strings.Builder
		for _, name := range names {
			v, ok := row[name]
			t := rdf.Text(v.Value)
			switch {
			case !ok:
				t = rdf.Term{}
			case v.Type == "uri":
				t = rdf.NewIRI(v.Value)
			case v.Lang != "":
				t = rdf.InLanguage(v.Value, v.Lang)
			case v.Datatype != "":
				t = rdf.Typed(v.Value, v.Datatype)
			}
			b.WriteString(name + "=" + plain(t) + " ")
		}
		all = append(all, b.String())
	}
	return all
}
