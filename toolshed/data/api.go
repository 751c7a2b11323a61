package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The scopes of this API. ScopeExternal is for databases elsewhere.
const (
	ScopeRead     auth.Scope = "data:read"
	ScopeWrite    auth.Scope = "data:write"
	ScopeExternal auth.Scope = "data:external"
)

// Limits is what this API takes.
var Limits = mount.Limits{BodyBytes: 4 << 20, InFlight: 32}

const (
	root      = "/api/data"
	documents = root + "/collections/{collection}/documents"
	// maxBody is of a transaction of several documents.
	maxBody = 4 << 20
)

// Register puts the collections, and the external databases by their configured
// names, on an API's place.
func Register(m *mount.Mount, s *Store, external map[string]External) {
	m.Report(s)
	h := handlers{kept: s, external: external}
	op := func(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
		o := huma.Operation{
			OperationID: "data-" + id, Method: method, Path: path, Tags: []string{"data"}, Summary: summary, Security: auth.Needs(scope),
			MaxBodyBytes: maxBody, Errors: append(refusals, http.StatusUnprocessableEntity), RejectUnknownQueryParameters: true,
		}
		if method == http.MethodDelete || id == "declare" {
			o.DefaultStatus = http.StatusNoContent
		}
		return o
	}
	const one = root + "/collections/{collection}"
	registerPage(m, h)
	huma.Register(m.API, op(ScopeRead, "collections", http.MethodGet, root+"/collections", "List collections"), h.collections)
	huma.Register(m.API, op(ScopeWrite, "declare", http.MethodPut, one, "Declare a collection's schema and indexes", 409, 507), h.declare)
	huma.Register(m.API, op(ScopeWrite, "drop", http.MethodDelete, one, "Remove a collection with its documents", 404), h.drop)
	huma.Register(m.API, op(ScopeRead, "query", http.MethodPost, one+"/query", "Find documents", 503), h.query)
	add := op(ScopeWrite, "add", http.MethodPost, documents, "Write a document under a new id", 409, 507)
	add.DefaultStatus = http.StatusCreated
	huma.Register(m.API, add, h.add)
	huma.Register(m.API, op(ScopeRead, "get", http.MethodGet, documents+"/{id}", "Read a document", 404), h.get)
	huma.Register(m.API, op(ScopeWrite, "put", http.MethodPut, documents+"/{id}", "Write a document", 409, 412, 507), h.put)
	huma.Register(m.API, op(ScopeWrite, "patch", http.MethodPatch, documents+"/{id}", "Change a document by a merge patch (RFC 7396)", 404, 409, 412, 507), h.patch)
	huma.Register(m.API, op(ScopeWrite, "delete", http.MethodDelete, documents+"/{id}", "Remove a document", 404, 412), h.delete)
	huma.Register(m.API, op(ScopeWrite, "transact", http.MethodPost, root+"/transactions", "Do several things, all or none", 404, 409, 412, 507), h.transact)
	huma.Register(m.API, mount.Lasting(op(ScopeRead, "changes", http.MethodGet, root+"/changes", "Read or follow the feed of changes", 410)), h.changes)
	huma.Register(m.API, op(ScopeRead, "external", http.MethodGet, root+"/external", "List the external databases"), h.externals)
	huma.Register(m.API, mount.Lasting(op(ScopeExternal, "external-query", http.MethodPost, root+"/external/{database}/query", "Ask an external database", 404, 502, 504)), h.externalQuery)
}

type handlers struct {
	kept     *Store
	external map[string]External
}

type shownCollection struct {
	Name      string          `json:"name"`
	Schema    json.RawMessage `json:"schema,omitempty"`
	Indexes   []Index         `json:"indexes"`
	Documents int64           `json:"documents"`
	CreatedAt time.Time       `json:"created_at"`
}

type collectionsOutput struct {
	Body struct {
		Collections []shownCollection `json:"collections"`
	}
}

