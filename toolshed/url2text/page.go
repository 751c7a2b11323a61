package url2text

import (
	_ "embed"
	"errors"
	"net/http"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

var readPage = page.New("Read a page", "", pageText)

// shown is what the page shows.
type shown struct {
	URL, Error string
	Document   *Document
}

// registerPage puts the page for people on an API's place.
func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/url2text", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := shown{URL: r.URL.Query().Get("url")}
		status := http.StatusOK
		if d.URL != "" {
			var err error
			if d.Document, err = h.read(r.Context(), Request{URL: d.URL}); err != nil {
				status, d.Error = http.StatusBadGateway, err.Error()
				var p *problem.Problem
				if errors.As(err, &p) {
					status = p.Status
				}
			}
		}
		if err := readPage.Write(w, status, d); err != nil {
			problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
		}
	}))
}
