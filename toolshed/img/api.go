package img

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// The scopes of this API.
const (
	ScopeRead  auth.Scope = "img:read"
	ScopeWrite auth.Scope = "img:write"
)

// Limits is what this API takes: each image is held in memory.
var Limits = mount.Limits{BodyBytes: 64 << 10, InFlight: 8, Lasting: 4}

const path = "/api/ai/img"

// Register puts the gallery on an API's place.
func Register(m *mount.Mount, g *Gallery) {
	m.Report(g)
	h := handlers{gallery: g}
	h.registerPage(m)
	huma.Register(m.API, mount.Lasting(huma.Operation{
		OperationID: "img-make", Method: http.MethodPost, Path: path, Tags: []string{"img"}, Security: auth.Needs(ScopeWrite),
		Summary: "Have images made, and keep them", DefaultStatus: http.StatusCreated,
		Errors: []int{
			http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusInsufficientStorage,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		},
	}), h.make)
	huma.Register(m.API, huma.Operation{
		OperationID: "img-list", Method: http.MethodGet, Path: path, Tags: []string{"img"}, Security: auth.Needs(ScopeRead),
		Summary: "List the images, the latest first", RejectUnknownQueryParameters: true,
	}, h.list)
	get := huma.Operation{
		OperationID: "img-get", Method: http.MethodGet, Path: path + "/{hash}", Tags: []string{"img"}, Security: auth.Needs(ScopeRead),
		Summary: "Read an image", Errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}
	get.Responses = map[string]*huma.Response{"200": {Description: "The image", Content: map[string]*huma.MediaType{
		"image/*": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
	}}}
	huma.Register(m.API, get, h.get)
	huma.Register(m.API, huma.Operation{
		OperationID: "img-delete", Method: http.MethodDelete, Path: path + "/{hash}", Tags: []string{"img"}, Security: auth.Needs(ScopeWrite),
		Summary: "Delete an image for good", DefaultStatus: http.StatusNoContent, Errors: []int{http.StatusNotFound},
	}, h.delete)
}

type handlers struct{ gallery *Gallery }

type makeInput struct {
	Body struct {
		Model    string `json:"model" minLength:"1" maxLength:"256" doc:"PROVIDER/MODEL"`
		Prompt   string `json:"prompt" minLength:"1" maxLength:"32768"`
		Negative string `json:"negative_prompt,omitempty" maxLength:"32768" doc:"what is not to be seen"`
		Width    int    `json:"width,omitempty" minimum:"64" maximum:"4096" doc:"in pixels; 1024 where it is missing"`
		Height   int    `json:"height,omitempty" minimum:"64" maximum:"4096"`
		Count    int    `json:"count,omitempty" minimum:"1" maximum:"8" default:"1"`
		Seed     *int64 `json:"seed,omitempty" minimum:"0" doc:"the same seed makes the same image, where the provider can"`
	}
}