func (h handlers) collections(ctx context.Context, _ *struct{}) (*collectionsOutput, error) {
	all, err := h.kept.Collections(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	out := &collectionsOutput{}
	out.Body.Collections = []shownCollection{}
	for _, c := range all {
		out.Body.Collections = append(out.Body.Collections, shownCollection{c.Name, c.Schema, append([]Index{}, c.Indexes...), c.Documents, c.CreatedAt})
	}
	return out, nil
}

type declareInput struct {
	Collection string `path:"collection" maxLength:"64"`
	Body       struct {
		Schema  json.RawMessage `json:"schema,omitempty" doc:"a JSON schema of what is written from now on"`
		Indexes []Index         `json:"indexes,omitempty" maxItems:"16"`
	}
}

func (h handlers) declare(ctx context.Context, in *declareInput) (*struct{}, error) {
	return nil, refusal(h.kept.Declare(ctx, Collection{Name: in.Collection, Schema: in.Body.Schema, Indexes: in.Body.Indexes}))
}

type collectionInput struct {
	Collection string `path:"collection" maxLength:"64"`
}

func (h handlers) drop(ctx context.Context, in *collectionInput) (*struct{}, error) {
	return nil, refusal(h.kept.Drop(ctx, in.Collection))
}

// shown is a document for a caller.
type shown struct {
	Collection string          `json:"collection,omitempty"`
	ID         string          `json:"id"`
	Version    int64           `json:"version"`
	UpdatedAt  *time.Time      `json:"updated_at,omitempty"`
	Document   json.RawMessage `json:"document,omitempty"`
}

func show(d Document) shown {
	s := shown{ID: d.ID, Version: d.Version, Document: d.Body}
	if !d.UpdatedAt.IsZero() {
		s.UpdatedAt = &d.UpdatedAt
	}
	return s
}

type queryInput struct {
	Collection string `path:"collection" maxLength:"64"`
	Body       struct {
		Filter json.RawMessage `json:"filter,omitempty" doc:"in MongoDB's words; all where it is missing"`
		Sort   []string        `json:"sort,omitempty" maxItems:"4" doc:"paths, with a - in front for descending"`
		Limit  int             `json:"limit,omitempty" minimum:"1" maximum:"1000" default:"100"`
		Skip   int             `json:"skip,omitempty" minimum:"0" maximum:"100000"`
		Count  bool            `json:"count,omitempty" doc:"answer how many there are instead"`
	}
}

type queryOutput struct {
	Body struct {
		Documents []shown `json:"documents"`
		Next      *int    `json:"next,omitempty" doc:"the value of skip for the next page; there is none on the last"`
		Count     *int64  `json:"count,omitempty"`
	}
}

func (h handlers) query(ctx context.Context, in *queryInput) (*queryOutput, error) {
	b := in.Body
	q := Query{Collection: in.Collection, Filter: b.Filter, Sort: b.Sort, Limit: b.Limit, Skip: b.Skip}
	out := &queryOutput{}
	out.Body.Documents = []shown{}
	if b.Count {
		n, err := h.kept.Count(ctx, q)
		out.Body.Count = &n
		return out, refusal(err)
	}
	all, more, err := h.kept.Find(ctx, q)
	if err != nil {
		return nil, refusal(err)
	}
	for _, d := range all {
		out.Body.Documents = append(out.Body.Documents, show(d))
	}
	if more {
		next := b.Skip + len(all)
		out.Body.Next = &next
	}
	return out, nil
}

type documentInput struct {
	Collection string `path:"collection" maxLength:"64"`
	ID         string `path:"id" maxLength:"128"`
}

// WriteInput is exported for the framework, which fills no part that is not.
type WriteInput struct {
	Collection  string `path:"collection" maxLength:"64"`
	ID          string `path:"id" maxLength:"128"`
	IfMatch     string `header:"If-Match" maxLength:"32" doc:"only if the document is of this version, in quotes"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"32" doc:"*: only if there is none"`
}

// operation reads the condition of a write.
func (in WriteInput) operation(op string, body json.RawMessage) (Operation, error) {
	o := Operation{Op: op, Collection: in.Collection, ID: in.ID, Body: body}
	switch {
	case in.IfMatch != "" && in.IfNoneMatch != "", in.IfNoneMatch != "" && in.IfNoneMatch != "*":
		return o, problem.Of(http.StatusUnprocessableEntity, "if-none-match: want * and no if-match")
	case in.IfNoneMatch == "*":
		o.IfVersion = new(int64)
	case in.IfMatch != "":
		text, err := strconv.Unquote(in.IfMatch)
		version, wrong := strconv.ParseInt(text, 10, 64)
		if errors.Join(err, wrong) != nil || version < 1 {
			return o, problem.Of(http.StatusUnprocessableEntity, `if-match: want a version in quotes, as "7"`)
		}
		o.IfVersion = &version
	}
	return o, nil
}

type bodyInput struct {
	WriteInput
	Body json.RawMessage
}

type documentOutput struct {
	ETag string `header:"ETag"`
	Body shown
}

func output(d Document) *documentOutput {
	return &documentOutput{ETag: strconv.Quote(strconv.FormatInt(d.Version, 10)), Body: show(d)}
}

func (h handlers) one(ctx context.Context, o Operation, err error) (*documentOutput, error) {
	if err != nil {
		return nil, err
	}
	done, err := h.kept.Apply(ctx, []Operation{o})
	if err != nil {
		return nil, refusal(err)
	}
	return output(done[0]), nil
}

func (h handlers) get(ctx context.Context, in *documentInput) (*documentOutput, error) {
	d, err := h.kept.Get(ctx, in.Collection, in.ID)
	if err != nil {
		return nil, refusal(err)
	}
	return output(d), nil
}

type addInput struct {
	Collection string `path:"collection" maxLength:"64"`
	Body       json.RawMessage
}

func (h handlers) add(ctx context.Context, in *addInput) (*documentOutput, error) {
	return h.one(ctx, Operation{Op: OpPut, Collection: in.Collection, Body: in.Body, IfVersion: new(int64)}, nil)
}

func (h handlers) put(ctx context.Context, in *bodyInput) (*documentOutput, error) {
	o, err := in.operation(OpPut, in.Body)
	return h.one(ctx, o, err)
}

func (h handlers) patch(ctx context.Context, in *bodyInput) (*documentOutput, error) {
	o, err := in.operation(OpPatch, in.Body)
	return h.one(ctx, o, err)
}

func (h handlers) delete(ctx context.Context, in *WriteInput) (*struct{}, error) {
	o, err := in.operation(OpDelete, nil)
	_, err = h.one(ctx, o, err)
	return nil, err
}

type transactInput struct {
	Body struct {
		Operations []struct {
			Op         string          `json:"op" enum:"put,patch,delete,check"`
			Collection string          `json:"collection" maxLength:"64"`
			ID         string          `json:"id,omitempty" maxLength:"128" doc:"drawn where a put has none"`
			Document   json.RawMessage `json:"document,omitempty"`
			IfVersion  *int64          `json:"if_version,omitempty" minimum:"0" doc:"only if the document is of this version; 0: only if there is none"`
		} `json:"operations" minItems:"1" maxItems:"500"`
	}
}

type transactOutput struct {
	Body struct {
		Results []shown `json:"results" doc:"one for each operation"`
	}
}

func (h handlers) transact(ctx context.Context, in *transactInput) (*transactOutput, error) {
	var all []Operation
	for _, o := range in.Body.Operations {
		all = append(all, Operation{Op: o.Op, Collection: o.Collection, ID: o.ID, Body: o.Document, IfVersion: o.IfVersion})
	}
	done, err := h.kept.Apply(ctx, all)
	if err != nil {
		return nil, refusal(err)
	}
	out := &transactOutput{}
	for _, d := range done {
		out.Body.Results = append(out.Body.Results, shown{Collection: d.Collection, ID: d.ID, Version: d.Version})
	}
	return out, nil
}

type changesInput struct {
	Accept     string `header:"Accept" doc:"application/x-ndjson: a line for each change, without an end"`
	After      int64  `query:"after" minimum:"0" doc:"the version to go on from"`
	Collection string `query:"collection" maxLength:"64"`
	Documents  bool   `query:"documents" doc:"with each document as it is now"`
	Limit      int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Wait       int    `query:"wait" minimum:"0" maximum:"60" doc:"seconds to wait where nothing has changed"`
}

// feedPage is a part of the feed.
type feedPage struct {
	Changes []Change `json:"changes"`
	Next    int64    `json:"next" doc:"the value of after to go on from"`
}

const ndjson = "application/x-ndjson"

func (h handlers) changes(ctx context.Context, in *changesInput) (*huma.StreamResponse, error) {
	f := Feed{After: in.After, Collection: in.Collection, Documents: in.Documents, Limit: in.Limit}
	if strings.Contains(in.Accept, ndjson) {
		if _, _, err := h.kept.Changes(ctx, f); err != nil {
			return nil, refusal(err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) { h.follow(c, f) }}, nil
	}
	p, err := h.await(ctx, f, time.Duration(in.Wait)*time.Second)
	if err != nil {
		return nil, refusal(err)
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", "application/json")
		c.SetHeader("Cache-Control", "no-store")
		// A reader that is gone cannot be told.
		_ = json.NewEncoder(c.BodyWriter()).Encode(p)
	}}, nil
}

