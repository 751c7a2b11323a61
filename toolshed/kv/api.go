package kv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Register puts the store's operations on an API.
func Register(api huma.API, s *Store) {
	h := handlers{store: s}
	const tag = "kv"
	huma.Register(api, huma.Operation{
		OperationID: "kv-list", Method: http.MethodGet, Path: "/api/kv", Tags: []string{tag},
		Summary: "List keys in order",
	}, h.list)
	huma.Register(api, huma.Operation{
		OperationID: "kv-get", Method: http.MethodGet, Path: "/api/kv/{key}", Tags: []string{tag},
		Summary: "Read one value",
	}, h.get)
	body := &huma.RequestBody{}
	huma.Register(api, huma.Operation{
		OperationID: "kv-put", Method: http.MethodPut, Path: "/api/kv/{key}", Tags: []string{tag},
		Summary: "Write one value", MaxBodyBytes: MaxValueBytes, DefaultStatus: http.StatusNoContent,
		RequestBody: body,
	}, h.put)
	// An empty value is a value; Register has no way to say so.
	body.Required = false
	huma.Register(api, huma.Operation{
		OperationID: "kv-delete", Method: http.MethodDelete, Path: "/api/kv/{key}", Tags: []string{tag},
		Summary: "Remove one key", DefaultStatus: http.StatusNoContent,
	}, h.delete)
}

type handlers struct{ store *Store }

type keyInput struct {
	Key string `path:"key" minLength:"1" maxLength:"512" doc:"the key, any text of at most 512 bytes"`
}

type getOutput struct {
	ContentType  string    `header:"Content-Type"`
	ETag         string    `header:"ETag"`
	LastModified time.Time `header:"Last-Modified"`
	Body         []byte
}

func (h handlers) get(ctx context.Context, in *keyInput) (*getOutput, error) {
	e, err := h.store.Get(ctx, in.Key)
	if err != nil {
		return nil, status(err)
	}
	return &getOutput{
		ContentType: "application/octet-stream", ETag: etag(e.Version), LastModified: e.UpdatedAt, Body: e.Value,
	}, nil
}

type putInput struct {
	Key         string `path:"key" minLength:"1" maxLength:"512"`
	IfMatch     string `header:"If-Match" doc:"write only over this version"`
	IfNoneMatch string `header:"If-None-Match" doc:"*: write only where the key is missing"`
	RawBody     []byte `contentType:"application/octet-stream"`
}

type putOutput struct {
	ETag string `header:"ETag"`
}

func (h handlers) put(ctx context.Context, in *putInput) (*putOutput, error) {
	if len(in.Key) > MaxKeyBytes {
		return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("key has %d bytes, at most %d", len(in.Key), MaxKeyBytes))
	}
	expected, err := expectation(in.IfMatch, in.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	version, err := h.store.Put(ctx, in.Key, in.RawBody, expected)
	if err != nil {
		return nil, status(err)
	}
	return &putOutput{ETag: etag(version)}, nil
}

// expectation reads the two conditional headers (RFC 9110, section 13.1).
func expectation(ifMatch, ifNoneMatch string) (int64, error) {
	switch {
	case ifMatch == "" && ifNoneMatch == "":
		return AnyVersion, nil
	case ifMatch == "" && ifNoneMatch == "*":
		return 0, nil
	case ifNoneMatch == "":
		version, err := strconv.ParseInt(strings.Trim(ifMatch, `"`), 10, 64)
		if err == nil && version > 0 {
			return version, nil
		}
	}
	return 0, huma.Error400BadRequest(`want If-Match with one entity tag of this key, or If-None-Match: *`)
}

func (h handlers) delete(ctx context.Context, in *keyInput) (*struct{}, error) {
	return nil, status(h.store.Delete(ctx, in.Key))
}

type listInput struct {
	Prefix string `query:"prefix" maxLength:"512" doc:"only keys that begin with it"`
	After  string `query:"after" maxLength:"512" doc:"only keys that come after it"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type listedKey struct {
	Key       string    `json:"key"`
	Version   int64     `json:"version"`
	UpdatedAt time.Time `json:"updated_at"`
}

type listOutput struct {
	Body struct {
		Keys []listedKey `json:"keys"`
		Next string      `json:"next,omitempty" doc:"the value of after for the next page"`
	}
}

func (h handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	entries, err := h.store.List(ctx, in.Prefix, in.After, in.Limit)
	if err != nil {
		return nil, status(err)
	}
	out := &listOutput{}
	out.Body.Keys = make([]listedKey, 0, len(entries))
	for _, e := range entries {
		out.Body.Keys = append(out.Body.Keys, listedKey{Key: e.Key, Version: e.Version, UpdatedAt: e.UpdatedAt})
	}
	if len(entries) == in.Limit {
		out.Body.Next = entries[len(entries)-1].Key
	}
	return out, nil
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// status turns the store's sentinels into problem documents. What else went
// wrong is the server's own affair.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return huma.Error404NotFound("no such key")
	case errors.Is(err, ErrChanged):
		return huma.Error412PreconditionFailed("the value has changed since")
	default:
		return huma.Error500InternalServerError("the store failed", err)
	}
}
