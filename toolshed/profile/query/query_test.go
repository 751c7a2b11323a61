package query_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/query/querytest"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// list is a graph that looks at everything.
type list []rdf.Triple

var _ query.Graph = list{}

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

func TestAsAnotherEngineAnswers(t *testing.T) {
	facts := list(querytest.Facts(t))
	querytest.Run(t, func(q *sparql.Query) (*query.Result, error) {
		return query.Run(t.Context(), facts, q, query.Limits{Rows: 10000, Bytes: 1 << 24}, time.Now())
	})
}

// What would hold or answer too much is refused, and what ends is left: a query
// that needs little of much is answered.
func TestLimits(t *testing.T) {
	var facts list
	for i := range 200 {
		facts = append(facts, rdf.Triple{Subject: rdf.NewIRI(fmt.Sprint("http://e/", i)), Predicate: rdf.NewIRI("http://e/n"), Object: rdf.Text(fmt.Sprint(i))})
	}
	limits := query.Limits{Rows: 100, Bytes: 12_000}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for text, want := range map[string]error{
		"SELECT ?x { ?x ?p ?o }": query.ErrRows, "SELECT ?x { ?x ?p ?o } LIMIT 99": nil, "SELECT ?x { ?x ?p ?o } ORDER BY ?o LIMIT 5": query.ErrMemory,
		"SELECT DISTINCT ?x ?y { ?x ?p ?o . ?y ?p ?r }": query.ErrMemory, "SELECT ?x (COUNT(*) AS ?n) { ?x ?p ?o } GROUP BY ?x": query.ErrMemory,
		"SELECT (COUNT(DISTINCT ?x) AS ?n) { ?x ?p ?o }": query.ErrMemory, "SELECT (COUNT(?x) AS ?n) { ?x ?p ?o . ?y ?p ?r }": nil,
		"SELECT (COUNT(*) AS ?n) { ?x <http://e/m>* ?y }": query.ErrMemory, "ASK { ?x ?p ?o . ?y ?p ?r }": nil,
		"SELECT (COUNT(*) AS ?n) { ?x ?p ?o { SELECT ?y { ?y ?q ?r } } }": query.ErrMemory,
	} {
		q, err := sparql.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := query.Run(t.Context(), facts, q, limits, time.Now()); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	q, err := sparql.Parse("SELECT (COUNT(*) AS ?n) { ?x ?p ?o . ?y ?q ?r }")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := query.Run(ended, facts, q, limits, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// What is sorted and cut is what sorting all of it gives.
func TestSortedAndCut(t *testing.T) {
	var facts list
	for i := range 5000 {
		facts = append(facts, rdf.Triple{
			Subject: rdf.NewIRI(fmt.Sprint("http://e/", i)), Predicate: rdf.NewIRI("http://e/n"), Object: rdf.Typed(fmt.Sprint(i*7919%5000), rdf.Integer),
		})
	}
	q, err := sparql.Parse("SELECT ?o { ?x <http://e/n> ?o } ORDER BY DESC(?o) LIMIT 3 OFFSET 600")
	if err != nil {
		t.Fatal(err)
	}
	r, err := query.Run(t.Context(), facts, q, query.Limits{Rows: 100, Bytes: 1 << 20}, time.Now())
	if err != nil || len(r.Rows) != 3 || r.Rows[0][0].Value != "4399" || r.Rows[2][0].Value != "4397" {
		t.Errorf("%v, error %v", r, err)
	}
}
