package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of what a function fetches.
const (
	MaxFetchedBytes = 1 << 20
	maxFetchHeaders = 64
)

// Doer sends requests where they may go, and leads to what allow says of each
// address that it is redirected to.
type Doer interface {
	Do(r *http.Request, allow func(*url.URL) error) (*http.Response, error)
}

// host is what a function may ask.
type host struct {
	keys    keys
	fetcher Doer
	kv      bool
	allowed []string
}

var _ sandbox.Host = (*host)(nil)

// ask is a request of a function's, in JSON.
type ask struct {
	Op      string            `json:"op"`
	Key     string            `json:"key"`
	Value   json.RawMessage   `json:"value"`
	Version *int64            `json:"version"`
	Prefix  string            `json:"prefix"`
	After   string            `json:"after"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Base64  []byte            `json:"body_base64"`
}

// fault is an answer that something went wrong.
type fault struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func (f *fault) Error() string { return f.Detail }

func refused(code, format string, args ...any) error {
	return &fault{code, fmt.Sprintf(format, args...)}
}

// Exhausted is the answer to one call too many.
func (h *host) Exhausted() []byte {
	return encode(nil, refused("too-many-calls", "this call has asked the host as often as it may"))
}

// Answer is what the host says to a request.
func (h *host) Answer(ctx context.Context, request []byte) []byte {
	var a ask
	d := json.NewDecoder(bytes.NewReader(request))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil || d.More() {
		return encode(nil, refused("no-request", "the request is no JSON of a known form: %v", err))
	}
	return encode(h.answer(ctx, a))
}

func (h *host) answer(ctx context.Context, a ask) (any, error) {
	if strings.HasPrefix(a.Op, "kv.") {
		if !h.kv {
			return nil, refused("kv-off", "the function's settings do not let it use keys")
		}
		return h.ofKeys(ctx, a)
	}
	if a.Op == "fetch" {
		return h.fetch(ctx, a)
	}
	return nil, refused("unknown-op", "op: want kv.get, kv.set, kv.delete, kv.list or fetch")
}

func (h *host) ofKeys(ctx context.Context, a ask) (any, error) {
	if a.Op != "kv.list" && (a.Key == "" || len(a.Key) > maxKeyBytes) {
		return nil, refused("field", "key: want 1 to %d bytes", maxKeyBytes)
	}
	switch a.Op {
	case "kv.get":
		return h.keys.get(ctx, a.Key)
	case "kv.set":
		if len(a.Value) == 0 || len(a.Value) > maxValueBytes {
			return nil, refused("field", "value: want JSON of at most %d bytes", maxValueBytes)
		}
		version, err := h.keys.set(ctx, a.Key, a.Value, a.Version)
		return map[string]int64{"version": version}, err
	case "kv.delete":
		return struct{}{}, h.keys.remove(ctx, a.Key, a.Version)
	case "kv.list":
		found, err := h.keys.list(ctx, a.Prefix, a.After)
		return map[string][]string{"keys": found}, err
	}
	return nil, refused("unknown-op", "op: want kv.get, kv.set, kv.delete, kv.list or fetch")
}

type fetched struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Base64  []byte            `json:"body_base64,omitempty"`
}

func (h *host) fetch(ctx context.Context, a ask) (any, error) {
	r, err := h.request(ctx, a)
	if err != nil {
		return nil, err
	}
	resp, err := h.fetcher.Do(r, h.mayFetch)
	if err != nil {
		return nil, unfetched(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, unfetched(err)
	}
	f := fetched{Status: resp.StatusCode, Headers: map[string]string{}}
	for name, values := range resp.Header {
		f.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if utf8.Valid(body) {
		f.Body = string(body)
	} else {
		f.Base64 = body
	}
	return f, nil
}

func (h *host) request(ctx context.Context, a ask) (*http.Request, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, refused("field", "url: want an http or https address")
	}
	if err := h.mayFetch(u); err != nil {
		return nil, err
	}
	if a.Method == "" {
		a.Method = http.MethodGet
	}
	body := []byte(a.Body)
	if a.Base64 != nil {
		body = a.Base64
	}
	r, err := http.NewRequestWithContext(ctx, a.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, refused("field", "method: %v", err)
	}
	if len(a.Headers) > maxFetchHeaders {
		return nil, refused("field", "headers: want at most %d", maxFetchHeaders)
	}
	for name, value := range a.Headers {
		r.Header.Set(name, value)
	}
	return r, nil
}

// mayFetch judges a host by the settings: for the first address, and for each
// that it leads on to.
func (h *host) mayFetch(u *url.URL) error {
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	candidates := []string{name}
	if u.Port() != "" {
		candidates = []string{name, name + ":" + u.Port()}
	}
	if slices.ContainsFunc(h.allowed, func(allowed string) bool {
		if suffix, wild := strings.CutPrefix(allowed, "*"); wild {
			return slices.ContainsFunc(candidates, func(c string) bool { return strings.HasSuffix(c, suffix) })
		}
		return slices.Contains(candidates, allowed)
	}) {
		return nil
	}
	return refused("host-forbidden", "url: the function's settings do not let it fetch from %.100s", u.Host)
}

func unfetched(err error) error {
	var f *fault
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, fetch.ErrForbidden):
		return refused("address-forbidden", "url: the address is neither public nor allowed")
	case errors.Is(err, fetch.ErrTooLong):
		return refused("too-long", "the answer has more than %d bytes", MaxFetchedBytes)
	}
	return refused("unreachable", "fetching: %v", err)
}

// encode is an answer as the function reads it.
func encode(answer any, err error) []byte {
	var f *fault
	switch {
	case err == nil:
	case errors.As(err, &f):
	case errors.Is(err, errChanged):
		f = &fault{"changed", err.Error()}
	case errors.Is(err, errKeysFull):
		f = &fault{"keys-full", err.Error()}
	case errors.Is(err, store.ErrFull):
		f = &fault{"disk-full", store.ErrFull.Error()}
	default:
		f = &fault{"failed", err.Error()}
	}
	if f != nil {
		answer = map[string]*fault{"error": f}
	}
	b, err := json.Marshal(answer)
	if err != nil {
		return []byte(`{"error":{"code":"failed","detail":"the answer cannot be written"}}`)
	}
	return b
}
