package kv

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed pages.html
var pagesText string

var (
	entriesPage = page.New("Keys and values", "", pagesText+`{{template "entries" .}}`)
	editPage    = page.New("Entry", "", pagesText+`{{template "edit" .}}`)
)

const (
	pageSize = 50
	// previewBytes is how much of a value the list shows.
	previewBytes = 120
	mediaForm    = "application/x-www-form-urlencoded"
	// maxFormBytes leaves room for the escapes of a form.
	maxFormBytes = 3*MaxValueBytes + 64<<10
)

// registerPages puts the pages for people on the API's place.
func (h handlers) registerPages(m *mount.Mount) {
	m.Page("/kv/edit", ScopeRead, http.HandlerFunc(h.editEntry))
	m.Page("/kv", ScopeRead, http.HandlerFunc(h.showEntries))
	form := mount.Route{Scope: ScopeWrite, Accepts: []string{mediaForm}, BodyBytes: maxFormBytes}
	m.Handle("POST /kv/save", form, http.HandlerFunc(h.saveEntry))
	m.Handle("POST /kv/remove", form, http.HandlerFunc(h.removeEntry))
}

type shownEntry struct {
	Path, Kind, Preview, Updated, Expires string
}

type shownEntries struct {
	Alert, Prefix string
	Entries       []shownEntry
	// Next is the address of the next page.
	Next string
}

func (h handlers) showEntries(w http.ResponseWriter, r *http.Request) {
	in := listInput{Prefix: strings.Trim(r.FormValue("prefix"), "/"), Cursor: r.FormValue("cursor"), Limit: pageSize}
	data, status := shownEntries{Prefix: in.Prefix}, http.StatusOK
	entries, more, err := h.pageOf(r, in)
	if err != nil {
		status, data.Alert = told(err)
	}
	for _, e := range entries {
		shown, err := showEntry(e)
		if err != nil {
			status, data.Alert = told(refusal(err))
			break
		}
		data.Entries = append(data.Entries, shown)
	}
	if more {
		cursor := base64.RawURLEncoding.EncodeToString(entries[len(entries)-1].Key)
		data.Next = "/kv?" + url.Values{"prefix": {in.Prefix}, "cursor": {cursor}}.Encode()
	}
	write(w, entriesPage, status, data)
}

func (h handlers) pageOf(r *http.Request, in listInput) ([]Entry, bool, error) {
	within, err := in.toRange()
	if err != nil {
		return nil, false, err
	}
	entries, more, err := h.kept.ReadSome(r.Context(), within)
	return entries, more, refusal(err)
}

func showEntry(e Entry) (shown shownEntry, err error) {
	j, err := entryJSON(e, false)
	if err != nil {
		return shown, err
	}
	kind, text := editable(e.Value)
	if len(text) > previewBytes {
		text = strings.ToValidUTF8(text[:previewBytes], "") + "…"
	}
	shown = shownEntry{Path: j.Path, Kind: kindLabels[kind], Preview: text, Updated: forPeople(e.UpdatedAt)}
	if !e.ExpiresAt.IsZero() {
		shown.Expires = forPeople(e.ExpiresAt)
	}
	return shown, nil
}

func forPeople(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// The kinds of values in a form.
const (
	kindJSON   = "json"
	kindText   = "text"
	kindU64    = "u64"
	kindBase64 = "base64"
	kindV8     = "v8"
)

type valueKind struct{ Name, Label string }

var valueKinds = []valueKind{
	{kindText, "text, kept as bytes"}, {kindJSON, "JSON"}, {kindU64, "a counter"}, {kindBase64, "bytes, in base64"}, {kindV8, "a JavaScript value in V8's form, in base64"},
}

var kindLabels = func() map[string]string {
	all := map[string]string{}
	for _, k := range valueKinds {
		all[k.Name] = strings.TrimSuffix(k.Label, ", kept as bytes")
	}
	return all
}()

// editable is a value as a form has it.
func editable(v Value) (kind, text string) {
	contentType, body := shown(v, false)
	switch {
	case v.Encoding == U64:
		return kindU64, string(body)
	case contentType == mediaJSON:
		return kindJSON, string(body)
	case v.Encoding == V8:
		return kindV8, base64.StdEncoding.EncodeToString(body)
	case utf8.Valid(body) && !strings.ContainsRune(string(body), 0):
		return kindText, string(body)
	}
	return kindBase64, base64.StdEncoding.EncodeToString(body)
}

// edited reads a form's value.
func edited(kind, text string) (Value, error) {
	switch kind {
	case kindText:
		return BytesValue([]byte(strings.ReplaceAll(text, "\r\n", "\n"))), nil
	case kindJSON:
		return JSONValue([]byte(text))
	case kindU64:
		return received([]byte(strings.TrimSpace(text)), "", "u64")
	case kindBase64, kindV8:
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return Value{}, errors.New("the value is not base64")
		}
		if kind == kindV8 {
			return Value{Encoding: V8, Data: b}, nil
		}
		return BytesValue(b), nil
	}
	return Value{}, errors.New("the value is of no known kind")
}

