package data

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

var webPage = page.New("Data", "", pageText)

// pageRows is how many documents the page shows at once.
const pageRows = 25

type pageData struct {
	Collections              []Collection
	Collection, Filter, Sort string
	Documents                []pageDocument
	// Refused is why the filter is not taken, More the query of the next page.
	Refused string
	More    template.URL
}

type pageDocument struct {
	ID      string
	Version int64
	Text    string
}

func registerPage(m *mount.Mount, h handlers) {
	m.Page("/data", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := h.page(r)
		status := http.StatusOK
		if d.Refused != "" {
			status = http.StatusUnprocessableEntity
		}
		if err == nil {
			err = webPage.Write(w, status, d)
		}
		if err != nil {
			problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
		}
	}))
}

// page finds what a person asks for; what they got wrong stands on the page.
func (h handlers) page(r *http.Request) (d pageData, err error) {
	if d.Collections, err = h.kept.Collections(r.Context()); err != nil {
		return d, err
	}
	asked := r.URL.Query()
	d.Collection, d.Filter, d.Sort = asked.Get("collection"), asked.Get("filter"), asked.Get("sort")
	if d.Collection == "" {
		return d, nil
	}
	q := Query{Collection: d.Collection, Filter: json.RawMessage(d.Filter), Limit: pageRows}
	if d.Sort != "" {
		q.Sort = []string{d.Sort}
	}
	if n, err := strconv.Atoi(asked.Get("skip")); err == nil && n > 0 && n <= MaxSkip {
		q.Skip = n
	}
	all, more, err := h.kept.Find(r.Context(), q)
	if f, ok := errors.AsType[*FieldError](err); ok {
		d.Refused = f.Error()
		return d, nil
	}
	if errors.Is(err, ErrSlow) {
		d.Refused = err.Error()
		return d, nil
	}
	if err != nil {
		return d, err
	}
	for _, one := range all {
		var b bytes.Buffer
		if err := json.Indent(&b, one.Body, "", "  "); err != nil {
			return d, err
		}
		d.Documents = append(d.Documents, pageDocument{one.ID, one.Version, b.String()})
	}
	if more {
		// It is encoded here, and not to be again.
		d.More = template.URL("?" + url.Values{
			"collection": {d.Collection}, "filter": {d.Filter}, "sort": {d.Sort}, "skip": {strconv.Itoa(q.Skip + len(all))},
		}.Encode())
	}
	return d, nil
}
