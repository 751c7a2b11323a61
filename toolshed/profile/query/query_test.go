package query

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// list is a graph that looks at everything.
type list []rdf.Triple

var _ Graph = list{}

func (l list) Match(p rdf.Triple, found func(rdf.Triple) error) error {
	is := func(want, t rdf.Term) bool { return want.Kind == rdf.None || want == t }
	for _, t := range l {
		if is(p.Subject, t.Subject) && is(p.Predicate, t.Predicate) && is(p.Object, t.Object) {
			if err := found(t); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l list) Estimate(p rdf.Triple) (n int64, err error) {
	err = l.Match(p, func(rdf.Triple) error { n++; return nil })
	return n, err
}

var statement = regexp.MustCompile(`^<([^>]*)> <([^>]*)> (?:<([^>]*)>|"((?:[^"\\]|\\.)*)"(?:@([A-Za-z-]+)|\^\^<([^>]*)>)?) \.$`)

func facts(t testing.TB) list {
	t.Helper()
	f, err := os.Open("testdata/facts.nt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all list
	for lines := bufio.NewScanner(f); lines.Scan(); {
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

// theirs is an answer as the other engine writes it.
type theirs struct {
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
	if n, ok := toNumber(t); ok && n.rank >= isFloat {
		return t.Datatype + " " + strconv.FormatFloat(n.f, 'g', 12, 64)
	} else if ok {
		return t.Datatype + " " + n.r.FloatString(12)
	}
	return t.String()
}

func TestAsAnotherEngineAnswers(t *testing.T) {
	b, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []theirs
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	g := facts(t)
	for _, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			q, err := sparql.Parse(c.Query)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), g, q, Limits{Rows: 10000, Bytes: 1 << 24}, time.Now())
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
			got, want := mine(r), c.rows(r.Names)
			if !c.Ordered {
				slices.Sort(got)
				slices.Sort(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s\nwe answer\n%s\nthey\n%s", c.Query, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
	if len(all) < 100 {
		t.Errorf("there are %d queries", len(all))
	}
}

func mine(r *Result) (all []string) {
	for _, row := range r.Rows {
		var b strings.Builder
		for i, t := range row {
			b.WriteString(r.Names[i] + "=" + plain(t) + " ")
		}
		all = append(all, b.String())
	}
	return all
}

func (c theirs) rows(names []string) (all []string) {
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

// Every function that is read can be evaluated.
func TestFunctionsAreThere(t *testing.T) {
	special := map[string]bool{"BOUND": true, "COALESCE": true, "IF": true, "NOW": true}
	for name := range sparql.Functions {
		if functions[name] == nil && !special[name] {
			t.Errorf("%s is read and not evaluated", name)
		}
	}
	for name := range sparql.Casts {
		if functions[name] == nil {
			t.Errorf("%s is read and not evaluated", name)
		}
	}
	if s := rdf.DoubleText(math.Inf(-1)); s != "-INF" {
		t.Errorf("%s", s)
	}
}
