package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// shownTerm is a term for a caller.
type shownTerm struct {
	IRI      string  `json:"iri,omitempty"`
	Value    *string `json:"value,omitempty"`
	Datatype string  `json:"datatype,omitempty" doc:"that of a literal which is no plain text"`
	Language string  `json:"language,omitempty"`
}

func showTerm(t rdf.Term) shownTerm {
	if t.Kind == rdf.IRI {
		return shownTerm{IRI: t.Value}
	}
	s := shownTerm{Value: &t.Value, Language: t.Language}
	if t.Language == "" && t.Datatype != rdf.String {
		s.Datatype = t.Datatype
	}
	return s
}

// shownFact is a fact for a caller.
type shownFact struct {
	ID          int64      `json:"id,omitempty"`
	Subject     string     `json:"subject"`
	Predicate   string     `json:"predicate"`
	Object      shownTerm  `json:"object"`
	Source      string     `json:"source,omitempty"`
	AssertedAt  *time.Time `json:"asserted_at,omitempty"`
	RetractedAt *time.Time `json:"retracted_at,omitempty" doc:"there is none while it holds"`
}

func showFact(f Fact) shownFact {
	s := showTriple(f.Triple)
	s.ID, s.Source, s.AssertedAt = f.ID, f.Source, &f.AssertedAt
	if !f.RetractedAt.IsZero() {
		s.RetractedAt = &f.RetractedAt
	}
	return s
}

func showTriple(t rdf.Triple) shownFact {
	return shownFact{Subject: t.Subject.Value, Predicate: t.Predicate.Value, Object: showTerm(t.Object)}
}

// givenFact is a fact as a caller writes it.
type givenFact struct {
	Subject   string          `json:"subject"`
	Predicate string          `json:"predicate"`
	Object    json.RawMessage `json:"object"`
}

func (g givenFact) triple() (t rdf.Triple, err error) {
	t.Subject, t.Predicate = rdf.NewIRI(g.Subject), rdf.NewIRI(g.Predicate)
	t.Object, err = termOf(g.Object)
	if err != nil {
		return t, fmt.Errorf("object: %w", err)
	}
	return t, nil
}

// termOf reads an object: an IRI, a literal with its datatype or language, or a
// text, a number or a boolean as JSON has them.
func termOf(text json.RawMessage) (t rdf.Term, err error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return t, fmt.Errorf("%w: there is none", rdf.ErrTerm)
	}
	switch text[0] {
	case '{':
		return structured(text)
	case '"':
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return t, fmt.Errorf("%w: %w", rdf.ErrTerm, err)
		}
		return rdf.Text(s), nil
	case 't', 'f':
		return rdf.Typed(string(text), rdf.Boolean), nil
	case '[', 'n':
		return t, fmt.Errorf("%w: want an object, a text, a number or a boolean", rdf.ErrTerm)
	}
	if bytes.ContainsAny(text, ".eE") {
		return rdf.Typed(string(text), rdf.Double), nil
	}
	return rdf.Typed(string(text), rdf.Integer), nil
}

func structured(text json.RawMessage) (t rdf.Term, err error) {
	var s shownTerm
	if err := strictly(text, &s); err != nil {
		return t, fmt.Errorf("%w: %w", rdf.ErrTerm, err)
	}
	switch {
	case (s.IRI != "") == (s.Value != nil):
		return t, fmt.Errorf("%w: want an iri or a value", rdf.ErrTerm)
	case s.IRI != "" && (s.Datatype != "" || s.Language != ""):
		return t, fmt.Errorf("%w: an iri has no datatype and no language", rdf.ErrTerm)
	case s.IRI != "":
		return rdf.NewIRI(s.IRI), nil
	case s.Datatype != "" && s.Language != "":
		return t, fmt.Errorf("%w: want a datatype or a language", rdf.ErrTerm)
	case s.Language != "":
		return rdf.InLanguage(*s.Value, s.Language), nil
	case s.Datatype != "":
		return rdf.Typed(*s.Value, s.Datatype), nil
	}
	return rdf.Text(*s.Value), nil
}

// strictly reads JSON of known keys alone.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return fmt.Errorf("something follows")
	}
	return nil
}

// timeAsked reads as_of: a time, or a day, which is its end. Empty is the
// present.
func timeAsked(text string) (t time.Time, err error) {
	if text == "" {
		return t, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Microsecond), nil
	}
	t, err = time.Parse(time.RFC3339Nano, strings.ToUpper(text))
	if err != nil {
		return t, refused("as_of", "want a day as 2026-01-31, or a time as 2026-01-31T12:00:00Z")
	}
	return t, nil
}
