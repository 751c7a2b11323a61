package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The scopes of this API.
const (
	ScopeRead  auth.Scope = "kv:read"
	ScopeWrite auth.Scope = "kv:write"
)

// Register puts the store's operations on an API's place.
func Register(m *mount.Mount, s *Store) {
	m.Report(s)
	h := handlers{kept: s}
	const path, bytes = "/api/kv/{key}", "application/octet-stream"
	value := func() map[string]*huma.MediaType {
		return map[string]*huma.MediaType{bytes: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	}
	operation := func(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Tags: []string{"kv"}, Summary: summary, Security: auth.Needs(scope),
			Errors: append(refusals, http.StatusBadRequest, http.StatusUnprocessableEntity),
		}
	}
	list := operation(ScopeRead, "kv-list", http.MethodGet, "/api/kv", "List keys in order")
	// A misspelt parameter would page for ever.
	list.RejectUnknownQueryParameters = true
	huma.Register(m.API, list, h.list)

	get := operation(ScopeRead, "kv-get", http.MethodGet, path, "Read one value", http.StatusNotFound, http.StatusPreconditionFailed)
	get.Responses = map[string]*huma.Response{
		"200": {Description: "The value", Content: value()},
		"304": {Description: "The caller has this version"},
	}
	huma.Register(m.API, get, h.get)

	put := operation(ScopeWrite, "kv-put", http.MethodPut, path, "Write one value",
		http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
	put.DefaultStatus = http.StatusNoContent
	put.RequestBody = &huma.RequestBody{
		Description: fmt.Sprintf("the value, at most %d bytes as they are", MaxValueBytes), Content: value(),
	}
	huma.Register(m.API, put, h.put)

	remove := operation(ScopeWrite, "kv-delete", http.MethodDelete, path, "Remove one key",
		http.StatusNotFound, http.StatusPreconditionFailed, http.StatusInsufficientStorage)
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, remove, h.delete)
}

type handlers struct{ kept *Store }

// keyInput is a request that concerns one key.
type keyInput struct {
	Key         string `path:"key" minLength:"1" maxLength:"512" doc:"the key: UTF-8, at most 512 bytes"`
	IfMatch     string `header:"If-Match" minLength:"1" doc:"only if the key has one of these versions; *: only if there is one"`
	IfNoneMatch string `header:"If-None-Match" minLength:"1" doc:"only if the key has none of these versions; *: only if there is none"`

	header map[string][]string
	body   io.Reader
}

// Resolve keeps what the framework has no field for: every line of a header,
// and a body that is bounded exactly.
func (in *keyInput) Resolve(ctx huma.Context) []error {
	in.body = ctx.BodyReader()
	in.header = map[string][]string{}
	ctx.EachHeader(func(name, value string) { in.header[name] = append(in.header[name], value) })
	return nil
}

// conditions checks the key and reads the two conditional headers.
func (in *keyInput) conditions() (match, noneMatch Condition, err error) {
	if err := checkText("key", in.Key); err != nil {
		return nil, nil, err
	}
	if match, err = in.condition("If-Match", func(t tags, current int64) bool { return t.matches(current, true) }); err != nil {
		return nil, nil, err
	}
	noneMatch, err = in.condition("If-None-Match", func(t tags, current int64) bool { return !t.matches(current, false) })
	return match, noneMatch, err
}

func (in *keyInput) condition(name string, holds func(tags, int64) bool) (Condition, error) {
	lines := in.header[name]
	if lines == nil {
		return nil, nil
	}
	t, err := parseTags(strings.Join(lines, ","))
	if err != nil {
		return nil, problem.Of(http.StatusBadRequest, name+": "+err.Error())
	}
	return func(current int64) bool { return holds(t, current) }, nil
}

