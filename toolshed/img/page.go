package img

import (
	_ "embed"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

var galleryPage = page.New("Images", "", pageText)

// galleryShown is what the page shows.
type galleryShown struct {
	Providers            []string
	Model, Prompt, Error string
	Images               []shown
}

// onPage is how many images the page shows.
const onPage = 24

// registerPage puts the page for people on an API's place.
func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/img", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.show(w, r, http.StatusOK, galleryShown{}) }))
	m.Handle("POST /img", mount.Route{
		Scope: ScopeWrite, Lasting: true, Accepts: []string{"application/x-www-form-urlencoded"},
	}, http.HandlerFunc(h.makeOnPage))
}

func (h handlers) show(w http.ResponseWriter, r *http.Request, status int, d galleryShown) {
	all, err := h.gallery.List(r.Context(), Page{Before: h.gallery.Now().Add(time.Hour)}, onPage)
	if err == nil {
		d.Images = show(all)
		d.Providers = slices.Sorted(maps.Keys(h.gallery.Providers))
		err = galleryPage.Write(w, status, d)
	}
	if err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

func (h handlers) makeOnPage(w http.ResponseWriter, r *http.Request) {
	in := &makeInput{}
	in.Body.Model, in.Body.Prompt = r.PostFormValue("model"), r.PostFormValue("prompt")
	in.Body.Count, _ = strconv.Atoi(r.PostFormValue("count")) //nolint:errcheck // what is no number is the default
	in.Body.Count = min(max(in.Body.Count, 1), MaxCount)
	if len(in.Body.Prompt) > MaxPrompt || strings.TrimSpace(in.Body.Prompt) == "" {
		h.show(w, r, http.StatusUnprocessableEntity, galleryShown{Model: in.Body.Model, Error: "Say what is to be seen."})
		return
	}
	if _, err := h.make(r.Context(), in); err != nil {
		status := http.StatusBadGateway
		var p *problem.Problem
		if errors.As(err, &p) {
			status = p.Status
		}
		h.show(w, r, status, galleryShown{Model: in.Body.Model, Prompt: in.Body.Prompt, Error: err.Error()})
		return
	}
	http.Redirect(w, r, "/img", http.StatusSeeOther)
}
