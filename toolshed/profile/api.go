package profile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/profile/jsonld"
	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The scopes of this API.
const (
	ScopeRead  auth.Scope = "profile:read"
	ScopeWrite auth.Scope = "profile:write"
)

// Limits is what this API takes.
var Limits = mount.Limits{BodyBytes: maxBody, InFlight: 16}

const (
	root = "/api/profile"
	// maxBody is of a batch of facts.
	maxBody   = 4 << 20
	mediaJSON = "application/json"
	mediaLD   = "application/ld+json"
)

// Register puts the profile on an API's place.
func Register(m *mount.Mount, s *Store) {
	m.Report(s)
	h := handlers{s}
	op := func(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
		return huma.Operation{
			OperationID: "profile-" + id, Method: method, Path: root + path, Tags: []string{"profile"}, Summary: summary, Security: auth.Needs(scope),
			MaxBodyBytes: maxBody, Errors: append(refusals, http.StatusUnprocessableEntity), RejectUnknownQueryParameters: true,
		}
	}
	registerPage(m, h)
	add := op(ScopeWrite, "add", http.MethodPost, "/facts", "Add facts of a source", 415, 507)
	add.RequestBody = bodyOf(mediaJSON, mediaLD)
	huma.Register(m.API, add, h.add)
	huma.Register(m.API, op(ScopeRead, "facts", http.MethodGet, "/facts", "List facts"), h.facts)
	huma.Register(m.API, op(ScopeWrite, "retract", http.MethodPost, "/retract", "Say that facts are no longer so", 507), h.retract)
	huma.Register(m.API, op(ScopeWrite, "delete", http.MethodDelete, "/facts/{id}", "Delete a fact for good", 404, 503), h.delete)
	huma.Register(m.API, op(ScopeRead, "entity", http.MethodGet, "/entity", "Read an entity", 404), h.entity)
	huma.Register(m.API, op(ScopeWrite, "delete-entity", http.MethodDelete, "/entity", "Delete an entity for good", 404, 503), h.deleteEntity)
	huma.Register(m.API, op(ScopeRead, "history", http.MethodGet, "/history", "What was known of an entity, and when"), h.history)
	huma.Register(m.API, op(ScopeRead, "sources", http.MethodGet, "/sources", "List the sources"), h.sources)
	huma.Register(m.API, op(ScopeWrite, "delete-source", http.MethodDelete, "/sources", "Delete all that a source says for good", 404, 503), h.deleteSource)
	huma.Register(m.API, op(ScopeRead, "graph", http.MethodGet, "/graph", "Read everything as JSON-LD"), h.graph)
	huma.Register(m.API, op(ScopeRead, "document", http.MethodPost, "/document", "Write an entity, or everything, as JSON-LD by a context or a frame", 404), h.document)
	huma.Register(m.API, op(ScopeRead, "schema", http.MethodGet, "/schema", "Which types and predicates are in use, and the hints"), h.schema)
	huma.Register(m.API, op(ScopeWrite, "hint", http.MethodPut, "/schema/hints", "Keep a hint on a predicate", 507), h.setHint)
	huma.Register(m.API, op(ScopeWrite, "remove-hint", http.MethodDelete, "/schema/hints", "Remove a hint", 404), h.removeHint)
	registerProtocol(m, h, op)
}

// bodyOf documents a body that is read by hand.
func bodyOf(types ...string) *huma.RequestBody {
	b := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		b.Content[t] = &huma.MediaType{}
	}
	return b
}

type handlers struct{ kept *Store }

