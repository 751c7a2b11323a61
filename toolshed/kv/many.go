package kv

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/stream"
)

// registerMany registers what concerns many keys.
func (h handlers) registerMany(m *mount.Mount) {
	huma.Register(m.API, operation(ScopeRead, "kv-list", http.MethodGet, "/api/kv", "List entries in the order of their keys, or read several keys",
		http.StatusRequestEntityTooLarge), h.list)
	atomic := operation(ScopeWrite, "kv-atomic", http.MethodPost, "/api/kv", "Check and change several keys, all or nothing",
		http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
	// Bytes are longer in base64.
	atomic.MaxBodyBytes = 2 * MaxWriteBytes
	huma.Register(m.API, atomic, h.atomic)
	watch := mount.Lasting(operation(ScopeRead, "kv-watch", http.MethodGet, "/api/kv:watch", "Watch keys: an object a line, or a server-sent event, for each change"))
	watch.Responses = map[string]*huma.Response{"200": {
		Description: "what the keys hold, at first and whenever it changes",
		Content:     map[string]*huma.MediaType{stream.Lines: {}, stream.Events: {}},
	}}
	huma.Register(m.API, watch, h.watch)
}

type listInput struct {
	Prefix  string   `query:"prefix" doc:"only keys that begin with these parts and have more"`
	Start   string   `query:"start" doc:"only keys from this one on"`
	End     string   `query:"end" doc:"only keys before this one"`
	Key     []string `query:"key,explode" maxItems:"10" doc:"these keys instead of a range; null for one that is missing"`
	Cursor  string   `query:"cursor" maxLength:"3000" doc:"the cursor of the page before"`
	Limit   int      `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Reverse bool     `query:"reverse" doc:"the last keys first"`
	Values  bool     `query:"values" default:"true" doc:"false leaves the values out"`

	query string
}

// Resolve keeps the query as it came.
func (in *listInput) Resolve(ctx huma.Context) []error {
	address := ctx.URL()
	in.query = address.RawQuery
	return nil
}

// checkQuery refuses what the framework would read as something else: a
// parameter with a broken escape as an empty one, which begins from the front.
func checkQuery(query string) error {
	if _, err := url.ParseQuery(query); err != nil {
		return problem.Of(http.StatusBadRequest, "query: "+err.Error())
	}
	return nil
}

type listOutput struct {
	Body struct {
		Entries shownMany `json:"entries"`
		Cursor  string    `json:"cursor,omitempty" doc:"for the next page; there is none on the last"`
	}
}

// shownMany has nil for a key that there is not.
type shownMany []*EntryJSON

var _ huma.SchemaProvider = shownMany{}

// Schema says that an entry may be null, which the framework does not.
func (shownMany) Schema(r huma.Registry) *huma.Schema {
	one := r.Schema(reflect.TypeFor[EntryJSON](), true, "")
	return &huma.Schema{
		Type: huma.TypeArray, Description: "null stands for a key that was asked for and is missing",
		Items: &huma.Schema{AnyOf: []*huma.Schema{one, {Type: "null"}}},
	}
}

func (h handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	if err := checkQuery(in.query); err != nil {
		return nil, err
	}
	if len(in.Key) > 0 {
		return h.several(ctx, in)
	}
	r, err := in.toRange()
	if err != nil {
		return nil, err
	}
	entries, more, err := h.kept.ReadSome(ctx, r)
	if err != nil {
		return nil, refusal(err)
	}
	out := &listOutput{}
	out.Body.Entries = make(shownMany, 0, len(entries))
	for _, e := range entries {
		j, err := entryJSON(e, in.Values)
		if err != nil {
			return nil, refusal(err)
		}
		out.Body.Entries = append(out.Body.Entries, &j)
	}
	if more {
		out.Body.Cursor = base64.RawURLEncoding.EncodeToString(entries[len(entries)-1].Key)
	}
	return out, nil
}

// toRange is the keys that a page is of.
func (in *listInput) toRange() (Range, error) {
	r := Range{End: []byte{0xff}, Limit: in.Limit, Reverse: in.Reverse}
	if in.Prefix != "" {
		encoded, err := encodedKey("prefix", in.Prefix)
		if err != nil {
			return r, err
		}
		r.Start, r.End = key.Prefix(encoded)
	}
	if in.Start != "" {
		encoded, err := encodedKey("start", in.Start)
		if err != nil {
			return r, err
		}
		r.Start = later(r.Start, encoded)
	}
	if in.End != "" {
		encoded, err := encodedKey("end", in.End)
		if err != nil {
			return r, err
		}
		r.End = earlier(r.End, encoded)
	}
	if in.Cursor == "" {
		return r, nil
	}
	last, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	if err != nil {
		return r, problem.Of(http.StatusBadRequest, "cursor: it is none of a page's")
	}
	if in.Reverse {
		r.End = earlier(r.End, last)
	} else {
		r.Start = later(r.Start, key.After(last))
	}
	return r, nil
}

func later(a, b []byte) []byte {
	if string(a) > string(b) {
		return a
	}
	return b
}

func earlier(a, b []byte) []byte {
	if string(a) < string(b) {
		return a
	}
	return b
}

// several reads keys that are named, of one state.
func (h handlers) several(ctx context.Context, in *listInput) (*listOutput, error) {
	if in.Prefix+in.Start+in.End+in.Cursor != "" {
		return nil, problem.Of(http.StatusUnprocessableEntity, "key: want either keys or a range")
	}
	keys, err := encodedKeys(in.Key)
	if err != nil {
		return nil, err
	}
	entries, err := h.kept.many(ctx, keys)
	if err != nil {
		return nil, refusal(err)
	}
	out := &listOutput{}
	for _, e := range entries {
		if e == nil {
			out.Body.Entries = append(out.Body.Entries, nil)
			continue
		}
		j, err := entryJSON(*e, in.Values)
		if err != nil {
			return nil, refusal(err)
		}
		out.Body.Entries = append(out.Body.Entries, &j)
	}
	return out, nil
}

func encodedKeys(texts []string) (keys [][]byte, err error) {
	for _, text := range texts {
		encoded, err := encodedKey("key", text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, encoded)
	}
	return keys, nil
}

// many reads keys of one state; nil for a missing one.
func (s *Store) many(ctx context.Context, keys [][]byte) ([]*Entry, error) {
	ranges := make([]Range, len(keys))
	for i, k := range keys {
		ranges[i] = only(k)
	}
	found, err := s.Read(ctx, ranges...)
	if err != nil {
		return nil, err
	}
	entries := make([]*Entry, len(keys))
	for i := range found {
		if len(found[i]) > 0 {
			entries[i] = &found[i][0]
		}
	}
	return entries, nil
}

type atomicInput struct {
	Body struct {
		Checks []struct {
			Key          key.Key `json:"key"`
			Versionstamp *string `json:"versionstamp" nullable:"true" maxLength:"20" doc:"null: the key is missing"`
		} `json:"checks,omitempty" maxItems:"100" doc:"what must hold for anything to be done"`
		Mutations []mutationJSON `json:"mutations,omitempty" maxItems:"1000"`
		Enqueues  []enqueueJSON  `json:"enqueues,omitempty" maxItems:"1000" doc:"messages for the queue deno"`
	}
}

type mutationJSON struct {
	Type       Kind    `json:"type" enum:"set,delete,sum,min,max,append" doc:"append: set under the key with the versionstamp as one more part"`
	Key        key.Key `json:"key"`
	ExpireInMS int64   `json:"expire_in_ms,omitempty" minimum:"0" maximum:"315360000000000" doc:"0: for ever"`
	ValueJSON
}

type enqueueJSON struct {
	DelayMS     int64     `json:"delay_ms,omitempty" minimum:"0" maximum:"2592000000"`
	BackoffMS   []int64   `json:"backoff_ms,omitempty" maxItems:"10"`
	Undelivered []key.Key `json:"keys_if_undelivered,omitempty" maxItems:"10" doc:"these keys get the message once all retries have failed"`
	ValueJSON
}

type atomicOutput struct {
	Body struct {
		Versionstamp string `json:"versionstamp"`
	}
}

func (h handlers) atomic(ctx context.Context, in *atomicInput) (*atomicOutput, error) {
	w, err := h.parseWrite(in)
	if err != nil {
		return nil, refusal(err)
	}
	if err := mayEnqueue(ctx, w); err != nil {
		return nil, err
	}
	version, err := h.kept.Atomic(ctx, w)
	if failed, ok := errors.AsType[*FailedError](err); ok {
		return nil, problem.New(http.StatusPreconditionFailed, "check-failed", failedText(failed))
	}
	if err != nil {
		return nil, refusal(err)
	}
	out := &atomicOutput{}
	out.Body.Versionstamp = Versionstamp(version)
	return out, nil
}

// after is a time from now, in milliseconds; zero for none.
func (h handlers) after(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	// A Duration ends after 292 years, which ms does not.
	return time.UnixMilli(h.kept.now().UnixMilli() + ms)
}
