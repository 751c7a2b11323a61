package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The scopes of this API.
const (
	ScopeRead  auth.Scope = "blobs:read"
	ScopeWrite auth.Scope = "blobs:write"
)

// Limits is what this API takes.
var Limits = mount.Limits{BodyBytes: 2 << 20}

const (
	root        = "/api/blobs"
	uploadsRoot = root + "/uploads"
)

// Register puts blobs, uploads and sites on an API's place.
func Register(m *mount.Mount, s *Store) {
	m.Report(s)
	h := handlers{kept: s}
	operation := func(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation {
		return huma.Operation{
			OperationID: "blobs-" + id, Method: method, Path: path, Tags: []string{"blobs"}, Summary: summary,
			Security: auth.Needs(scope), Errors: append(refusals, http.StatusUnprocessableEntity),
		}
	}
	add := operation(ScopeWrite, "add", http.MethodPost, root, "Keep a file that is sent whole", http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage)
	add.DefaultStatus, add.MaxBodyBytes = http.StatusCreated, math.MaxInt64/2
	add.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	huma.Register(m.API, mount.Lasting(add), h.add)
	list := operation(ScopeRead, "list", http.MethodGet, root, "List blobs, the latest first")
	list.RejectUnknownQueryParameters = true
	huma.Register(m.API, list, h.list)
	huma.Register(m.API, mount.Lasting(operation(ScopeRead, "get", http.MethodGet, root+"/{hash}", "Read a blob, or ranges of it",
		http.StatusNotFound, http.StatusBadGateway)), h.get)
	huma.Register(m.API, operation(ScopeRead, "info", http.MethodGet, root+"/info/{hash}", "Say what is known of a blob", http.StatusNotFound), h.info)
	remove := operation(ScopeWrite, "delete", http.MethodDelete, root+"/{hash}", "Delete a blob", http.StatusNotFound, http.StatusConflict)
	remove.DefaultStatus = http.StatusNoContent
	huma.Register(m.API, remove, h.delete)
	huma.Register(m.API, operation(ScopeWrite, "sweep", http.MethodPost, root+"/sweep", "End what has expired and remove what belongs to nothing",
		http.StatusBadGateway), h.sweep)
	registerSites(m, h, operation)
	registerUploads(m, h)
	registerPage(m, h)
}

type handlers struct{ kept *Store }

// shownBlob is one for a caller.
type shownBlob struct {
	SHA256    string    `json:"sha256"`
	BLAKE3    string    `json:"blake3"`
	URL       string    `json:"url" doc:"where it is read"`
	Size      int64     `json:"size_bytes"`
	Stored    int64     `json:"stored_bytes" doc:"what it takes, compressed where that pays"`
	MediaType string    `json:"media_type"`
	Name      string    `json:"name,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func show(b Blob) shownBlob {
	return shownBlob{
		SHA256: b.SHA256.String(), BLAKE3: b.BLAKE3.String(), URL: root + "/" + b.SHA256.String(), Size: b.Size, Stored: b.Stored,
		MediaType: b.MediaType, Name: b.Name, CreatedAt: b.CreatedAt,
	}
}

type addInput struct {
	ContentType string `header:"Content-Type"`
	Name        string `query:"name" maxLength:"255" doc:"a file's name, for people"`

	body   io.Reader
	length int64
}

// Resolve leaves the body where it is: it may be larger than the memory.
func (in *addInput) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	in.body, in.length = r.Body, r.ContentLength
	return nil
}

type blobOutput struct {
	Location string `header:"Location"`
	Body     shownBlob
}

func (h handlers) add(ctx context.Context, in *addInput) (*blobOutput, error) {
	if in.length < 0 {
		return nil, problem.Of(http.StatusLengthRequired, "content-length: say how long the file is, or send it by tus")
	}
	kind, err := checkNames(in.ContentType, in.Name)
	if err != nil {
		return nil, err
	}
	b, err := h.kept.Add(ctx, in.body, in.length, kind, in.Name)
	if err != nil {
		return nil, refusal(err)
	}
	return &blobOutput{Location: show(b).URL, Body: show(b)}, nil
}

const unknownType = "application/octet-stream"

// checkNames answers the media type to keep.
func checkNames(mediaType, name string) (string, error) {
	if len(name) > MaxNameBytes || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\r\n/\\") {
		return "", problem.Of(http.StatusUnprocessableEntity, fmt.Sprintf("name: want UTF-8 of at most %d bytes, without slashes and line ends", MaxNameBytes))
	}
	if mediaType == "" {
		return unknownType, nil
	}
	kind, parameters, err := mime.ParseMediaType(mediaType)
	if err != nil || len(mediaType) > MaxNameBytes {
		return "", problem.Of(http.StatusUnprocessableEntity, "content-type: is no media type")
	}
	return mime.FormatMediaType(kind, parameters), nil
}

type listInput struct {
	After string `query:"after" maxLength:"100" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type listOutput struct {
	Body struct {
		Blobs []shownBlob `json:"blobs"`
		Next  string      `json:"next,omitempty" doc:"the value of after for the next page; there is none on the last"`
	}
}

func (h handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	var from Page
	if in.After != "" {
		at, sum, _ := strings.Cut(in.After, "_")
		var err, wrong error
		from.Before, err = time.Parse("20060102T150405.000Z", at)
		from.After, wrong = ParseHash(sum)
		if errors.Join(err, wrong) != nil {
			return nil, problem.Of(http.StatusUnprocessableEntity, "after: is not the next of a page")
		}
	}
	all, err := h.kept.List(ctx, from, in.Limit+1)
	if err != nil {
		return nil, refusal(err)
	}
	out := &listOutput{}
	out.Body.Blobs = []shownBlob{}
	for _, b := range all[:min(len(all), in.Limit)] {
		out.Body.Blobs = append(out.Body.Blobs, show(b))
		if len(all) > in.Limit {
			out.Body.Next = b.CreatedAt.Format("20060102T150405.000Z") + "_" + b.SHA256.String()
		}
	}
	return out, nil
}

type hashInput struct {
	Hash string `path:"hash" minLength:"64" maxLength:"71" doc:"the SHA-256 in hex, or blake3: and the BLAKE3"`
}

func (h handlers) find(ctx context.Context, text string) (Blob, error) {
	get := h.kept.Get
	if blake, ok := strings.CutPrefix(text, "blake3:"); ok {
		get, text = h.kept.GetBLAKE3, blake
	}
	sum, err := ParseHash(text)
	if err != nil {
		return Blob{}, problem.Of(http.StatusUnprocessableEntity, "hash: "+err.Error())
	}
	b, err := get(ctx, sum)
	return b, refusal(err)
}

func (h handlers) get(ctx context.Context, in *hashInput) (*huma.StreamResponse, error) {
	b, err := h.find(ctx, in.Hash)
	if err != nil {
		return nil, err
	}
	c, err := h.kept.Open(ctx, b)
	if err != nil {
		return nil, refusal(err)
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer c.Close()
		r, w := humago.Unwrap(ctx)
		header := w.Header()
		header.Set("Cache-Control", "private, max-age=31536000, immutable")
		// On this origin a page of the owner's files could act for them.
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox")
		if b.Name != "" {
			header.Set("Content-Disposition", "inline; filename*=UTF-8''"+url.PathEscape(b.Name))
		}
		header.Set("Content-Type", b.MediaType)
		serve(w, r, b, c)
	}}, nil
}

// serve answers with a content, or what of it is asked for.
func serve(w http.ResponseWriter, r *http.Request, b Blob, c io.ReadSeeker) {
	w.Header().Set("ETag", `"`+b.SHA256.String()+`"`)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, c)
}

