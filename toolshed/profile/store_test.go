package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/query/querytest"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// opened is a store whose clock is *now.
func opened(t testing.TB, dir string, now *time.Time) *Store {
	t.Helper()
	d, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(); d.Close() })
	s, err := New(t.Context(), Options{DB: db, Now: func() time.Time { return *now }, Quota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t testing.TB, s *Store, source string, all ...rdf.Triple) Added {
	t.Helper()
	a, err := s.Add(t.Context(), source, all)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is kept is answered as another engine answers it, whatever else was said
// before and after.
func TestQueriesAsAnotherEngineAnswers(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := opened(t, t.TempDir(), &now)
	facts := querytest.Facts(t)
	stranger := rdf.Triple{Subject: rdf.NewIRI("http://e/stranger"), Predicate: rdf.NewIRI("http://e/name"), Object: rdf.Text("Stranger")}
	add(t, s, "before", stranger)
	if _, err := s.Retract(t.Context(), Filter{Source: "before"}); err != nil {
		t.Fatal(err)
	}
	add(t, s, "one", facts[:len(facts)/2]...)
	// Two sources say some of them.
	at := add(t, s, "another", facts[len(facts)/3:]...).At
	add(t, s, "after", stranger)
	querytest.Run(t, func(q *sparql.Query) (*query.Result, error) { return s.Query(t.Context(), q, at) })
}

// Time goes on though the clock does not.
func TestTimeGoesOn(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := opened(t, t.TempDir(), &now)
	fact := rdf.Triple{Subject: rdf.NewIRI("http://e/x"), Predicate: rdf.NewIRI("http://e/p"), Object: rdf.Text("x")}
	var times []time.Time
	for i := range 5 {
		fact.Object.Value = fmt.Sprint(i)
		times = append(times, add(t, s, "s", fact).At)
		now = now.Add(-time.Hour)
	}
	if !slices.IsSortedFunc(times, time.Time.Compare) || len(slices.Compact(times)) != 5 {
		t.Errorf("%v", times)
	}
	for i, at := range times {
		all, err := s.Everything(t.Context(), at)
		if err != nil || len(all) != i+1 {
			t.Errorf("at %s there are %v, error %v", at, all, err)
		}
	}
}

// A fact holds from the moment at which it was said up to that at which it was
// retracted, without that one.
func TestMoments(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := opened(t, t.TempDir(), &now)
	fact := rdf.Triple{Subject: rdf.NewIRI("http://e/x"), Predicate: rdf.NewIRI("http://e/p"), Object: rdf.Text("x")}
	said := add(t, s, "s", fact).At
	if _, err := s.Retract(t.Context(), Filter{Source: "s"}); err != nil {
		t.Fatal(err)
	}
	history, _, err := s.Facts(t.Context(), Filter{Source: "s", History: true, Limit: 10})
	if err != nil || len(history) != 1 {
		t.Fatal(history, err)
	}
	retracted := history[0].RetractedAt
	for at, want := range map[time.Time]int{
		said.Add(-time.Microsecond): 0, said: 1, retracted.Add(-time.Microsecond): 1, retracted: 0, {}: 0,
	} {
		triples, err := s.Everything(t.Context(), at)
		facts, _, also := s.Facts(t.Context(), Filter{At: at, Limit: 10})
		if err := errors.Join(err, also); err != nil || len(triples) != want || len(facts) != want {
			t.Errorf("at %s: %v and %v, error %v", at, triples, facts, err)
		}
	}
}

// What a process could not erase is erased by the next.
func TestErasedByTheNextStart(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	d, err := store.OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{DB: db, Now: time.Now, Quota: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	a := add(t, s, "s", rdf.Triple{Subject: rdf.NewIRI("http://e/x"), Predicate: rdf.NewIRI("http://e/p"), Object: rdf.Text("x")})
	// A reader of an earlier state keeps the log.
	err = db.View(t.Context(), func(tx *store.Tx) error {
		if err := tx.QueryRow("SELECT count(*) FROM facts").Scan(new(int)); err != nil {
			return err
		}
		if err := s.Delete(t.Context(), a.Facts[0]); !errors.Is(err, ErrNotErased) {
			t.Errorf("while it is read: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	erasing := func(db *store.DB) (is bool) {
		err := db.View(t.Context(), func(tx *store.Tx) error { return tx.QueryRow("SELECT erasing FROM times").Scan(&is) })
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if !erasing(db) {
		t.Error("nobody knows that something is to be erased")
	}
	if err := errors.Join(db.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	again := opened(t, dir, &now)
	if erasing(again.DB) {
		t.Error("it is still to be erased")
	}
}

// A query ends with its caller, and with its time.
func TestQueryEnds(t *testing.T) {
	now := time.Now()
	s := opened(t, t.TempDir(), &now)
	var all []rdf.Triple
	for i := range 2000 {
		all = append(all, rdf.Triple{Subject: rdf.NewIRI(fmt.Sprint("http://e/", i)), Predicate: rdf.NewIRI("http://e/p"), Object: rdf.Text(fmt.Sprint(i))})
	}
	add(t, s, "s", all...)
	q, err := sparql.Parse(`SELECT (COUNT(*) AS ?n) { ?a ?p ?x . ?b ?q ?y . ?c ?r ?z }`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := s.Query(ctx, q, time.Time{})
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Query(t.Context(), q, time.Time{}); !errors.Is(err, ErrSlow) {
		t.Errorf("%v", err)
	}
}

// The most selective pattern comes first, wherever it stands: what is asked of
// two facts among many takes no time.
func TestSelectiveFirst(t *testing.T) {
	now := time.Now()
	s := opened(t, t.TempDir(), &now)
	name, knows := rdf.NewIRI("http://e/name"), rdf.NewIRI("http://e/knows")
	var all []rdf.Triple
	for i := range 5000 {
		subject := rdf.NewIRI(fmt.Sprint("http://e/", i))
		all = append(all, rdf.Triple{Subject: subject, Predicate: name, Object: rdf.Text(fmt.Sprint("n", i))},
			rdf.Triple{Subject: subject, Predicate: knows, Object: rdf.NewIRI(fmt.Sprint("http://e/", (i+1)%5000))})
	}
	add(t, s, "s", all...)
	q, err := sparql.Parse(`PREFIX : <http://e/> SELECT ?n { ?b :name ?n . ?a :knows ?b . ?a :name "n41" }`)
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	err = s.DB.View(t.Context(), func(tx *store.Tx) error {
		g := &counting{graph{newDictionary(tx), present}, &steps}
		r, err := query.Run(t.Context(), g, q, query.Limits{Rows: 10, Bytes: 1 << 20}, now)
		if err == nil && (len(r.Rows) != 1 || r.Rows[0][0].Value != "n42") {
			t.Errorf("%v", r.Rows)
		}
		return err
	})
	if err != nil || steps > 10 {
		t.Errorf("%d triples were looked at, error %v", steps, err)
	}
}

// counting counts the triples that are looked at.
type counting struct {
	graph
	n *int
}

func (c *counting) Match(p rdf.Triple, found func(rdf.Triple) error) error {
	return c.graph.Match(p, func(t rdf.Triple) error { *c.n++; return found(t) })
}

// Each pattern has an index that begins with what it knows.
func TestIndexes(t *testing.T) {
	now := time.Now()
	s := opened(t, t.TempDir(), &now)
	x := rdf.NewIRI("http://e/x")
	add(t, s, "s", rdf.Triple{Subject: x, Predicate: x, Object: x})
	err := s.DB.View(t.Context(), func(tx *store.Tx) error {
		g := &graph{newDictionary(tx), present}
		for n := 1; n < 8; n++ {
			var p rdf.Triple
			for i, part := range []*rdf.Term{&p.Subject, &p.Predicate, &p.Object} {
				if n&(1<<i) != 0 {
					*part = x
				}
			}
			where, args, _, err := g.where(p)
			if err != nil {
				return err
			}
			var plan, skip string
			err = tx.QueryRow("EXPLAIN QUERY PLAN SELECT t.subject, t.predicate, t.object FROM triples AS t WHERE "+held+where, args...).Scan(&skip, &skip, &skip, &plan)
			if err != nil || !strings.Contains(plan, "COVERING INDEX") || strings.Count(plan, "=?") != strings.Count(where, "AND") {
				t.Errorf("%s: %s, error %v", where, plan, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
