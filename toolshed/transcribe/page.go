package transcribe

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

var hearPage = page.New("Transcribe", "", pageText)

// hearShown is what the page shows.
type hearShown struct {
	Engines    []string
	First      string
	Error      string
	Transcript *Transcript
	VTT        string
}

// registerPage puts the page for people on an API's place.
func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/transcribe", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { h.show(w, http.StatusOK, hearShown{}) }))
	m.Handle("POST /transcribe", mount.Route{
		Scope: ScopeRead, Lasting: true, BodyBytes: MaxBytes + 64<<10, Accepts: []string{"multipart/form-data"},
	}, http.HandlerFunc(h.hear))
}

func (h handlers) show(w http.ResponseWriter, status int, d hearShown) {
	d.Engines, d.First = slices.Sorted(maps.Keys(h.engines)), h.first
	if err := hearPage.Write(w, status, d); err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}

func (h handlers) hear(w http.ResponseWriter, r *http.Request) {
	in := &input{Engine: r.FormValue("engine"), Format: "json"}
	file, header, err := r.FormFile("audio")
	if r.MultipartForm != nil {
		// The server would for a request of its own alone, which this is a copy of.
		defer r.MultipartForm.RemoveAll() //nolint:errcheck // the system empties its folder too
	}
	if err != nil {
		h.show(w, http.StatusUnprocessableEntity, hearShown{Error: "There is no file."})
		return
	}
	defer file.Close()
	if in.RawBody, err = io.ReadAll(io.LimitReader(file, MaxBytes+1)); err != nil {
		h.show(w, http.StatusBadRequest, hearShown{Error: "The file did not arrive whole."})
		return
	}
	if len(in.RawBody) > MaxBytes {
		h.show(w, http.StatusRequestEntityTooLarge, hearShown{Error: fmt.Sprintf("The file has more than %d MiB.", MaxBytes>>20)})
		return
	}
	in.ContentType = mediaType(header.Header.Get("Content-Type"), header.Filename)
	t, err := h.heard(r.Context(), in)
	if err != nil {
		status := http.StatusBadGateway
		var p *problem.Problem
		if errors.As(err, &p) {
			status = p.Status
		}
		h.show(w, status, hearShown{Error: err.Error()})
		return
	}
	h.show(w, http.StatusOK, hearShown{Transcript: t, VTT: t.VTT()})
}

// mediaType is what a browser says that a file is, or what its name says.
func mediaType(said, name string) string {
	if kind, _, err := mime.ParseMediaType(said); err == nil && Types[kind] != "" {
		return kind
	}
	for kind, ending := range Types {
		if strings.EqualFold(path.Ext(name), "."+ending) {
			return kind
		}
	}
	return said
}