func (h handlers) info(ctx context.Context, in *hashInput) (*blobOutput, error) {
	b, err := h.find(ctx, in.Hash)
	if err != nil {
		return nil, err
	}
	return &blobOutput{Location: show(b).URL, Body: show(b)}, nil
}

func (h handlers) delete(ctx context.Context, in *hashInput) (*struct{}, error) {
	b, err := h.find(ctx, in.Hash)
	if err != nil {
		return nil, err
	}
	return nil, refusal(h.kept.Delete(ctx, b.SHA256))
}

type sweepOutput struct {
	Body struct {
		Expired  int `json:"expired" doc:"uploads that were not gone on with"`
		Finished int `json:"finished" doc:"uploads that were whole and had not become blobs"`
		Files    int `json:"files" doc:"files that belonged to nothing"`
		Objects  int `json:"objects" doc:"objects of the backing store that were in doubt"`
	}
}

func (h handlers) sweep(ctx context.Context, _ *struct{}) (*sweepOutput, error) {
	done, err := h.kept.Sweep(ctx)
	if err != nil {
		return nil, refusal(err)
	}
	out := &sweepOutput{}
	out.Body.Expired, out.Body.Finished, out.Body.Files, out.Body.Objects = done.Expired, done.Finished, done.Files, done.Objects
	return out, nil
}

// refusal turns the store's sentinels into problems.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	return refused(err)
}

func refused(err error) *problem.Problem {
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p
	}
	site, isSite := errors.AsType[*SiteError](err)
	switch {
	case isSite:
		return problem.Of(http.StatusUnprocessableEntity, site.Error())
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrNoUpload), errors.Is(err, ErrNoSite):
		return problem.Of(http.StatusNotFound, err.Error())
	case errors.Is(err, ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; deleting blobs and ending uploads makes room")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error())
	case errors.Is(err, ErrUsed):
		return problem.New(http.StatusConflict, "used", ErrUsed.Error())
	case errors.Is(err, ErrOffset):
		return problem.New(http.StatusConflict, "offset", "upload-offset: "+ErrOffset.Error())
	case errors.Is(err, ErrBusy):
		return problem.Of(http.StatusLocked, ErrBusy.Error())
	case errors.Is(err, ErrChecksum):
		p := problem.New(460, "checksum-mismatch", "upload-checksum: "+ErrChecksum.Error())
		p.Title = "Checksum Mismatch"
		return p
	case errors.Is(err, ErrTooMuch):
		return problem.New(http.StatusRequestEntityTooLarge, "too-large", ErrTooMuch.Error())
	case errors.Is(err, ErrCut):
		return problem.Of(http.StatusBadRequest, ErrCut.Error())
	case errors.Is(err, ErrRemote):
		return problem.New(http.StatusBadGateway, "backing-store-failed", err.Error())
	case errors.Is(err, ErrLost):
		return problem.New(http.StatusInternalServerError, "lost", ErrLost.Error())
	}
	return problem.Of(http.StatusInternalServerError, "the blobs failed: "+err.Error())
}