// refusal turns the store's sentinels into problems.
func refusal(err error) error {
	f, isField := errors.AsType[*FieldError](err)
	q, isQuery := errors.AsType[*sparql.Error](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrHint):
		return problem.New(http.StatusUnprocessableEntity, "against-hint", f.Error())
	case isField:
		return problem.Of(http.StatusUnprocessableEntity, f.Error())
	case isQuery && q.Unsupported:
		return problem.New(http.StatusBadRequest, "query-unsupported", "query: "+q.Error())
	case isQuery:
		return problem.New(http.StatusBadRequest, "query-malformed", "query: "+q.Error())
	case errors.Is(err, jsonld.ErrDocument):
		return problem.New(http.StatusUnprocessableEntity, "document-refused", "body: "+err.Error())
	case errors.Is(err, query.ErrRows), errors.Is(err, query.ErrMemory):
		return problem.New(http.StatusUnprocessableEntity, "query-too-large", "query: "+err.Error())
	case errors.Is(err, query.ErrPattern):
		return problem.New(http.StatusUnprocessableEntity, "query-too-slow", "query: "+err.Error())
	case errors.Is(err, ErrSlow):
		return problem.New(http.StatusUnprocessableEntity, "query-too-slow", fmt.Sprintf("%s: more than %s", ErrSlow, queryTime))
	case errors.Is(err, ErrLarge):
		return problem.New(http.StatusUnprocessableEntity, "too-large", err.Error()+"; a query or the list of facts gives it in pages")
	case errors.Is(err, ErrNotFound):
		return problem.Of(http.StatusNotFound, ErrNotFound.Error())
	case errors.Is(err, ErrNotErased):
		return problem.New(http.StatusServiceUnavailable, "not-erased", err.Error())
	case errors.Is(err, ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; profile.quota_bytes is more")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error()+"; deleting makes room")
	}
	return problem.Of(http.StatusInternalServerError, "the store failed: "+err.Error())
}

type addInput struct {
	ContentType string `header:"Content-Type"`
	Source      string `query:"source" maxLength:"256" doc:"who says so, where the body does not"`
	RawBody     []byte
}

type addOutput struct {
	Body struct {
		Added    int       `json:"added" doc:"how many are new"`
		Present  int       `json:"present" doc:"how many this source said already"`
		At       time.Time `json:"at"`
		Facts    []int64   `json:"facts" doc:"the numbers of the facts, in the order of the body"`
		Warnings []string  `json:"warnings,omitempty" doc:"what hints say"`
	}
}

func (h handlers) add(ctx context.Context, in *addInput) (*addOutput, error) {
	source, all, err := in.read()
	if err != nil {
		return nil, err
	}
	a, err := h.kept.Add(ctx, source, all)
	if err != nil {
		return nil, refusal(err)
	}
	out := &addOutput{}
	out.Body.Added, out.Body.Present, out.Body.At, out.Body.Facts, out.Body.Warnings = a.New, len(a.Facts)-a.New, a.At, a.Facts, a.Warnings
	return out, nil
}

// read reads facts as either of the two types has them.
func (in *addInput) read() (source string, all []rdf.Triple, err error) {
	kind, _, err := mime.ParseMediaType(in.ContentType)
	switch {
	case err == nil && kind == mediaLD:
		all, err = jsonld.Parse(in.RawBody)
		return in.Source, all, refusal(err)
	case err != nil || kind != mediaJSON:
		return "", nil, problem.Of(http.StatusUnsupportedMediaType, "content-type: want "+mediaJSON+" or "+mediaLD)
	}
	var body struct {
		Source string      `json:"source"`
		Facts  []givenFact `json:"facts"`
	}
	if err := strictly(in.RawBody, &body); err != nil {
		return "", nil, problem.Of(http.StatusUnprocessableEntity, "body: "+err.Error())
	}
	if body.Source != "" && in.Source != "" {
		return "", nil, problem.Of(http.StatusUnprocessableEntity, "source: it is there twice")
	}
	if len(body.Facts) > MaxFacts {
		return "", nil, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("facts: there are %d, at most %d", len(body.Facts), MaxFacts))
	}
	for i, g := range body.Facts {
		t, err := g.triple()
		if err != nil {
			return "", nil, problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("facts[%d].%s", i, err))
		}
		all = append(all, t)
	}
	return body.Source + in.Source, all, nil
}