// await answers what has changed, waiting for it for a while.
func (h handlers) await(ctx context.Context, f Feed, wait time.Duration) (p feedPage, err error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		changed := h.kept.Changed()
		if p.Changes, p.Next, err = h.kept.Changes(ctx, f); err != nil || len(p.Changes) > 0 || wait == 0 {
			break
		}
		select {
		case <-changed:
			f.After = p.Next
			continue
		case <-over.C:
		case <-ctx.Done():
		}
		break
	}
	if p.Changes == nil {
		p.Changes = []Change{}
	}
	return p, err
}

// follow writes a line for each change until the caller is gone.
func (h handlers) follow(c huma.Context, f Feed) {
	_, w := humago.Unwrap(c)
	w.Header().Set("Content-Type", ndjson)
	w.Header().Set("Cache-Control", "no-store")
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	for {
		changed := h.kept.Changed()
		all, next, err := h.kept.Changes(c.Context(), f)
		if err != nil {
			return
		}
		for _, change := range all {
			if err := lines.Encode(change); err != nil {
				return
			}
		}
		if err := flush.Flush(); err != nil {
			return
		}
		f.After = next
		if len(all) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-c.Context().Done():
			return
		}
	}
}

type externalsOutput struct {
	Body struct {
		Databases []string `json:"databases"`
	}
}

