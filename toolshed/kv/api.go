package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
	"github.com/toolshed-cloud/shed/toolshed/kv/key"
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
	h.registerKeys(m)
	h.registerMany(m)
	h.registerConnect(m)
	h.registerPages(m)
}

func operation(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Tags: []string{"kv"}, Summary: summary, Security: auth.Needs(scope),
		Errors: append(refusals, http.StatusBadRequest, http.StatusUnprocessableEntity), RejectUnknownQueryParameters: true,
	}
}

// keyPath is the address of a key. The mux wants the dots, which the document
// must not have.
const (
	keyPath  = "/api/kv/{key}"
	keyRoute = "/api/kv/{key...}"
)

// registerKeys registers what concerns one key.
func (h handlers) registerKeys(m *mount.Mount) {
	value := func() map[string]*huma.MediaType {
		return map[string]*huma.MediaType{mediaBytes: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	}
	get := operation(ScopeRead, "kv-get", http.MethodGet, keyRoute, "Read one value", http.StatusNotFound, http.StatusPreconditionFailed)
	get.Responses = map[string]*huma.Response{
		"200": {Description: "The value: bytes as they are, or application/json, or application/x-v8 where that is accepted or JSON cannot hold it", Content: value()},
		"304": {Description: "The caller has this version"},
	}
	huma.Register(m.API, get, h.get)

	put := operation(ScopeWrite, "kv-put", http.MethodPut, keyRoute, "Write one value",
		http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
	put.DefaultStatus = http.StatusNoContent
	put.RequestBody = &huma.RequestBody{
		Description: fmt.Sprintf("the value, at most %d bytes: application/json and application/x-v8 are what they say, anything else is bytes as they are", MaxValueBytes),
		Content:     value(),
	}
	huma.Register(m.API, put, h.put)

	remove := operation(ScopeWrite, "kv-delete", http.MethodDelete, keyRoute, "Remove one key",
		http.StatusNotFound, http.StatusPreconditionFailed, http.StatusInsufficientStorage)
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, remove, h.delete)

	paths := m.API.OpenAPI().Paths
	paths[keyPath] = paths[keyRoute]
	delete(paths, keyRoute)
}

type handlers struct{ kept *Store }

// KeyRequest is a request that concerns one key. The framework reads embedded
// fields of exported types alone.
type KeyRequest struct {
	Key         string `path:"key" doc:"the key: its parts between slashes; a string as it is, others as ~x:BASE64URL, ~i:INTEGER, ~n:NUMBER and ~b:true, and ~s:TEXT for a string that is empty or looks like one of these; at most 2048 bytes as it is kept"`
	IfMatch     string `header:"If-Match" minLength:"1" doc:"only if the key has one of these versions; *: only if there is one"`
	IfNoneMatch string `header:"If-None-Match" minLength:"1" doc:"only if the key has none of these versions; *: only if there is none"`

	path   string
	header map[string][]string
	body   io.Reader
}

// Resolve keeps what the framework has no field for: every line of a header,
// and a body that is bounded exactly.
func (in *KeyRequest) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.path = strings.TrimPrefix(address.EscapedPath(), "/api/kv/")
	in.body = ctx.BodyReader()
	in.header = map[string][]string{}
	ctx.EachHeader(func(name, value string) { in.header[name] = append(in.header[name], value) })
	return nil
}

// conditions checks the key and reads the two conditional headers.
func (in *KeyRequest) conditions() (encoded []byte, match, noneMatch Condition, err error) {
	if encoded, err = encodedKey("key", in.path); err != nil {
		return nil, nil, nil, err
	}
	if match, err = in.condition("If-Match", func(t tags, current int64) bool { return t.matches(current, true) }); err != nil {
		return nil, nil, nil, err
	}
	noneMatch, err = in.condition("If-None-Match", func(t tags, current int64) bool { return !t.matches(current, false) })
	return encoded, match, noneMatch, err
}

// encodedKey reads the key in the named parameter.
func encodedKey(name, path string) ([]byte, error) {
	k, err := key.ParseText(path)
	if err != nil {
		return nil, problem.Of(http.StatusBadRequest, name+": "+err.Error())
	}
	encoded, err := k.EncodePrefix()
	switch {
	case err != nil:
		return nil, problem.Of(http.StatusBadRequest, name+": "+err.Error())
	case len(encoded) > MaxKeyBytes:
		return nil, problem.New(http.StatusUnprocessableEntity, "too-long", fmt.Sprintf("%s takes %d bytes, at most %d", name, len(encoded), MaxKeyBytes))
	case len(encoded) == 0:
		return nil, problem.Of(http.StatusUnprocessableEntity, name+" has no parts")
	}
	return encoded, nil
}

