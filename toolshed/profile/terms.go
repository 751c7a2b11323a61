package profile

import (
	"crypto/sha256"
	"database/sql"
	"errors"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// sumOf is what a term is found by. No term has the character 0.
func sumOf(t rdf.Term) []byte {
	sum := sha256.Sum256([]byte(string(rune('0'+t.Kind)) + t.Value + "\x00" + t.Datatype + "\x00" + t.Language))
	return sum[:]
}

// keepTerm is the number of a term, which is kept.
func keepTerm(tx *store.Tx, t rdf.Term) (id int64, err error) {
	if id, err = termID(tx, t); err != nil || id != 0 {
		return id, err
	}
	err = tx.QueryRow("INSERT INTO terms (sum, kind, value, datatype, language) VALUES (?, ?, ?, ?, ?) RETURNING id",
		sumOf(t), int64(t.Kind), t.Value, t.Datatype, t.Language).Scan(&id)
	return id, err
}

// termID is the number of a term, 0 where it is not kept.
func termID(tx *store.Tx, t rdf.Term) (id int64, err error) {
	err = tx.QueryRow("SELECT id FROM terms WHERE sum = ?", sumOf(t)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

// dictionary reads terms by their numbers, and remembers some. One transaction
// uses it.
type dictionary struct {
	tx    *store.Tx
	terms map[int64]rdf.Term
	ids   map[rdf.Term]int64
	bytes int
}

// dictionaryBytes bounds what is remembered.
const dictionaryBytes = 4 << 20

func newDictionary(tx *store.Tx) *dictionary {
	return &dictionary{tx: tx, terms: map[int64]rdf.Term{}, ids: map[rdf.Term]int64{}}
}

func (d *dictionary) remember(id int64, t rdf.Term) {
	if d.bytes > dictionaryBytes {
		clear(d.terms)
		clear(d.ids)
		d.bytes = 0
	}
	d.terms[id], d.ids[t] = t, id
	d.bytes += 128 + len(t.Value)
}

func (d *dictionary) term(id int64) (t rdf.Term, err error) {
	if t, ok := d.terms[id]; ok {
		return t, nil
	}
	err = d.tx.QueryRow("SELECT kind, value, datatype, language FROM terms WHERE id = ?", id).Scan(&t.Kind, &t.Value, &t.Datatype, &t.Language)
	if err == nil {
		d.remember(id, t)
	}
	return t, err
}

// triple reads the three terms of one.
func (d *dictionary) triple(s, p, o int64) (t rdf.Triple, err error) {
	if t.Subject, err = d.term(s); err != nil {
		return t, err
	}
	if t.Predicate, err = d.term(p); err != nil {
		return t, err
	}
	t.Object, err = d.term(o)
	return t, err
}

// id is the number of a term, 0 where it is not kept.
func (d *dictionary) id(t rdf.Term) (int64, error) {
	if id, ok := d.ids[t]; ok {
		return id, nil
	}
	id, err := termID(d.tx, t)
	if err == nil && id != 0 {
		d.remember(id, t)
	}
	return id, err
}
