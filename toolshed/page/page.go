// Package page writes the pages for people.
//
// Invariants: a page is complete without a script, and loads nothing from
// elsewhere; what it shows is escaped by the template; no other site may frame
// it.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"path"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed assets
var assets embed.FS

//go:embed layout.html
var layoutText string

// policy lets a page load what this server has, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; " +
	"media-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

var layout = template.Must(template.New("layout").Parse(layoutText))

// Page is one kind of page: its template is the body of the layout.
type Page struct {
	title  string
	script string
	body   *template.Template
}

// shown is what the layout takes.
type shown struct {
	Title, Script string
	Data          any
}

// New makes a page of a template for what stands between header and footer.
// Script is the path of a script of this server's, empty for none. It panics
// where the template is wrong, which is the program's fault.
func New(title, script, text string) *Page {
	body := template.Must(template.Must(layout.Clone()).New("body").Parse(text))
	return &Page{title: title, script: script, body: body}
}

// Write answers with the page.
func (p *Page) Write(w http.ResponseWriter, status int, data any) error {
	var b bytes.Buffer
	if err := p.body.ExecuteTemplate(&b, "layout", shown{Title: p.title, Script: p.script, Data: data}); err != nil {
		return fmt.Errorf("writing the page %s: %w", p.title, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A reader that is gone cannot be told.
	_, _ = b.WriteTo(w)
	return nil
}

// Assets answers with the files that every page loads.
func Assets() http.Handler { return AssetsOf(assets, "assets") }

// AssetsOf is Assets for the files in a folder of an API's own. The pattern of
// its route names the file {name}.
func AssetsOf(files embed.FS, folder string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		b, err := files.ReadFile(path.Join(folder, path.Base(name)))
		if err != nil {
			problem.Of(http.StatusNotFound, "no such file").Write(w)
			return
		}
		etag := fmt.Sprintf("\"%x\"", sha256.Sum256(b))
		h := w.Header()
		h.Set("ETag", etag)
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		_, _ = w.Write(b)
	})
}