type shownEdit struct {
	Alert, Path, Kind, Value, ExpireIn, Versionstamp, Expires string
	Kinds                                                     []valueKind
}

func (h handlers) editEntry(w http.ResponseWriter, r *http.Request) {
	data, status := shownEdit{Path: r.FormValue("key"), Kind: kindText, Kinds: valueKinds}, http.StatusOK
	if data.Path != "" {
		encoded, err := encodedKey("key", data.Path)
		var e Entry
		if err == nil {
			e, err = h.kept.Get(r.Context(), encoded)
			err = refusal(err)
		}
		if err != nil {
			status, data.Alert = told(err)
		} else {
			data.Kind, data.Value = editable(e.Value)
			data.Versionstamp = Versionstamp(e.Version)
			if !e.ExpiresAt.IsZero() {
				data.Expires = forPeople(e.ExpiresAt)
			}
		}
	}
	write(w, editPage, status, data)
}

// unchanged is the condition that an entry is as the form showed it.
func unchanged(versionstamp string) (Condition, error) {
	version, err := ParseVersionstamp(versionstamp)
	if err != nil {
		return nil, problem.Of(http.StatusBadRequest, "versionstamp: "+err.Error())
	}
	return func(current int64) bool { return current == version }, nil
}

func (h handlers) saveEntry(w http.ResponseWriter, r *http.Request) {
	data := shownEdit{
		Path: r.PostFormValue("key"), Kind: r.PostFormValue("kind"), Value: r.PostFormValue("value"),
		ExpireIn: r.PostFormValue("expire_in"), Versionstamp: r.PostFormValue("versionstamp"), Kinds: valueKinds,
	}
	err := h.save(r, data)
	if err != nil {
		status := 0
		status, data.Alert = told(err)
		write(w, editPage, status, data)
		return
	}
	http.Redirect(w, r, "/kv/edit?"+url.Values{"key": {data.Path}}.Encode(), http.StatusSeeOther)
}

func (h handlers) save(r *http.Request, data shownEdit) error {
	encoded, err := encodedKey("key", data.Path)
	if err != nil {
		return err
	}
	m := Mutation{Key: encoded}
	if m.Value, err = edited(data.Kind, data.Value); err != nil {
		return problem.Of(http.StatusUnprocessableEntity, err.Error())
	}
	if m.ExpiresAt, err = h.expiry("keep for", data.ExpireIn); err != nil {
		return err
	}
	when, err := unchanged(data.Versionstamp)
	if err != nil {
		return err
	}
	_, err = h.kept.Put(r.Context(), m, when)
	return refusal(err)
}

func (h handlers) removeEntry(w http.ResponseWriter, r *http.Request) {
	encoded, err := encodedKey("key", r.PostFormValue("key"))
	var when Condition
	if err == nil {
		when, err = unchanged(r.PostFormValue("versionstamp"))
	}
	if err == nil {
		err = refusal(h.kept.Delete(r.Context(), encoded, when))
	}
	if err != nil {
		status, alert := told(err)
		write(w, entriesPage, status, shownEntries{Alert: alert})
		return
	}
	http.Redirect(w, r, "/kv", http.StatusSeeOther)
}

// told is what a person is told of a refusal.
func told(err error) (status int, text string) {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		if p.Status == http.StatusPreconditionFailed {
			return p.Status, "It was changed meanwhile, by another program or in another window; nothing was done."
		}
		return p.Status, p.Detail
	}
	return http.StatusInternalServerError, err.Error()
}

func write(w http.ResponseWriter, p *page.Page, status int, data any) {
	if err := p.Write(w, status, data); err != nil {
		problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
	}
}
