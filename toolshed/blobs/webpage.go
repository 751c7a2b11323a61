package blobs

import (
	"embed"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed assets/blobs.js
var assets embed.FS

//go:embed assets/page.html
var pageText string

var webPage = page.New("Blobs", "/assets/blobs/blobs.js", pageText)

// pageRows is how many blobs the page shows.
const pageRows = 100

func registerPage(m *mount.Mount, h handlers) {
	m.Page("/blobs", ScopeRead, http.HandlerFunc(h.page))
	m.Handle("GET /assets/blobs/{name}", mount.Route{Public: true}, page.AssetsOf(assets, "assets"))
	m.Handle("POST /blobs", mount.Route{
		Scope: ScopeWrite, BodyBytes: -1, Lasting: true, Accepts: []string{"multipart/form-data"},
	}, http.HandlerFunc(h.form))
}

func (h handlers) page(w http.ResponseWriter, r *http.Request) {
	all, err := h.kept.List(r.Context(), Page{}, pageRows)
	if err != nil {
		refused(err).Write(w)
		return
	}
	sites, err := h.kept.Sites(r.Context())
	if err != nil {
		refused(err).Write(w)
		return
	}
	data := struct {
		Blobs []shownBlob
		Sites []Site
		Host  string
	}{Sites: sites, Host: HostSuffix}
	for _, b := range all {
		data.Blobs = append(data.Blobs, show(b))
	}
	if err := webPage.Write(w, http.StatusOK, data); err != nil {
		refused(err).Write(w)
	}
}

// form takes a file from a browser without a script. Its length is not known
// before it is there, so it waits in a temporary file.
func (h handlers) form(w http.ResponseWriter, r *http.Request) {
	parts, err := r.MultipartReader()
	if err != nil {
		problem.Of(http.StatusBadRequest, "body: "+err.Error()).Write(w)
		return
	}
	p, err := parts.NextPart()
	if err != nil || p.FormName() != "file" || p.FileName() == "" {
		problem.Of(http.StatusUnprocessableEntity, "file: choose one").Write(w)
		return
	}
	if err := h.keepPart(r, p); err != nil {
		refused(err).Write(w)
		return
	}
	http.Redirect(w, r, "/blobs", http.StatusSeeOther)
}

func (h handlers) keepPart(r *http.Request, p *multipart.Part) error {
	kind, err := checkNames(p.Header.Get("Content-Type"), p.FileName())
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(h.kept.Path(partsFolder), "form-")
	if err != nil {
		return fullOr(fmt.Errorf("taking a file: %w", err))
	}
	defer f.Close()
	// A file without a name cannot be left behind.
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("taking a file: %w", err)
	}
	n, err := io.Copy(f, io.LimitReader(p, h.kept.Quota+1))
	if err != nil {
		return fullOr(cutOr(err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("taking a file: %w", err)
	}
	_, err = h.kept.Add(r.Context(), f, n, kind, p.FileName())
	return err
}