// checkText bounds a key, or a part of one, that came in the named parameter.
func checkText(name, s string) error {
	if !utf8.ValidString(s) {
		return problem.Of(http.StatusBadRequest, name+" is not UTF-8")
	}
	if len(s) > MaxKeyBytes {
		return problem.New(http.StatusUnprocessableEntity, "too-long", fmt.Sprintf("%s has %d bytes, at most %d", name, len(s), MaxKeyBytes))
	}
	return nil
}

type getOutput struct {
	Status       int
	ContentType  string    `header:"Content-Type"`
	ETag         string    `header:"ETag"`
	LastModified time.Time `header:"Last-Modified"`
	Body         []byte
}

func (h handlers) get(ctx context.Context, in *keyInput) (*getOutput, error) {
	match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	e, err := h.kept.Get(ctx, in.Key)
	if err == nil && !match.holds(e.Version) {
		err = ErrChanged
	}
	if err != nil {
		return nil, refusal(err)
	}
	out := &getOutput{
		Status: http.StatusOK, ContentType: "application/octet-stream", ETag: etag(e.Version), LastModified: e.UpdatedAt,
		Body: e.Value,
	}
	if !noneMatch.holds(e.Version) {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out, nil
}

type putOutput struct {
	ETag string `header:"ETag"`
}

func (h handlers) put(ctx context.Context, in *keyInput) (*putOutput, error) {
	match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	value, err := io.ReadAll(io.LimitReader(in.body, MaxValueBytes+1))
	if err != nil {
		return nil, problem.Of(http.StatusBadRequest, "the value did not arrive whole")
	}
	if len(value) > MaxValueBytes {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the value has more than %d bytes", MaxValueBytes))
	}
	version, err := h.kept.Put(ctx, in.Key, value, both(match, noneMatch))
	if err != nil {
		return nil, refusal(err)
	}
	return &putOutput{ETag: etag(version)}, nil
}

func (h handlers) delete(ctx context.Context, in *keyInput) (*struct{}, error) {
	match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Delete(ctx, in.Key, both(match, noneMatch)))
}

func both(a, b Condition) Condition {
	return func(current int64) bool { return a.holds(current) && b.holds(current) }
}

type listInput struct {
	Prefix string `query:"prefix" maxLength:"512" doc:"only keys that begin with it"`
	After  string `query:"after" maxLength:"512" doc:"only keys that come after it, in the order of their bytes"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`

	query string
}

// Resolve keeps the query as it came.
func (in *listInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.query = address.RawQuery
	return nil
}

type listedKey struct {
	Key       string    `json:"key"`
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
}

type listOutput struct {
	Body struct {
		Keys []listedKey `json:"keys"`
		Next string      `json:"next,omitempty" doc:"the value of after for the next page; there is none on the last"`
	}
}

func (h handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	// The framework reads a parameter with a broken escape as an empty one, and
	// an empty after begins from the front.
	if _, err := url.ParseQuery(in.query); err != nil {
		return nil, problem.Of(http.StatusBadRequest, "query: "+err.Error())
	}
	if err := errors.Join(checkText("prefix", in.Prefix), checkText("after", in.After)); err != nil {
		return nil, err
	}
	entries, more, err := h.kept.List(ctx, in.Prefix, in.After, in.Limit)
	if err != nil {
		return nil, refusal(err)
	}
	out := &listOutput{}
	out.Body.Keys = make([]listedKey, 0, len(entries))
	for _, e := range entries {
		out.Body.Keys = append(out.Body.Keys, listedKey{Key: e.Key, Version: e.Version, UpdatedAt: e.UpdatedAt})
	}
	if more {
		out.Body.Next = entries[len(entries)-1].Key
	}
	return out, nil
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// refusal turns the store's sentinels into problems.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return problem.Of(http.StatusNotFound, "no such key")
	case errors.Is(err, ErrChanged):
		return problem.Of(http.StatusPreconditionFailed, "the value is not of the version that the request wants")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error()+"; deleting keys makes room")
	default:
		return problem.Of(http.StatusInternalServerError, "the store failed: "+err.Error())
	}
}
