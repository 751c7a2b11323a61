package data

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

func (s *Store) put(t *testing.T, collection, id, body string) Document {
	t.Helper()
	done, err := s.Apply(t.Context(), []Operation{{Op: OpPut, Collection: collection, ID: id, Body: []byte(body)}})
	if err != nil {
		t.Fatal(err)
	}
	return done[0]
}

func isField(err error, field string) bool {
	f, ok := errors.AsType[*FieldError](err)
	return ok && f.Field == field
}

// A document grows by patches to its bound and no further, and one that is
// refused is as it was.
func TestPatchesAreBounded(t *testing.T) {
	s := openStore(t)
	half := strings.Repeat("x", MaxDocumentBytes/2)
	before := s.put(t, "c", "d", `{"a":"`+half+`"}`)
	patch := Operation{Op: OpPatch, Collection: "c", ID: "d", Body: []byte(`{"b":"` + half + `"}`)}
	if _, err := s.Apply(t.Context(), []Operation{patch}); !isField(err, "document") {
		t.Errorf("%v", err)
	}
	after, err := s.Get(t.Context(), "c", "d")
	if err != nil || after.Version != before.Version || string(after.Body) != string(before.Body) {
		t.Errorf("version %d of %d bytes, %v", after.Version, len(after.Body), err)
	}
	patch.Body = []byte(`{"a":null,"b":{"c":[1,{"d":null}]}}`)
	done, err := s.Apply(t.Context(), []Operation{patch})
	if err != nil || string(done[0].Body) != `{"b":{"c":[1,{"d":null}]}}` {
		t.Errorf("%s, %v", done[0].Body, err)
	}
}

// A condition holds of the very version, and of none other.
func TestConditionsOnVersions(t *testing.T) {
	s := openStore(t)
	d := s.put(t, "c", "d", `{}`)
	for _, op := range []string{OpPut, OpPatch, OpDelete, OpCheck} {
		for _, version := range []int64{0, d.Version - 1, d.Version + 1, d.Version + 100} {
			o := Operation{Op: op, Collection: "c", ID: "d", IfVersion: &version}
			if op == OpPut || op == OpPatch {
				o.Body = []byte(`{"a":1}`)
			}
			other := Operation{Op: OpPut, Collection: "c", ID: "other", Body: []byte(`{}`)}
			if _, err := s.Apply(t.Context(), []Operation{other, o}); !errors.Is(err, ErrChanged) {
				t.Errorf("%s of version %d over %d: %v", op, version, d.Version, err)
			}
		}
	}
	if _, err := s.Get(t.Context(), "c", "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half a transaction was written: %v", err)
	}
	if all, _, err := s.Changes(t.Context(), Feed{Limit: 10}); err != nil || len(all) != 1 {
		t.Errorf("the feed has %d changes, %v", len(all), err)
	}
}

// Collections are as many as there may be, made by declaring or by writing, and
// those that are dropped make room.
func TestCollectionsAreBounded(t *testing.T) {
	s := openStore(t)
	var all []Operation
	for i := range MaxCollections {
		all = append(all, Operation{Op: OpPut, Collection: fmt.Sprintf("c%d", i), Body: []byte(`{}`)})
	}
	if _, err := s.Apply(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	one := []Operation{{Op: OpPut, Collection: "more", Body: []byte(`{}`)}}
	if _, err := s.Apply(t.Context(), one); !isField(err, "collection") {
		t.Errorf("writing: %v", err)
	}
	if err := s.Declare(t.Context(), Collection{Name: "more"}); !isField(err, "collection") {
		t.Errorf("declaring: %v", err)
	}
	if err := s.Drop(t.Context(), "c0"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), one); err != nil {
		t.Error(err)
	}
}

// What is declared holds from then on: a schema of what is written, and an index
// of what is there; one that cannot hold changes nothing.
func TestDeclarations(t *testing.T) {
	s := openStore(t)
	s.put(t, "c", "a", `{"n":1}`)
	s.put(t, "c", "b", `{"n":1}`)
	if err := s.Declare(t.Context(), Collection{Name: "c", Schema: []byte(`{"required":["n"]}`), Indexes: []Index{{Path: "n", Unique: true}}}); !errors.Is(err, ErrTaken) {
		t.Errorf("unique over what is there twice: %v", err)
	}
	s.put(t, "c", "c", `{}`)
	if err := s.Declare(t.Context(), Collection{Name: "c", Schema: []byte(`{"required":["n"]}`)}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Operation{
		{Op: OpPut, Collection: "c", ID: "d", Body: []byte(`{}`)}, {Op: OpPatch, Collection: "c", ID: "a", Body: []byte(`{"n":null}`)},
	} {
		if _, err := s.Apply(t.Context(), []Operation{o}); !isField(err, "document") {
			t.Errorf("%s: %v", o.Op, err)
		}
	}
	for _, schema := range []string{`{"$ref":"https://example.com/schema"}`, `{"$ref":"file:///etc/hostname"}`, `{"type":"nothing"}`, `{"a":1,"a":2}`, `[`} {
		if err := s.Declare(t.Context(), Collection{Name: "c", Schema: []byte(schema)}); !isField(err, "schema") {
			t.Errorf("%s: %v", schema, err)
		}
	}
}

// A feed of one collection goes on past the changes of others.
func TestFilteredFeed(t *testing.T) {
	s := openStore(t)
	wanted := s.put(t, "c", "a", `{}`)
	for i := range 5 {
		s.put(t, "other", fmt.Sprint(i), `{}`)
	}
	changed := s.Changed()
	all, next, err := s.Changes(t.Context(), Feed{Collection: "c", Limit: 10})
	if err != nil || len(all) != 1 || all[0].Version != wanted.Version || next != wanted.Version+5 {
		t.Errorf("%+v, next %d, %v", all, next, err)
	}
	if all, next, err := s.Changes(t.Context(), Feed{Limit: 2}); err != nil || len(all) != 2 || next != all[1].Version {
		t.Errorf("a page: %+v, next %d, %v", all, next, err)
	}
	select {
	case <-changed:
		t.Error("told of a change that is none")
	default:
	}
	s.put(t, "c", "b", `{}`)
	select {
	case <-changed:
	default:
		t.Error("nobody is told of a change")
	}
}

// A database that fails is no missing document.
func TestAFailureIsNone(t *testing.T) {
	s := openStore(t)
	s.put(t, "c", "a", `{}`)
	if err := s.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("DROP TABLE documents")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "c", "a"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A filter has as many clauses as it may, wherever they stand.
func TestClausesAreBounded(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("1,", maxClauses), ",")
	for filter, ok := range map[string]bool{
		`{"a":{"$in":[` + strings.TrimSuffix(strings.Repeat("1,", maxClauses-2), ",") + `]}}`: true,
		`{"a":{"$in":[` + many + `]}}`:                                         false,
		`{"a":{"$all":[` + many + `]}}`:                                        false,
		`{"$or":[` + strings.Repeat(`{"a":1},`, maxClauses) + `{"a":1}]}`:      false,
		`{"$and":[{"$nor":[` + strings.Repeat(`{"a":1},`, 100) + `{"b":1}]}]}`: true,
	} {
		if _, err := compileFilter([]byte(filter)); (err == nil) != ok {
			t.Errorf("%.40s…: %v", filter, err)
		}
	}
}
