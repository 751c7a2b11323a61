package query_test

import (
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
