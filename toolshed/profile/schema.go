package profile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// What a hint does about a fact that is not as it says.
const (
	Warn   = "warn"
	Refuse = "refuse"
)

// Hint is what the owner says of a predicate.
type Hint struct {
	Predicate string `json:"predicate" maxLength:"2048"`
	Label     string `json:"label,omitempty" maxLength:"256"`
	Comment   string `json:"comment,omitempty" maxLength:"4096"`
	Range     string `json:"range,omitempty" maxLength:"2048" doc:"the datatype of its objects, or iri for what has one"`
	Single    bool   `json:"single_valued,omitempty" doc:"a subject has at most one object of it at a time"`
	Enforce   string `json:"enforce,omitempty" enum:"warn,refuse" default:"warn" doc:"what becomes of a fact that is not so"`
}

// RangeIRI is the range of objects that have an IRI.
const RangeIRI = "iri"

const (
	maxLabel   = 256
	maxComment = 4096
)

// SetHint keeps a hint, in place of an earlier one. What is kept already is not
// judged by it. Errors are a *FieldError and store.ErrFull.
func (s *Store) SetHint(ctx context.Context, h Hint) error {
	if err := rdf.CheckIRI(h.Predicate); err != nil {
		return &FieldError{"predicate", err}
	}
	if h.Range != "" && h.Range != RangeIRI {
		if err := rdf.CheckIRI(h.Range); err != nil {
			return &FieldError{"range", err}
		}
	}
	if h.Enforce == "" {
		h.Enforce = Warn
	}
	switch {
	case h.Enforce != Warn && h.Enforce != Refuse:
		return refused("enforce", "is %.32q, want %s or %s", h.Enforce, Warn, Refuse)
	case len(h.Label) > maxLabel || !utf8.ValidString(h.Label):
		return refused("label", "want UTF-8 of at most %d bytes", maxLabel)
	case len(h.Comment) > maxComment || !utf8.ValidString(h.Comment):
		return refused("comment", "want UTF-8 of at most %d bytes", maxComment)
	}
	err := s.DB.Update(ctx, func(tx *store.Tx) error {
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM hints WHERE predicate <> ?", h.Predicate).Scan(&n); err != nil {
			return err
		}
		if n >= MaxHints {
			return refused("predicate", "there are %d hints, and no more are kept", MaxHints)
		}
		_, err := tx.Exec("INSERT OR REPLACE INTO hints VALUES (?, ?, ?, ?, ?, ?)", h.Predicate, h.Label, h.Comment, h.Range, h.Single, h.Enforce)
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping a hint: %w", err)
	}
	return nil
}

// RemoveHint removes a hint. The error is ErrNotFound.
func (s *Store) RemoveHint(ctx context.Context, predicate string) error {
	err := s.DB.Free(ctx, func(tx *store.Tx) error {
		err := tx.QueryRow("DELETE FROM hints WHERE predicate = ? RETURNING predicate", predicate).Scan(new(string))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("removing a hint: %w", err)
	}
	return nil
}

// judge is the hint of a predicate; there is none where it is nil.
type judge struct{ hint *Hint }

func scanHint(row interface{ Scan(...any) error }) (h Hint, err error) {
	err = row.Scan(&h.Predicate, &h.Label, &h.Comment, &h.Range, &h.Single, &h.Enforce)
	return h, err
}

const hintColumns = "predicate, label, comment, range, single_valued, enforce"

// hinted judges a fact that was just added, by the hint of its predicate: it
// answers what is to warn of, or an error where it is to refuse.
func hinted(tx *store.Tx, judges map[string]*judge, t rdf.Triple) (string, error) {
	j := judges[t.Predicate.Value]
	if j == nil {
		j = &judge{}
		h, err := scanHint(tx.QueryRow("SELECT "+hintColumns+" FROM hints WHERE predicate = ?", t.Predicate.Value))
		if err == nil {
			j.hint = &h
		} else if !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		judges[t.Predicate.Value] = j
	}
	if j.hint == nil {
		return "", nil
	}
	err := j.hint.judge(tx, t)
	f, isField := errors.AsType[*FieldError](err)
	if isField && j.hint.Enforce == Warn {
		return f.Error(), nil
	}
	return "", err
}

// ErrHint says that a fact is not as a hint says.
var ErrHint = errors.New("a hint says otherwise")

func (h *Hint) judge(tx *store.Tx, t rdf.Triple) error {
	switch {
	case h.Range == RangeIRI && t.Object.Kind != rdf.IRI:
		return refused("object", "%w: <%s> has an IRI", ErrHint, h.Predicate)
	case h.Range != "" && h.Range != RangeIRI && t.Object.Datatype != h.Range:
		return refused("object", "%w: <%s> has a literal of <%s>", ErrHint, h.Predicate, h.Range)
	case !h.Single:
		return nil
	}
	s, err := termID(tx, t.Subject)
	if err != nil {
		return err
	}
	p, err := termID(tx, t.Predicate)
	if err != nil {
		return err
	}
	var n int
	err = tx.QueryRow(`SELECT count(*) FROM triples AS t WHERE t.subject = ?1 AND t.predicate = ?2
		AND EXISTS (SELECT 1 FROM facts AS f WHERE f.triple = t.id AND f.retracted_at IS NULL)`, s, p).Scan(&n)
	if err == nil && n > 1 {
		return refused("object", "%w: a subject has one <%s>, and this would be number %d", ErrHint, h.Predicate, n)
	}
	return err
}

// InUse is a predicate and what it has.
type InUse struct {
	Predicate string
	Facts     int64
	Subjects  int64
	// Kinds counts objects by their datatype, those with an IRI by RangeIRI.
	Kinds   map[string]int64
	Example rdf.Triple
	Hint    *Hint
}

// TypeInUse is a type and how many have it.
type TypeInUse struct {
	Type     string
	Entities int64
}

// maxInUse bounds how many predicates and types are answered, the most used
// first.
const maxInUse = 500

// InUse answers the types and predicates that hold at a time; the zero time is
// the present. Hints without facts are there too. The error is ErrSlow.
func (s *Store) InUse(ctx context.Context, at time.Time) (types []TypeInUse, predicates []InUse, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		g := &graph{newDictionary(tx), moment(at)}
		if types, err = g.types(); err != nil {
			return err
		}
		predicates, err = g.predicates()
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading what is in use: %w", err)
	}
	return types, predicates, nil
}

