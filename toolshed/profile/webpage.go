package profile

import (
	_ "embed"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

//go:embed page.html
var pageText string

var webPage = page.New("Profile", "", pageText)

const (
	// pageRows is how much the page shows at once, of a query's answer too.
	pageRows = 50
	// pageSource is who says what is written on the page.
	pageSource = "page"
)

type pageData struct {
	// Alert is what was refused.
	Alert               string
	Entity, AsOf, Query string
	Entities            []pageEntity
	Facts, About        []pageFact
	Answer              *pageAnswer
	Next, NextFacts     string
	Given               pageGiven
	Kinds               []string
	Source              string
	Past                bool
}

type pageEntity struct {
	Entity string
	Facts  int64
}

type pageFact struct {
	ID                               int64
	Subject, Predicate, Object, Link string
	Source, Since, Until, Kind       string
}

// pageGiven is what a person wrote into the form.
type pageGiven struct{ Predicate, Object, Kind, Detail string }

// The kinds of objects in the form.
var pageKinds = []string{"a text", "an entity, by its IRI", "a number", "yes or no (true, false)", "a text in a language", "a literal of a datatype"}

type pageAnswer struct {
	Names []string
	Rows  [][]pageTerm
	Ask   bool
	Holds bool
	More  bool
}

type pageTerm struct{ Text, Link string }

func registerPage(m *mount.Mount, h handlers) {
	m.Page("/profile", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.Query()
		h.show(w, r, pageData{Entity: asked.Get("entity"), AsOf: asked.Get("as_of"), Query: asked.Get("query")})
	}))
	form := mount.Route{Scope: ScopeWrite, Accepts: []string{mediaForm}, BodyBytes: 1 << 20}
	for path, do := range map[string]func(*http.Request) error{"add": h.addByForm, "retract": h.retractByForm, "delete": h.deleteByForm} {
		m.Handle("POST /profile/"+path, form, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			entity := r.PostFormValue("entity")
			if err := do(r); err != nil {
				h.show(w, r, pageData{Entity: entity, Alert: told(err), Given: pageGiven{
					r.PostFormValue("predicate"), r.PostFormValue("object"), r.PostFormValue("kind"), r.PostFormValue("detail"),
				}})
				return
			}
			http.Redirect(w, r, "/profile?"+url.Values{"entity": {entity}}.Encode(), http.StatusSeeOther)
		}))
	}
}

// told is what a person is told of an error.
func told(err error) string {
	if p, ok := errors.AsType[*problem.Problem](refusal(err)); ok {
		return p.Detail
	}
	return err.Error()
}

