// Package mount is how an API gets its routes.
//
// Invariants: every route says who may use it, and one that does not is the
// owner's alone; no body is longer than its API takes, nor encoded where that
// would be lost, and no API does more at once than it said; what is too much is
// refused with the time to wait, before anything of it is read.
package mount

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// Usage is what an API keeps.
type Usage struct {
	Bytes int64 `json:"bytes"`
	Count int64 `json:"count"`
	// Of says what was counted, in the plural.
	Of string `json:"of"`
	// Quota bounds the bytes; 0 for none, or for one of something else.
	Quota int64 `json:"quota"`
}

// Reporter is an API that says what it keeps.
type Reporter interface {
	// Usage is asked whenever somebody looks, and so is cheap.
	Usage(ctx context.Context) (Usage, error)
}

// Mount is the place of one API.
type Mount struct {
	// Name is the API's, the first part of its scopes.
	Name string
	// API takes typed operations. Their scope is what they declare as Security,
	// by auth.Needs or auth.Public.
	API huma.API

	mux    *http.ServeMux
	gate   *gate
	limits Limits
	// stopping ends what lasts.
	stopping context.Context
	// reporter and page are what the API told; nil and empty where it did not.
	reporter Reporter
	page     string
	traffic  traffic
}

// Site is what all places share: a document, a mux, a clock, and a context that
// ends when the server is about to.
type Site struct {
	API      huma.API
	Mux      *http.ServeMux
	Now      func() time.Time
	Stopping context.Context
}

// New is a place on a site.
func (s Site) New(name string, limits Limits) *Mount {
	limits = limits.withDefaults()
	m := &Mount{Name: name, mux: s.Mux, limits: limits, gate: newGate(limits, s.Now), stopping: s.Stopping}
	group := huma.NewGroup(s.API)
	group.UseMiddleware(auth.Middleware, m.operation)
	m.API = group
	return m
}

// frameworkBodyBytes is what the framework puts into an operation that does not
// say, and reads of its body at most: a larger one says so as MaxBodyBytes.
const frameworkBodyBytes = 1 << 20

// longKey marks an operation that lasts, in its metadata.
const longKey = "long"

// Lasting marks an operation that holds its connection, as a feed does: it is
// counted apart from those that end by themselves.
func Lasting(op huma.Operation) huma.Operation {
	op.Metadata = map[string]any{longKey: true}
	return op
}

// operation admits a typed operation.
func (m *Mount) operation(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	r, w := humago.Unwrap(ctx)
	route := Route{Lasting: op.Metadata[longKey] != nil, BodyBytes: m.limits.BodyBytes}
	if op.MaxBodyBytes != 0 && op.MaxBodyBytes != frameworkBodyBytes {
		route.BodyBytes = op.MaxBodyBytes
	}
	m.admit(w, r, route, func(r *http.Request) { next(huma.WithContext(ctx, r.Context())) })
}

// Route is what a route that is no typed operation says of itself.
type Route struct {
	// Scope is who may use it; empty is the owner alone.
	Scope auth.Scope
	// Public is for anybody instead.
	Public bool
	// Accepts are the media types of bodies that it takes; nil for any.
	Accepts []string
	// BodyBytes is the API's own where it is 0, and no bound where it is
	// negative: then the handler bounds what it reads.
	BodyBytes int64
	// Lasting is of one that holds its connection.
	Lasting bool
	// Encoded is of one that passes on how a body is encoded.
	Encoded bool
}

// Handle puts a route that is no typed operation on the mux.
func (m *Mount) Handle(pattern string, route Route, h http.Handler) {
	if route.BodyBytes == 0 {
		route.BodyBytes = m.limits.BodyBytes
	}
	admitted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.admit(w, r, route, func(r *http.Request) { h.ServeHTTP(w, r) })
	})
	if route.Public {
		m.mux.Handle(pattern, admitted)
		return
	}
	scope := route.Scope
	if scope == "" {
		scope = auth.Everything
	}
	m.mux.Handle(pattern, auth.Require(scope, admitted))
}

// Page puts the API's page for people on the mux: path is below the root and
// has no method. Who is not known is led to where they can say who they are.
func (m *Mount) Page(path string, scope auth.Scope, h http.Handler) {
	m.page = path
	guarded := auth.Require(scope, h)
	m.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		if auth.FromContext(r.Context()) == nil {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// Report has the root ask what the API keeps.
func (m *Mount) Report(r Reporter) { m.reporter = r }

// Reporter is who reports for the API; nil for nobody.
func (m *Mount) Reporter() Reporter { return m.reporter }

// PagePath is where the API's page is; empty for none.
func (m *Mount) PagePath() string { return m.page }

// admit runs what is admitted, with a bounded body.
func (m *Mount) admit(w http.ResponseWriter, r *http.Request, route Route, run func(*http.Request)) {
	m.see(r)
	if limit := route.BodyBytes; limit >= 0 {
		if r.ContentLength > limit {
			problem.New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body has %d bytes, at most %d", r.ContentLength, limit)).Write(w)
			return
		}
		// One byte more, for whoever says by themselves that it is too much.
		r.Body = http.MaxBytesReader(w, r.Body, limit+1)
	}
	if route.Accepts != nil && r.ContentLength != 0 && !accepted(r, route.Accepts) {
		problem.Of(http.StatusUnsupportedMediaType, "content-type: want "+strings.Join(route.Accepts, " or ")).Write(w)
		return
	}
	// What is encoded would be kept as it came, and answered as what it is not.
	if coding := r.Header.Get("Content-Encoding"); !route.Encoded && r.ContentLength != 0 && coding != "" && !strings.EqualFold(coding, "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		problem.Of(http.StatusUnsupportedMediaType, "content-encoding: want none").Write(w)
		return
	}
	leave, wait := m.gate.enter(route.Lasting)
	if leave == nil {
		refuseForNow(w, wait)
		return
	}
	defer leave()
	if route.Lasting {
		ctx, cancel := auth.Lasting(r.Context())
		defer cancel()
		defer context.AfterFunc(m.stopping, cancel)()
		r = r.WithContext(ctx)
	}
	run(r)
}

func accepted(r *http.Request, types []string) bool {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && slices.Contains(types, got)
}