type factsInput struct {
	Subject   string `query:"subject" maxLength:"2048"`
	Predicate string `query:"predicate" maxLength:"2048"`
	Object    string `query:"object" maxLength:"65536" doc:"as JSON, as in a body"`
	Source    string `query:"source" maxLength:"256"`
	AsOf      string `query:"as_of" maxLength:"64" doc:"a time, or a day"`
	After     int64  `query:"after" minimum:"0" doc:"the value of next"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type factsOutput struct {
	Body struct {
		Facts []shownFact `json:"facts"`
		Next  *int64      `json:"next,omitempty" doc:"the value of after for the next page; there is none on the last"`
	}
}

func (h handlers) facts(ctx context.Context, in *factsInput) (*factsOutput, error) {
	f := Filter{Source: in.Source, After: in.After, Limit: in.Limit}
	var err error
	if f.At, err = timeAsked(in.AsOf); err != nil {
		return nil, refusal(err)
	}
	if err := f.parts(in.Subject, in.Predicate, json.RawMessage(in.Object)); err != nil {
		return nil, refusal(err)
	}
	return h.list(ctx, f)
}

// parts takes the parts of a pattern where they are not empty.
func (f *Filter) parts(subject, predicate string, object json.RawMessage) (err error) {
	if subject != "" {
		f.Subject = rdf.NewIRI(subject)
	}
	if predicate != "" {
		f.Predicate = rdf.NewIRI(predicate)
	}
	if len(object) > 0 {
		if f.Object, err = termOf(object); err != nil {
			return &FieldError{"object", err}
		}
	}
	return nil
}

func (h handlers) list(ctx context.Context, f Filter) (*factsOutput, error) {
	all, more, err := h.kept.Facts(ctx, f)
	if err != nil {
		return nil, refusal(err)
	}
	out := &factsOutput{}
	out.Body.Facts = []shownFact{}
	for _, one := range all {
		out.Body.Facts = append(out.Body.Facts, showFact(one))
	}
	if more {
		next := all[len(all)-1].ID
		out.Body.Next = &next
	}
	return out, nil
}

type historyInput struct {
	Entity string `query:"entity" required:"true" maxLength:"2048"`
	After  int64  `query:"after" minimum:"0" doc:"the value of next"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (h handlers) history(ctx context.Context, in *historyInput) (*factsOutput, error) {
	return h.list(ctx, Filter{Entity: rdf.NewIRI(in.Entity), History: true, After: in.After, Limit: in.Limit})
}

type retractInput struct {
	Body struct {
		Facts     []int64         `json:"facts,omitempty" maxItems:"1000" doc:"their numbers"`
		Subject   string          `json:"subject,omitempty" maxLength:"2048"`
		Predicate string          `json:"predicate,omitempty" maxLength:"2048"`
		Object    json.RawMessage `json:"object,omitempty"`
		Source    string          `json:"source,omitempty" maxLength:"256"`
	}
}

type retractOutput struct {
	Body struct {
		Retracted int64 `json:"retracted"`
	}
}

func (h handlers) retract(ctx context.Context, in *retractInput) (out *retractOutput, err error) {
	f := Filter{IDs: in.Body.Facts, Source: in.Body.Source}
	if err := f.parts(in.Body.Subject, in.Body.Predicate, in.Body.Object); err != nil {
		return nil, refusal(err)
	}
	out = &retractOutput{}
	out.Body.Retracted, err = h.kept.Retract(ctx, f)
	return out, refusal(err)
}

type deleteInput struct {
	ID int64 `path:"id" minimum:"1"`
}

type deletedOutput struct {
	Body struct {
		Deleted int64 `json:"deleted" doc:"how many facts, those of the history too"`
	}
}

func deleted(n int64, err error) (*deletedOutput, error) {
	out := &deletedOutput{}
	out.Body.Deleted = n
	return out, refusal(err)
}

func (h handlers) delete(ctx context.Context, in *deleteInput) (*deletedOutput, error) {
	return deleted(1, h.kept.Delete(ctx, in.ID))
}

type deleteEntityInput struct {
	Entity string `query:"entity" required:"true" maxLength:"2048"`
}

func (h handlers) deleteEntity(ctx context.Context, in *deleteEntityInput) (*deletedOutput, error) {
	return deleted(h.kept.DeleteEntity(ctx, rdf.NewIRI(in.Entity)))
}

type sourceInput struct {
	Source string `query:"source" required:"true" maxLength:"256"`
}

func (h handlers) deleteSource(ctx context.Context, in *sourceInput) (*deletedOutput, error) {
	return deleted(h.kept.DeleteSource(ctx, in.Source))
}
