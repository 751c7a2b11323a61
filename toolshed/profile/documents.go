package profile

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/profile/jsonld"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// written answers with JSON of a media type.
func written(kind string, v any) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(c huma.Context) {
		c.SetHeader("Content-Type", kind)
		c.SetHeader("Cache-Control", "no-store")
		e := json.NewEncoder(c.BodyWriter())
		e.SetEscapeHTML(false)
		// A reader that is gone cannot be told.
		_ = e.Encode(v)
	}}
}

type entityInput struct {
	Accept string `header:"Accept" doc:"application/ld+json: as JSON-LD"`
	Entity string `query:"entity" required:"true" maxLength:"2048"`
	AsOf   string `query:"as_of" maxLength:"64" doc:"a time, or a day"`
}

func (h handlers) entity(ctx context.Context, in *entityInput) (*huma.StreamResponse, error) {
	all, err := h.triples(ctx, in.Entity, in.AsOf)
	if err != nil {
		return nil, refusal(err)
	}
	if strings.Contains(in.Accept, mediaLD) {
		return written(mediaLD, jsonld.Write(all)), nil
	}
	body := struct {
		Entity string      `json:"entity"`
		Facts  []shownFact `json:"facts"`
	}{Entity: in.Entity}
	for _, t := range all {
		body.Facts = append(body.Facts, showTriple(t))
	}
	return written(mediaJSON, body), nil
}

// triples are those of an entity, or all where it is empty.
func (h handlers) triples(ctx context.Context, entity, asOf string) ([]rdf.Triple, error) {
	at, err := timeAsked(asOf)
	if err != nil {
		return nil, err
	}
	if entity == "" {
		return h.kept.Everything(ctx, at)
	}
	return h.kept.Entity(ctx, rdf.NewIRI(entity), at)
}

type graphInput struct {
	AsOf string `query:"as_of" maxLength:"64" doc:"a time, or a day"`
}

func (h handlers) graph(ctx context.Context, in *graphInput) (*huma.StreamResponse, error) {
	all, err := h.triples(ctx, "", in.AsOf)
	if err != nil {
		return nil, refusal(err)
	}
	return written(mediaLD, jsonld.Write(all)), nil
}

type documentInput struct {
	Body struct {
		Entity  string          `json:"entity,omitempty" maxLength:"2048" doc:"everything where there is none"`
		AsOf    string          `json:"as_of,omitempty" maxLength:"64" doc:"a time, or a day"`
		Context json.RawMessage `json:"context,omitempty" doc:"a JSON-LD context to write it by"`
		Frame   json.RawMessage `json:"frame,omitempty" doc:"a JSON-LD frame instead"`
	}
}

// maxFramed bounds what is put into a shape, which takes more than writing it.
const maxFramed = 10_000

func (h handlers) document(ctx context.Context, in *documentInput) (*huma.StreamResponse, error) {
	if len(in.Body.Context) > 0 && len(in.Body.Frame) > 0 {
		return nil, problem.Of(http.StatusUnprocessableEntity, "frame: it has a context of its own, want one of the two")
	}
	all, err := h.triples(ctx, in.Body.Entity, in.Body.AsOf)
	if err == nil && len(all) > maxFramed {
		err = ErrLarge
	}
	if err != nil {
		return nil, refusal(err)
	}
	if len(in.Body.Frame) > 0 {
		frame, err := jsonld.Decode(in.Body.Frame)
		shape, ok := frame.(map[string]any)
		if err != nil || !ok {
			return nil, problem.Of(http.StatusUnprocessableEntity, "frame: want an object")
		}
		framed, err := jsonld.Frame(jsonld.Write(all), shape)
		if err != nil {
			return nil, refusal(err)
		}
		return written(mediaLD, framed), nil
	}
	var by any = map[string]any{}
	if len(in.Body.Context) > 0 {
		if by, err = contextOf(in.Body.Context); err != nil {
			return nil, refusal(err)
		}
	}
	compact, err := jsonld.Compact(jsonld.Write(all), by)
	if err != nil {
		return nil, refusal(err)
	}
	return written(mediaLD, compact), nil
}

// contextOf reads a context, which may be the address of a built-in one.
func contextOf(text json.RawMessage) (any, error) {
	var address string
	if json.Unmarshal(text, &address) == nil {
		return address, nil
	}
	return jsonld.Decode(text)
}

type sourcesOutput struct {
	Body struct {
		Sources []SourceInUse `json:"sources"`
	}
}

func (h handlers) sources(ctx context.Context, _ *struct{}) (*sourcesOutput, error) {
	all, err := h.kept.Sources(ctx)
	out := &sourcesOutput{}
	out.Body.Sources = append([]SourceInUse{}, all...)
	return out, refusal(err)
}

type schemaInput struct {
	AsOf string `query:"as_of" maxLength:"64" doc:"a time, or a day"`
}

type shownType struct {
	Type     string `json:"type"`
	Entities int64  `json:"entities"`
}

type shownPredicate struct {
	Predicate string           `json:"predicate"`
	Facts     int64            `json:"facts"`
	Subjects  int64            `json:"subjects"`
	Kinds     map[string]int64 `json:"kinds" doc:"how many objects have each datatype, or an iri"`
	Example   *shownFact       `json:"example,omitempty"`
	Hint      *Hint            `json:"hint,omitempty"`
}

type schemaOutput struct {
	Body struct {
		At         *time.Time       `json:"at,omitempty"`
		Types      []shownType      `json:"types" doc:"the most used first, at most 500"`
		Predicates []shownPredicate `json:"predicates" doc:"the most used first, at most 500, then those that only hints know"`
	}
}

func (h handlers) schema(ctx context.Context, in *schemaInput) (*schemaOutput, error) {
	at, err := timeAsked(in.AsOf)
	if err != nil {
		return nil, refusal(err)
	}
	types, predicates, err := h.kept.InUse(ctx, at)
	if err != nil {
		return nil, refusal(err)
	}
	out := &schemaOutput{}
	out.Body.Types, out.Body.Predicates = []shownType{}, []shownPredicate{}
	if !at.IsZero() {
		out.Body.At = &at
	}
	for _, t := range types {
		out.Body.Types = append(out.Body.Types, shownType(t))
	}
	for _, p := range predicates {
		shown := shownPredicate{Predicate: p.Predicate, Facts: p.Facts, Subjects: p.Subjects, Kinds: p.Kinds, Hint: p.Hint}
		if p.Facts > 0 {
			example := showTriple(p.Example)
			shown.Example = &example
		}
		out.Body.Predicates = append(out.Body.Predicates, shown)
	}
	return out, nil
}

type hintInput struct{ Body Hint }

func (h handlers) setHint(ctx context.Context, in *hintInput) (*struct{}, error) {
	return nil, refusal(h.kept.SetHint(ctx, in.Body))
}

type removeHintInput struct {
	Predicate string `query:"predicate" required:"true" maxLength:"2048"`
}

func (h handlers) removeHint(ctx context.Context, in *removeHintInput) (*struct{}, error) {
	return nil, refusal(h.kept.RemoveHint(ctx, in.Predicate))
}