// shown is an image for a caller.
type shown struct {
	Hash      string    `json:"hash" doc:"the SHA-256 of its bytes"`
	URL       string    `json:"url" doc:"where it is read"`
	MediaType string    `json:"media_type"`
	Width     int       `json:"width"`
	Height    int       `json:"height"`
	Size      int64     `json:"size_bytes"`
	Model     string    `json:"model"`
	Prompt    string    `json:"prompt"`
	Seed      *int64    `json:"seed,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

func show(all []Image) []shown {
	out := make([]shown, 0, len(all))
	for _, i := range all {
		out = append(out, shown{
			Hash: i.Hash.String(), URL: path + "/" + i.Hash.String(), MediaType: i.MediaType, Width: i.Width, Height: i.Height,
			Size: i.Size, Model: i.Model, Prompt: i.Prompt, Seed: i.Seed, CreatedAt: i.CreatedAt,
		})
	}
	return out
}

type imagesOutput struct {
	Body struct {
		Images []shown `json:"images"`
	}
}

func (h handlers) make(ctx context.Context, in *makeInput) (*imagesOutput, error) {
	b := in.Body
	provider, model, ok := strings.Cut(b.Model, "/")
	if !ok {
		return nil, problem.Of(http.StatusUnprocessableEntity, "model: is not of the form PROVIDER/MODEL")
	}
	all, err := h.gallery.Make(ctx, provider, Request{
		Model: model, Prompt: b.Prompt, Negative: b.Negative, Width: cmp.Or(b.Width, defaultDim), Height: cmp.Or(b.Height, defaultDim),
		Count: cmp.Or(b.Count, 1), Seed: b.Seed,
	})
	if err != nil {
		return nil, refusal(err)
	}
	out := &imagesOutput{}
	out.Body.Images = show(all)
	return out, nil
}

type listInput struct {
	Before time.Time `query:"before" doc:"only those made before; created_at and hash of the last image, as before and after, lead to the next page"`
	After  string    `query:"after" minLength:"64" maxLength:"64" doc:"with before: of those made at that very time, only those after this hash too"`
	Limit  int       `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

func (h handlers) list(ctx context.Context, in *listInput) (*imagesOutput, error) {
	from := Page{Before: in.Before}
	if from.Before.IsZero() {
		from.Before = h.gallery.Now().Add(time.Hour)
	}
	if in.After != "" {
		hash, err := ParseHash(in.After)
		if err != nil || in.Before.IsZero() {
			return nil, problem.Of(http.StatusUnprocessableEntity, "after: want a hash, and before with it")
		}
		from.After = &hash
	}
	all, err := h.gallery.List(ctx, from, in.Limit)
	if err != nil {
		return nil, refusal(err)
	}
	out := &imagesOutput{}
	out.Body.Images = show(all)
	return out, nil
}

type hashInput struct {
	Hash string `path:"hash" minLength:"64" maxLength:"64"`
	// IfNoneMatch is of a caller who has it: an image never changes.
	IfNoneMatch string `header:"If-None-Match"`
}

type getOutput struct {
	Status       int
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control"`
	ETag         string `header:"ETag"`
	NoSniff      string `header:"X-Content-Type-Options"`
	Policy       string `header:"Content-Security-Policy"`
	Body         []byte
}

func (h handlers) get(ctx context.Context, in *hashInput) (*getOutput, error) {
	hash, err := ParseHash(in.Hash)
	if err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "hash: "+err.Error())
	}
	i, b, err := h.gallery.Get(ctx, hash)
	if err != nil {
		return nil, refusal(err)
	}
	out := &getOutput{
		Status: http.StatusOK, ContentType: i.MediaType, ETag: `"` + in.Hash + `"`, Body: b, NoSniff: "nosniff",
		CacheControl: "private, max-age=31536000, immutable", Policy: "default-src 'none'; sandbox",
	}
	if strings.Contains(in.IfNoneMatch, out.ETag) {
		out.Status, out.Body = http.StatusNotModified, nil
	}
	return out, nil
}

func (h handlers) delete(ctx context.Context, in *hashInput) (*struct{}, error) {
	hash, err := ParseHash(in.Hash)
	if err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "hash: "+err.Error())
	}
	return nil, refusal(h.gallery.Delete(ctx, hash))
}

// refusal says whose fault it is.
func refusal(err error) error {
	if err == nil {
		return nil
	}
	if p := upstream.Answer(err, "provider"); p != nil {
		return p
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return problem.Of(http.StatusNotFound, err.Error())
	case errors.Is(err, ErrNoModel):
		return problem.New(http.StatusNotFound, "no-model", "model: "+err.Error())
	case errors.Is(err, ErrQuota):
		return problem.New(http.StatusInsufficientStorage, "quota", err.Error()+"; deleting images makes room")
	case errors.Is(err, store.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "disk-full", err.Error())
	}
	return problem.Of(http.StatusInternalServerError, "the gallery failed: "+err.Error())
}