func (g *graph) types() (all []TypeInUse, err error) {
	id, err := g.id(rdf.NewIRI(rdf.Type))
	if err != nil || id == 0 {
		return nil, err
	}
	err = g.tx.Each(func(rows *sql.Rows) error {
		var t TypeInUse
		var object int64
		if err := rows.Scan(&object, &t.Entities); err != nil {
			return err
		}
		term, err := g.term(object)
		t.Type = term.Value
		all = append(all, t)
		return err
	}, "SELECT t.object, count(*) FROM triples AS t WHERE t.predicate = ?2 AND "+held+" GROUP BY t.object ORDER BY count(*) DESC, t.object LIMIT ?3", g.at, id, maxInUse)
	return all, err
}

func (g *graph) predicates() (all []InUse, err error) {
	hints := map[string]*Hint{}
	err = g.tx.Each(func(rows *sql.Rows) error {
		h, err := scanHint(rows)
		hints[h.Predicate] = &h
		return err
	}, "SELECT "+hintColumns+" FROM hints ORDER BY predicate")
	if err != nil {
		return nil, err
	}
	err = g.tx.Each(func(rows *sql.Rows) error {
		u := InUse{Kinds: map[string]int64{}}
		var predicate, example int64
		if err := rows.Scan(&predicate, &u.Facts, &u.Subjects, &example); err != nil {
			return err
		}
		if err := g.describe(&u, predicate, example); err != nil {
			return err
		}
		u.Hint = hints[u.Predicate]
		delete(hints, u.Predicate)
		all = append(all, u)
		return nil
	}, "SELECT t.predicate, count(*), count(DISTINCT t.subject), min(t.id) FROM triples AS t WHERE "+held+" GROUP BY t.predicate ORDER BY count(*) DESC, t.predicate LIMIT ?2", g.at, maxInUse)
	for _, h := range hints {
		all = append(all, InUse{Predicate: h.Predicate, Kinds: map[string]int64{}, Hint: h})
	}
	return all, err
}

func (g *graph) describe(u *InUse, predicate, example int64) error {
	var s, p, o int64
	err := g.tx.QueryRow("SELECT subject, predicate, object FROM triples WHERE id = ?", example).Scan(&s, &p, &o)
	if err != nil {
		return err
	}
	if u.Example, err = g.triple(s, p, o); err != nil {
		return err
	}
	u.Predicate = u.Example.Predicate.Value
	return g.tx.Each(func(rows *sql.Rows) error {
		var kind string
		var n int64
		err := rows.Scan(&kind, &n)
		u.Kinds[kind] = n
		return err
	}, "SELECT CASE WHEN o.kind = 1 THEN 'iri' ELSE o.datatype END, count(*) FROM triples AS t JOIN terms AS o ON o.id = t.object WHERE t.predicate = ?2 AND "+held+" GROUP BY 1", g.at, predicate)
}