func (h handlers) show(w http.ResponseWriter, r *http.Request, d pageData) {
	d.Kinds, d.Source = pageKinds, pageSource
	status := http.StatusOK
	if err := h.fill(r, &d); err != nil {
		d.Alert = told(err)
	}
	if d.Alert != "" {
		status = http.StatusUnprocessableEntity
	}
	if err := webPage.Write(w, status, d); err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

func (h handlers) fill(r *http.Request, d *pageData) error {
	at, err := timeAsked(d.AsOf)
	if err != nil {
		return err
	}
	d.Past = !at.IsZero()
	after, _ := strconv.ParseInt(r.FormValue("after"), 10, 64)
	if d.Query != "" {
		q, err := sparql.Parse(d.Query)
		if err != nil {
			return err
		}
		answer, err := h.kept.Query(r.Context(), q, at)
		if err != nil {
			return err
		}
		d.Answer = pageAnswerOf(answer)
	}
	if d.Entity == "" {
		all, more, err := h.kept.Entities(r.Context(), at, after, pageRows)
		for _, e := range all {
			d.Entities = append(d.Entities, pageEntity{e.Entity, e.Facts})
		}
		if more {
			d.Next = "/profile?" + url.Values{"as_of": {d.AsOf}, "after": {strconv.FormatInt(all[len(all)-1].Place, 10)}}.Encode()
		}
		return err
	}
	facts, more, err := h.kept.Facts(r.Context(), Filter{Subject: rdf.NewIRI(d.Entity), At: at, After: after, Limit: pageRows})
	if err != nil {
		return err
	}
	if more {
		d.NextFacts = "/profile?" + url.Values{"entity": {d.Entity}, "as_of": {d.AsOf}, "after": {strconv.FormatInt(facts[len(facts)-1].ID, 10)}}.Encode()
	}
	about, _, err := h.kept.Facts(r.Context(), Filter{Object: rdf.NewIRI(d.Entity), At: at, Limit: pageRows})
	d.Facts, d.About = pageFactsOf(facts), pageFactsOf(about)
	return err
}

func pageFactsOf(all []Fact) (shown []pageFact) {
	for _, f := range all {
		object := pageTermOf(f.Object)
		p := pageFact{
			ID: f.ID, Subject: f.Subject.Value, Predicate: f.Predicate.Value, Object: object.Text, Link: object.Link,
			Source: f.Source, Since: f.AssertedAt.Format("2006-01-02 15:04 UTC"),
		}
		switch {
		case f.Object.Language != "":
			p.Kind = f.Object.Language
		case f.Object.Kind == rdf.Literal && f.Object.Datatype != rdf.String:
			p.Kind = f.Object.Datatype
		}
		if !f.RetractedAt.IsZero() {
			p.Until = f.RetractedAt.Format("2006-01-02 15:04 UTC")
		}
		shown = append(shown, p)
	}
	return shown
}

func pageTermOf(t rdf.Term) pageTerm {
	p := pageTerm{Text: t.Value}
	if t.Kind == rdf.IRI {
		p.Link = "/profile?" + url.Values{"entity": {t.Value}}.Encode()
	}
	return p
}

func pageAnswerOf(r *query.Result) *pageAnswer {
	a := &pageAnswer{Names: r.Names, Ask: r.Ask, Holds: r.Holds}
	for i, row := range r.Rows {
		if a.More = i == pageRows; a.More {
			break
		}
		var line []pageTerm
		for _, t := range row {
			line = append(line, pageTermOf(t))
		}
		a.Rows = append(a.Rows, line)
	}
	return a
}

func (h handlers) addByForm(r *http.Request) error {
	text, detail := r.PostFormValue("object"), r.PostFormValue("detail")
	object := rdf.Text(text)
	switch kind := r.PostFormValue("kind"); kind {
	case "", pageKinds[0]:
	case pageKinds[1]:
		object = rdf.NewIRI(text)
	case pageKinds[2]:
		datatype := rdf.Decimal
		if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			datatype = rdf.Integer
		} else if _, err := strconv.ParseFloat(text, 64); err != nil {
			return refused("object", "%.64q is no number", text)
		}
		object = rdf.Typed(text, datatype)
	case pageKinds[3]:
		if _, err := strconv.ParseBool(text); err != nil {
			return refused("object", "want true or false")
		}
		object = rdf.Typed(text, rdf.Boolean)
	case pageKinds[4]:
		object = rdf.InLanguage(text, detail)
	case pageKinds[5]:
		object = rdf.Typed(text, detail)
	default:
		return refused("kind", "%.64q is none", kind)
	}
	_, err := h.kept.Add(r.Context(), pageSource, []rdf.Triple{{
		Subject: rdf.NewIRI(r.PostFormValue("entity")), Predicate: rdf.NewIRI(r.PostFormValue("predicate")), Object: object,
	}})
	return err
}

func (h handlers) retractByForm(r *http.Request) error {
	id, err := strconv.ParseInt(r.PostFormValue("fact"), 10, 64)
	if err != nil {
		return refused("fact", "want its number")
	}
	_, err = h.kept.Retract(r.Context(), Filter{IDs: []int64{id}})
	return err
}

// deleteByForm deletes a fact, or the whole entity where there is none.
func (h handlers) deleteByForm(r *http.Request) error {
	if r.PostFormValue("fact") == "" {
		_, err := h.kept.DeleteEntity(r.Context(), rdf.NewIRI(r.PostFormValue("entity")))
		return err
	}
	id, err := strconv.ParseInt(r.PostFormValue("fact"), 10, 64)
	if err != nil {
		return refused("fact", "want its number")
	}
	return h.kept.Delete(r.Context(), id)
}