func (h handlers) externals(context.Context, *struct{}) (*externalsOutput, error) {
	out := &externalsOutput{}
	out.Body.Databases = []string{}
	for name := range h.external {
		out.Body.Databases = append(out.Body.Databases, name)
	}
	slices.Sort(out.Body.Databases)
	return out, nil
}

type externalInput struct {
	Database string `path:"database" maxLength:"64"`
	Body     struct {
		SQL        string            `json:"sql" minLength:"1" maxLength:"65536" doc:"one statement"`
		Parameters []json.RawMessage `json:"parameters,omitempty" maxItems:"100"`
	}
}

type externalOutput struct{ Body Result }

func (h handlers) externalQuery(ctx context.Context, in *externalInput) (*externalOutput, error) {
	d := h.external[in.Database]
	if d == nil {
		return nil, problem.Of(http.StatusNotFound, fmt.Sprintf("database: none is configured as %.64q", in.Database))
	}
	result, err := d.Query(ctx, in.Body.SQL, in.Body.Parameters)
	switch {
	case errors.Is(err, ErrSlow):
		return nil, problem.New(http.StatusGatewayTimeout, "database-slow", ErrSlow.Error())
	case errors.Is(err, ErrUpstream):
		return nil, problem.New(http.StatusBadGateway, "database-failed", err.Error())
	case err != nil:
		return nil, refusal(err)
	}
	return &externalOutput{result}, nil
}

// refusal turns the store's sentinels into problems.
func refusal(err error) error {
	f, isField := errors.AsType[*FieldError](err)
	switch {
	case err == nil:
		return nil
	case isField:
		return problem.Of(http.StatusUnprocessableEntity, f.Error())
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoCollection):
		return problem.Of(http.StatusNotFound, err.Error())
	case errors.Is(err, ErrChanged):
		return problem.Of(http.StatusPreconditionFailed, err.Error())
	case errors.Is(err, ErrTaken):
		return problem.New(http.StatusConflict, "taken", err.Error())
	case errors.Is(err, ErrGone):
		return problem.Of(http.StatusGone, "after: "+err.Error())
	case errors.Is(err, ErrSlow):
		return problem.New(http.StatusServiceUnavailable, "too-slow", ErrSlow.Error()+"; an index helps")
	case errors.Is(err, store.ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; deleting documents makes room")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error()+"; deleting documents makes room")
	}
	return problem.Of(http.StatusInternalServerError, "the store failed: "+err.Error())
}