func (in *KeyRequest) condition(name string, holds func(tags, int64) bool) (Condition, error) {
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

type getInput struct {
	KeyRequest
	Accept string `header:"Accept"`
}

type getOutput struct {
	Status       int
	ContentType  string    `header:"Content-Type"`
	Encoding     string    `header:"Shed-Kv-Encoding"`
	ExpiresAt    string    `header:"Shed-Kv-Expires"`
	Vary         string    `header:"Vary"`
	ETag         string    `header:"ETag"`
	LastModified time.Time `header:"Last-Modified"`
	Body         []byte
}

func (h handlers) get(ctx context.Context, in *getInput) (*getOutput, error) {
	encoded, match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	e, err := h.kept.Get(ctx, encoded)
	if err == nil && !match.holds(e.Version) {
		err = ErrChanged
	}
	if err != nil {
		return nil, refusal(err)
	}
	out := &getOutput{Status: http.StatusOK, Vary: "Accept", ETag: etag(e.Version), LastModified: e.UpdatedAt, Encoding: encodingName(e.Value)}
	if !e.ExpiresAt.IsZero() {
		out.ExpiresAt = e.ExpiresAt.Format(time.RFC3339Nano)
	}
	out.ContentType, out.Body = shown(e.Value, strings.Contains(in.Accept, jsvalue.MediaType))
	if !noneMatch.holds(e.Version) {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out, nil
}

type putInput struct {
	KeyRequest
	ContentType string `header:"Content-Type"`
	Encoding    string `header:"Shed-Kv-Encoding" enum:"v8,u64,bytes" doc:"u64: the body is decimal digits, and the value can be added to"`
	ExpireIn    string `query:"expire_in" doc:"how long the value is kept, as 90s or 24h; for ever where it is missing"`
}

type putOutput struct {
	ETag string `header:"ETag"`
}

func (h handlers) put(ctx context.Context, in *putInput) (*putOutput, error) {
	encoded, match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	m := Mutation{Key: encoded}
	if m.ExpiresAt, err = h.expiry("expire_in", in.ExpireIn); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(in.body, MaxValueBytes+1))
	if err != nil {
		return nil, problem.Of(http.StatusBadRequest, "the value did not arrive whole")
	}
	if len(body) > MaxValueBytes {
		return nil, problem.New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the value has more than %d bytes", MaxValueBytes))
	}
	if m.Value, err = received(body, in.ContentType, in.Encoding); err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "body: "+err.Error())
	}
	version, err := h.kept.Put(ctx, m, both(match, noneMatch))
	if err != nil {
		return nil, refusal(err)
	}
	return &putOutput{ETag: etag(version)}, nil
}

// expiry reads how long something is kept, in the named parameter.
func (h handlers) expiry(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Millisecond {
		return time.Time{}, problem.Of(http.StatusUnprocessableEntity, name+": want a duration of a millisecond or more, as 90s or 24h")
	}
	return h.kept.now().Add(d), nil
}

func (h handlers) delete(ctx context.Context, in *KeyRequest) (*struct{}, error) {
	encoded, match, noneMatch, err := in.conditions()
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Delete(ctx, encoded, both(match, noneMatch)))
}

func both(a, b Condition) Condition {
	if a == nil && b == nil {
		return nil
	}
	return func(current int64) bool { return a.holds(current) && b.holds(current) }
}

func etag(version int64) string { return strconv.Quote(Versionstamp(version)) }

// refusal turns the store's sentinels into problems.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return problem.Of(http.StatusNotFound, "no such key")
	case errors.Is(err, ErrChanged):
		return problem.Of(http.StatusPreconditionFailed, "the value is not of the version that the request wants")
	case errors.Is(err, ErrTooLarge):
		return problem.New(http.StatusRequestEntityTooLarge, "too-large", err.Error())
	case errors.Is(err, ErrInvalid):
		return problem.Of(http.StatusUnprocessableEntity, err.Error())
	case errors.Is(err, store.ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; deleting keys makes room")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error()+"; deleting keys makes room")
	default:
		return problem.Of(http.StatusInternalServerError, "the store failed: "+err.Error())
	}
}
