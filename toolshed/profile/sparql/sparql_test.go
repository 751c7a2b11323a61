package sparql

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What is wrong is refused where it stands, and what is not supported by its
// name.
func TestRefusals(t *testing.T) {
	for query, want := range map[string]string{
		"CONSTRUCT { ?s ?p ?o } WHERE { ?s ?p ?o }":            "line 1, column 1: CONSTRUCT is not supported",
		"DESCRIBE <http://e/x>":                                "line 1, column 1: DESCRIBE is not supported",
		"INSERT DATA { <http://e/x> <http://e/y> 1 }":          "line 1, column 1: INSERT is not supported",
		"SELECT * FROM <http://e/g> { ?s ?p ?o }":              "line 1, column 10: FROM is not supported",
		"SELECT *\n{ SERVICE <http://e/x> { ?s ?p ?o } }":      "line 2, column 3: SERVICE is not supported",
		"SELECT * { GRAPH ?g { ?s ?p ?o } }":                   "line 1, column 12: GRAPH is not supported",
		"SELECT (UUID() AS ?x) {}":                             "line 1, column 9: the function UUID is not supported",
		"SELECT (<http://e/f>(1) AS ?x) {}":                    "line 1, column 9: the function <http://e/f> is not supported",
		"SELECT (NONSENSE(1) AS ?x) {}":                        `line 1, column 9: there is no function "NONSENSE"`,
		"SELECT * { ?s ?p }":                                   `line 1, column 18: "}", want a variable or a term`,
		"SELECT * { ?s ?p ?o":                                  `line 1, column 20: "the end", want`,
		"SELECT * { ?s x:y ?o }":                               "line 1, column 15: the prefix x: is not declared",
		"SELECT * { <y> ?p ?o }":                               "line 1, column 12: <y> is relative",
		"SELECT * { ?s ?p \"x\\q\" }":                          "line 1, column 18: an escape",
		"SELECT * { ?s ?p \"x }":                               "line 1, column 18: ",
		"SELECT ?x { BIND(1 AS ?x) BIND(2 AS ?x) }":            "BIND gives ?x a value, and it has one",
		"SELECT (1 AS ?x) { ?x ?p ?o }":                        "SELECT gives ?x a value, and it has one",
		"SELECT ?x (COUNT(*) AS ?n) { ?x ?p ?o }":              "?x is selected from groups",
		"SELECT * { ?x ?p ?o } GROUP BY ?x":                    "SELECT * selects nothing from groups",
		"SELECT ?x { ?x ?p ?o FILTER(COUNT(?x) > 1) }":         "COUNT is an aggregate",
		"SELECT (SUM(COUNT(?x)) AS ?n) { ?x ?p ?o }":           "COUNT is an aggregate",
		"SELECT ?x { ?x ?p ?o } LIMIT -1":                      `"-", want a number`,
		"SELECT ?x { ?x ?p ?o } LIMIT 99999999999":             `want a number`,
		"SELECT ?x { ?x ?p ?o } nonsense":                      `"nonsense" is too much`,
		"SELECT ?x { ?x ?p ?o FILTER ?x }":                     `"?x", want a condition`,
		"SELECT ?x { ?x ?p ?o FILTER(REGEX(?o)) }":             "REGEX takes 2 to 3 arguments",
		"SELECT ?x { ?x ?p ?o FILTER(BOUND(1)) }":              "BOUND takes a variable",
		"SELECT ?x { VALUES (?x ?x) { (1 2) } }":               "?x is there twice",
		"SELECT ?x { VALUES ?x { ?y } }":                       "want a value or UNDEF",
		"":                                                     "want SELECT or ASK",
		strings.Repeat(" ", MaxBytes+1):                        "at most 32768",
		"ASK " + strings.Repeat("{", 40):                       "nests more than 32 deep",
		"SELECT (" + strings.Repeat("(", 40) + " AS ?x) {}":    "nests more than 32 deep",
		"SELECT (" + strings.Repeat("!", 40) + "1 AS ?x) {}":   "nests more than 32 deep",
		"ASK { ?x " + strings.Repeat("(", 40) + " ?y }":        "nests more than 32 deep",
		"ASK { " + strings.Repeat("[] ?p ?o . ", 64) + "}":     "more than 64 variables",
		"ASK { " + strings.Repeat("?s ?p ?o . ", 257) + "}":    "more than 256 triple patterns",
		"SELECT (1" + strings.Repeat("+1", 200) + " AS ?x) {}": "more than 128 operators",
		"ASK { ?x ?p \xff }":                                   "not UTF-8",
	} {
		_, err := Parse(query)
		e, ours := errors.AsType[*Error](err)
		if !ours || !strings.Contains(fmt.Sprint(e), want) {
			t.Errorf("%.80q: %v, want %q", query, err, want)
			continue
		}
		if e.Unsupported != strings.Contains(want, "not supported") {
			t.Errorf("%.80q: unsupported is %t", query, e.Unsupported)
		}
	}
}

// What is read is refused or read, and never a fault.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"SELECT * { ?s ?p ?o }", "PREFIX : <http://e/> SELECT DISTINCT ?x (COUNT(*) AS ?n) { ?x a :y ; :z 1, 2.5, 'x'@en OPTIONAL { ?x ^:p/(:q|!a)* [] } } GROUP BY ?x HAVING(COUNT(*) > 1) ORDER BY DESC(?n) LIMIT 3",
		"ASK { { ?x ?p (1 2) } UNION { ?x ?p [ ?q 3 ] } MINUS { ?x ?p ?o } FILTER NOT EXISTS { ?x ?p 1 } VALUES (?x ?y) { (UNDEF 1) } }",
		"BASE <http://e/> SELECT (IF(1 IN (1, 2), ?a && !?b, -?c * 2) AS ?x) { { SELECT ?a { <b> ?a '''x\\u0041''' } } BIND(REGEX('a', 'b') AS ?d) }", "ASK { ?x ?p \"\\",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := Parse(query)
		if _, ours := errors.AsType[*Error](err); err != nil && !ours {
			t.Errorf("%q: %v", query, err)
		}
		if err == nil && q == nil {
			t.Errorf("%q: nothing", query)
		}
	})
}
