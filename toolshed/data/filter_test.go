package data

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

func openStore(t testing.TB) *Store {
	t.Helper()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(); d.Close() })
	return New(db, time.Now, rand.Reader)
}

// A filter is refused, or is SQL that SQLite takes: never a fault of ours.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a.b.0":{"$gt":1,"$lt":"x"}}`, `{"$or":[{"a":null},{"b":{"$in":[1,true,"x",[],{}]}}]}`, `{"a":{"$not":{"$all":[1,"x"]}}}`,
		`{"a'b":1}`, `{"a":{"$size":1e99}}`, `{"a":1e999}`, `{"a":"\ud800"}`, `{"$nor":[{}]}`, `[`, `{"a":{"$exists":null}}`, `{"a":{"$eq":{"b":"\u0000"}}}`,
	} {
		f.Add(seed, "a.b")
	}
	s := openStore(f)
	if _, err := s.Apply(context.Background(), []Operation{{Op: OpPut, Collection: "c", ID: "x", Body: []byte(`{"a":{"b":[1,"x",null]}}`)}}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, filter, sort string) {
		_, _, err := s.Find(t.Context(), Query{Collection: "c", Filter: []byte(filter), Sort: []string{sort}, Limit: 10})
		if _, refused := errors.AsType[*FieldError](err); err != nil && !refused {
			t.Errorf("%q %q: %v", filter, sort, err)
		}
	})
}

// Whatever is written comes back as it was, but for white space.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `{"a":1e999}`, "{\"a\":\"\xff\"}", strings.Repeat(`{"a":`, 70), `{} {}`, `null`} {
		f.Add([]byte(seed))
	}
	s := openStore(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		done, err := s.Apply(t.Context(), []Operation{{Op: OpPut, Collection: "c", ID: "x", Body: body}})
		if err != nil {
			if _, refused := errors.AsType[*FieldError](err); !refused {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		d, err := s.Get(t.Context(), "c", "x")
		if err != nil || string(d.Body) != string(done[0].Body) || d.Version != done[0].Version {
			t.Errorf("%q: %v, %q", body, err, d.Body)
		}
	})
}

// An index is used, and by its own collection alone.
func TestIndexIsUsed(t *testing.T) {
	s := openStore(t)
	if err := s.Declare(t.Context(), Collection{Name: "c", Indexes: []Index{{Path: "a.b"}}}); err != nil {
		t.Fatal(err)
	}
	for collection, used := range map[string]bool{"c": true, "other": false} {
		where, order, args, err := Query{Collection: collection, Filter: []byte(`{"a.b":7}`)}.compile()
		if err != nil {
			t.Fatal(err)
		}
		var plan, skip string
		err = s.db.View(t.Context(), func(tx *store.Tx) error {
			return tx.QueryRow("EXPLAIN QUERY PLAN SELECT id FROM "+where+" ORDER BY "+order, args...).Scan(&skip, &skip, &skip, &plan)
		})
		if err != nil || strings.Contains(plan, strings.Trim(indexName("c", "a.b"), `"`)) != used {
			t.Errorf("%s: %v, %s", collection, err, plan)
		}
	}
}

// Who follows the feed from too far back is told, rather than left with a gap.
func TestFeedIsBounded(t *testing.T) {
	s := openStore(t)
	if err := s.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE versions SET last = ?", KeptChanges+5)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Changes(t.Context(), Feed{After: 4, Limit: 1}); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if _, next, err := s.Changes(t.Context(), Feed{After: 5, Limit: 1}); err != nil || next != KeptChanges+5 {
		t.Errorf("%d %v", next, err)
	}
	// What is too far back goes with the next write.
	if err := s.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO changes VALUES (5, 'c', 'a', 'put', 0), (6, 'c', 'b', 'put', 0), (7, 'c', 'c', 'put', 0)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), []Operation{{Op: OpPut, Collection: "c", ID: "d", Body: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	all, _, err := s.Changes(t.Context(), Feed{After: 6, Limit: 10})
	if err != nil || len(all) != 2 || all[0].Version != 7 || all[1].Version != KeptChanges+6 {
		t.Errorf("%+v, %v", all, err)
	}
	var kept int
	if err := s.db.View(t.Context(), func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM changes").Scan(&kept) }); err != nil || kept != 2 {
		t.Errorf("%d changes are kept, %v", kept, err)
	}
}
