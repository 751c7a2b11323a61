package jsonld

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/piprate/json-gold/ld"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// texts are triples in an order.
func texts(all []rdf.Triple) (lines []string) {
	for _, t := range all {
		lines = append(lines, fmt.Sprint(t.Subject, " ", t.Predicate, " ", t.Object))
	}
	slices.Sort(lines)
	return lines
}

const person = `{"@context": {"@vocab": "http://e/", "knows": {"@type": "@id"}, "tags": {"@container": "@list"}, "born": {"@type": "http://www.w3.org/2001/XMLSchema#date"}},
	"@id": "http://e/ann", "@type": "Person", "name": "Ann", "age": 41, "height": 1.68, "alive": true, "knows": ["http://e/bob", "http://e/cyd"],
	"label": [{"@value": "Anna", "@language": "de"}, "Ann"], "born": "1985-03-02", "tags": ["b", "a", "b"], "none": {"@list": []}, "raw": {"@type": "@json", "@value": {"a": [1, null]}}}`

func TestParse(t *testing.T) {
	all, err := Parse([]byte(person))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(texts(all), "\n")
	for _, want := range []string{
		`<http://e/ann> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://e/Person>`, `<http://e/ann> <http://e/name> "Ann"`,
		`<http://e/ann> <http://e/age> "41"^^<http://www.w3.org/2001/XMLSchema#integer>`, `<http://e/height> "1.68E0"^^<http://www.w3.org/2001/XMLSchema#double>`,
		`<http://e/label> "Anna"@de`, `<http://e/born> "1985-03-02"^^<http://www.w3.org/2001/XMLSchema#date>`, `<http://e/knows> <http://e/cyd>`,
		`<http://e/none> <http://www.w3.org/1999/02/22-rdf-syntax-ns#nil>`, `<http://e/raw> "{\"a\":[1,null]}"^^<http://www.w3.org/1999/02/22-rdf-syntax-ns#JSON>`,
		`<http://www.w3.org/1999/02/22-rdf-syntax-ns#first> "a"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if len(all) != 19 {
		t.Errorf("%d facts:\n%s", len(all), got)
	}
	again, err := Parse([]byte(person))
	if err != nil || !slices.Equal(texts(again), texts(all)) {
		t.Errorf("the same document is other facts: %v", err)
	}
}

// expanded is a document as the library expands it, its values in an order.
func expanded(t *testing.T, document any) string {
	t.Helper()
	flat, err := ld.NewJsonLdProcessor().Flatten(document, nil, options())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(flat)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What goes in comes out as the same document.
func TestRoundTrip(t *testing.T) {
	for _, text := range []string{
		person,
		`{"@context": "https://schema.org", "@id": "http://e/x", "@type": ["Person", "Thing"], "name": "X", "url": "http://e/", "birthDate": "2000-01-01"}`,
		`[{"@id": "http://e/x", "http://e/p": [{"@id": "http://e/y"}, {"@value": "é<&>"}, {"@value": false}]}, {"@id": "http://e/y", "http://e/q": [{"@list": [{"@list": [{"@value": 1}]}, {"@id": "http://e/x"}]}]}]`,
	} {
		document, err := Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		all, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := expanded(t, Write(all)), expanded(t, document); got != want {
			t.Errorf("out\n%s\nin\n%s", got, want)
		}
	}
}

// A list that two things have, or that has more than a list has, is written as
// the nodes that it is: as a list it would become two, or lose something.
func TestListsThatAreNone(t *testing.T) {
	iri := rdf.NewIRI
	cell := rdf.Skolem([]byte{1}, "l1")
	list := []rdf.Triple{
		{Subject: cell, Predicate: iri(rdf.First), Object: rdf.Text("x")}, {Subject: cell, Predicate: iri(rdf.Rest), Object: iri(rdf.Nil)},
		{Subject: iri("http://e/a"), Predicate: iri("http://e/p"), Object: cell},
	}
	for name, more := range map[string]rdf.Triple{
		"shared": {Subject: iri("http://e/b"), Predicate: iri("http://e/p"), Object: cell}, "more": {Subject: cell, Predicate: iri("http://e/p"), Object: rdf.Text("y")},
	} {
		all := append(slices.Clone(list), more)
		b, err := json.Marshal(Write(all))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(b)
		if err != nil || !slices.Equal(texts(again), texts(all)) {
			t.Errorf("%s: %s, error %v", name, b, err)
		}
	}
}

func TestCompactAndFrame(t *testing.T) {
	all, err := Parse([]byte(`{"@context": "https://schema.org", "@id": "http://e/x", "@type": "Person", "name": "X", "knows": {"@id": "http://e/y", "@type": "Person", "name": "Y"}}`))
	if err != nil {
		t.Fatal(err)
	}
	compact, err := Compact(Write(all[:2]), "https://schema.org")
	if err != nil || compact["@type"] == nil && compact["type"] == nil {
		t.Errorf("%v, error %v", compact, err)
	}
	framed, err := Frame(Write(all), map[string]any{"@context": "https://schema.org", "@id": "http://e/x"})
	if err != nil {
		t.Fatal(err)
	}
	if knows, _ := framed["knows"].(map[string]any); knows["name"] != "Y" {
		t.Errorf("%v", framed)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		`{"@context": "http://127.0.0.1:1/context", "name": "x"}`:                                                    `"http://127.0.0.1:1/context" is elsewhere`,
		`{"@context": ["https://schema.org", "https://w3id.org/x"], "name": "x"}`:                                    "https://w3id.org/x",
		`{"@id": "http://e/x", "name": "x"}`:                                                                         "a property has no IRI",
		`{"@id": "x", "http://e/p": 1}`:                                                                              "@id",
		`{"@id": "http://e/x", "@type": "Person"}`:                                                                   "Person",
		`{"@id": "http://e/x", "http://e/p": {"@id": "y"}}`:                                                          `"http://e/p"`,
		`{"@id": "http://e/g", "@graph": [{"@id": "http://e/x", "http://e/p": 1}], "http://e/q": 1}`:                 "named graphs",
		`{"@id": "http://e/x", "http://e/p": 12345678901234567890}`:                                                  "too large",
		`{"@id": "http://e/x", "http://e/p": {"@value": "x", "@language": "no language!"}}`:                          "language",
		`{"@id": "http://e/x", "http://e/p": {"@value": "x", "@direction": "rtl"}}`:                                  "@direction",
		`{"@id": "http://e/x", "http://e/p": "` + strings.Repeat("x", rdf.MaxLiteralBytes+1) + `"}`:                  "at most",
		`{"@id": "http://e/x", "_:p": "x"}`:                                                                          "_:",
		strings.Repeat(`[`, 70) + strings.Repeat(`]`, 70):                                                            "nested",
		`{"@context": {` + strings.Repeat(`"a": "http://e/a", `, 1) + `"b": [` + strings.Repeat("1,", 2000) + `1]}}`: "values in contexts",
		`"` + strings.Repeat("x", MaxBytes) + `"`:                                                                    "at most 1048576",
		`{"@id": "http://e/x", "http://e/p": 1, "http://e/p": 2}`:                                                    `"http://e/p" is there twice`,
		`[{"@id": "http://e/x", "http://e/p": {"@id": "a:b", "@id": "a:c"}}]`:                                        `"@id" is there twice`,
		`"x"`: "want an object", `{} {}`: "follows", `{`: "no JSON", ``: "no JSON",
		`[` + strings.Repeat(`{"@id": "http://e/x", "http://e/p": {"@list": [1, 2, 3, 4]}},`, 2000) + `{}]`: "more than 10000 facts",
	} {
		all, err := Parse([]byte(text))
		if !errors.Is(err, ErrDocument) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%.100s: %v, %d facts, want %q", text, err, len(all), want)
		}
	}
}

// What is too much is refused before its values are compared with one another,
// and what is not too much is not.
func TestManyValues(t *testing.T) {
	each := func(n int, text string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(text, i))
		}
		return strings.Join(all, ",")
	}
	for text, want := range map[string]int{
		`{"@id": "http://e/x", "http://e/p": [` + each(120_000, "%d") + `]}`: 120_000, `{"@id": "http://e/x", "@type": [` + each(70, `"http://e/%d"`) + `]}`: 70,
		`[` + each(6000, `{"@id": "http://e/%d", "http://e/p": 1}`) + `]`: 6000, `{"@graph": [` + each(20, `{"@id": "http://e/%d", "http://e/p": {"http://e/q": 1}}`) + `]}`: 40,
		`{"@id": "http://e/x", "http://e/p": {"@list": [1, 2, {"@list": [3]}]}}`: 9, `{"@context": {"r": {"@reverse": "http://e/r"}}, "@id": "http://e/x", "r": {"@id": "http://e/y", "http://e/p": 1}}`: 2,
	} {
		document, err := decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := ld.NewJsonLdProcessor().Expand(document, options())
		if err != nil {
			t.Fatal(err)
		}
		if n := values(plain, 0); n != want {
			t.Errorf("%.100s: %d values, want %d", text, n, want)
		}
		all, err := Parse([]byte(text))
		if refused := want > MaxTriples; refused != errors.Is(err, ErrDocument) || !refused && len(all) != want {
			t.Errorf("%.100s: %d facts, error %v", text, len(all), err)
		}
	}
}

// A document is refused, or is facts that are written as a document of the same
// facts.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		person, `[]`, `{"@context": {"@base": "http://e/", "a": {"@reverse": "http://e/r"}, "m": {"@id": "http://e/m", "@container": "@language"}}, "@id": "x", "a": {"@id": "y"}, "m": {"de": "x", "fr": ["y"]}}`,
		`{"@context": {"p": {"@id": "http://e/p", "@context": {"q": "http://e/q"}, "@nest": "n"}, "n": "@nest"}, "n": {"p": {"q": 1}}, "@included": [{"@id": "_:a", "p": 1e9}]}`,
		`{"@context": {"@version": 1.1, "@propagate": false, "@import": "x"}}`, `{"http://e/p": [[1, [2]], null, {"@set": []}], "@index": "i"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrDocument) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, triple := range all {
			if err := errors.Join(triple.Subject.Check(), triple.Predicate.Check(), triple.Object.Check()); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
		b, err := json.Marshal(Write(all))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatalf("%q: what is written, %s, is refused: %v", text, b, err)
		}
		// Lists get other names, and are as many.
		named := func(all []rdf.Triple) []rdf.Triple {
			return slices.DeleteFunc(slices.Clone(all), func(t rdf.Triple) bool { return t.Subject.IsSkolem() || t.Object.IsSkolem() })
		}
		if !reflect.DeepEqual(slices.Compact(texts(named(again))), slices.Compact(texts(named(all)))) {
			t.Errorf("%q: %q, want %q", text, texts(again), texts(all))
		}
	})
}
