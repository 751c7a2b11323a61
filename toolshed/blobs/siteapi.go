package blobs

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// HostSuffix ends the host's name of every site.
const HostSuffix = ".localhost"

func registerSites(m *mount.Mount, h handlers, operation func(auth.Scope, string, string, string, string, ...int) huma.Operation) {
	const sites = root + "/sites"
	huma.Register(m.API, operation(ScopeRead, "sites", http.MethodGet, sites, "List the sites"), h.sites)
	put := operation(ScopeWrite, "put-site", http.MethodPut, sites+"/{site}", "Make a site of blobs, or replace it whole", http.StatusInsufficientStorage)
	put.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, put, h.putSite)
	remove := operation(ScopeWrite, "delete-site", http.MethodDelete, sites+"/{site}", "Delete a site; its blobs stay", http.StatusNotFound)
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, remove, h.deleteSite)
}

type siteBody struct {
	Public bool              `json:"public,omitempty" doc:"for anybody who reaches this server; else it takes blobs:read"`
	Files  map[string]string `json:"files" doc:"SHA-256 in hex by path; index.html and 404.html are what they are elsewhere"`
}

type shownSite struct {
	Name      string    `json:"name"`
	Host      string    `json:"host" doc:"where it is, at this server's port"`
	UpdatedAt time.Time `json:"updated_at"`
	siteBody
}

type sitesOutput struct {
	Body struct {
		Sites []shownSite `json:"sites"`
	}
}

func (h handlers) sites(ctx context.Context, _ *struct{}) (*sitesOutput, error) {
	all, err := h.kept.Sites(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	out := &sitesOutput{}
	out.Body.Sites = []shownSite{}
	for _, s := range all {
		shown := shownSite{Name: s.Name, Host: s.Name + HostSuffix, UpdatedAt: s.UpdatedAt, siteBody: siteBody{Public: s.Public, Files: map[string]string{}}}
		for p, sum := range s.Files {
			shown.Files[p] = sum.String()
		}
		out.Body.Sites = append(out.Body.Sites, shown)
	}
	return out, nil
}

type putSiteInput struct {
	Site string `path:"site" maxLength:"32"`
	Body siteBody
}

func (h handlers) putSite(ctx context.Context, in *putSiteInput) (*struct{}, error) {
	site := Site{Name: in.Site, Public: in.Body.Public, Files: map[string]Hash{}}
	for p, text := range in.Body.Files {
		sum, err := ParseHash(text)
		if err != nil {
			return nil, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("files.%.64q: %v", p, err))
		}
		site.Files[p] = sum
	}
	return nil, refusal(h.kept.PutSite(ctx, site))
}

type siteInput struct {
	Site string `path:"site" maxLength:"32"`
}

func (h handlers) deleteSite(ctx context.Context, in *siteInput) (*struct{}, error) {
	return nil, refusal(h.kept.DeleteSite(ctx, in.Site))
}

// SiteOf is the site that a request is for; empty for none.
func SiteOf(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	// The dot that ends a name says nothing else.
	name, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), HostSuffix)
	if !ok || !validSite.MatchString(name) {
		return ""
	}
	return name
}

// RegisterHosts puts the sites on a place that answers for their hosts alone.
func RegisterHosts(m *mount.Mount, s *Store) {
	m.Handle("GET /", mount.Route{Public: true}, http.HandlerFunc(s.serveSite))
}

// serveSite answers for one file of a site.
func (s *Store) serveSite(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	f, public, err := s.lookUp(r.Context(), SiteOf(r), name)
	if !public {
		// Who may not read hears nothing of what there is.
		if refused := auth.Check(r.Context(), ScopeRead); refused != nil {
			refused.Write(w)
			return
		}
	}
	if errors.Is(err, ErrNotFound) {
		problem.Of(http.StatusNotFound, "this site has no such file").Write(w)
		return
	}
	if err != nil {
		refused(err).Write(w)
		return
	}
	if f.folder {
		http.Redirect(w, r, path.Base(name)+"/", http.StatusMovedPermanently)
		return
	}
	c, err := s.Open(r.Context(), f.blob)
	if err != nil {
		refused(err).Write(w)
		return
	}
	defer c.Close()
	s.writeFile(w, r, f, name, c)
}

func (s *Store) writeFile(w http.ResponseWriter, r *http.Request, f found, name string, c Content) {
	kind := mime.TypeByExtension(path.Ext(name))
	if name == "" || strings.HasSuffix(name, "/") || f.missing {
		kind = "text/html; charset=utf-8"
	}
	if kind == "" {
		kind = f.blob.MediaType
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	if !f.missing {
		serve(w, r, f.blob, c)
		return
	}
	// What a caller has, or wants a part of, is no page for what is missing.
	plain := r.Clone(r.Context())
	for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Match"} {
		plain.Header.Del(name)
	}
	serve(&withStatus{ResponseWriter: w, status: http.StatusNotFound}, plain, f.blob, c)
}

// withStatus answers with another status than 200.
type withStatus struct {
	http.ResponseWriter
	status int
}

func (w *withStatus) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }
