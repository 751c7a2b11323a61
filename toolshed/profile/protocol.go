package profile

import (
	"bufio"
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// The media types of the SPARQL 1.1 Protocol.
const (
	mediaQuery   = "application/sparql-query"
	mediaForm    = "application/x-www-form-urlencoded"
	mediaResults = "application/sparql-results+json"
	mediaCSV     = "text/csv"
)

func registerProtocol(m *mount.Mount, h handlers, op func(scope auth.Scope, id, method, path, summary string, refusals ...int) huma.Operation) {
	get := op(ScopeRead, "query", http.MethodGet, "/sparql", "Ask in SPARQL", 400)
	// Clients add parameters of their own.
	get.RejectUnknownQueryParameters = false
	huma.Register(m.API, get, h.ask)
	post := op(ScopeRead, "query-post", http.MethodPost, "/sparql", "Ask in SPARQL", 400, 415)
	post.RequestBody = bodyOf(mediaQuery, mediaForm)
	post.RejectUnknownQueryParameters = false
	huma.Register(m.API, post, h.askByBody)
}

// AskInput is exported for the framework, which fills no part that is not.
type AskInput struct {
	Accept  string   `header:"Accept" doc:"application/sparql-results+json, or text/csv"`
	AsOf    string   `query:"as_of" maxLength:"64" doc:"a time, or a day"`
	Default []string `query:"default-graph-uri" doc:"there are no named graphs"`
	Named   []string `query:"named-graph-uri" doc:"there are no named graphs"`
}

type askInput struct {
	AskInput
	Query string `query:"query" required:"true" maxLength:"32768"`
}

func (h handlers) ask(ctx context.Context, in *askInput) (*huma.StreamResponse, error) {
	return h.answer(ctx, in.AskInput, in.Query)
}

type askBodyInput struct {
	AskInput
	ContentType string `header:"Content-Type"`
	RawBody     []byte
}

func (h handlers) askByBody(ctx context.Context, in *askBodyInput) (*huma.StreamResponse, error) {
	kind, _, err := mime.ParseMediaType(in.ContentType)
	switch {
	case err == nil && kind == mediaQuery:
		return h.answer(ctx, in.AskInput, string(in.RawBody))
	case err != nil || kind != mediaForm:
		return nil, problem.Of(http.StatusUnsupportedMediaType, "content-type: want "+mediaQuery+" or "+mediaForm)
	}
	form, err := url.ParseQuery(string(in.RawBody))
	if err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "body: it is no form")
	}
	if form.Has("update") {
		return nil, problem.New(http.StatusBadRequest, "query-unsupported", "update: SPARQL Update is not supported")
	}
	in.Default, in.Named = append(in.Default, form["default-graph-uri"]...), append(in.Named, form["named-graph-uri"]...)
	if at := form.Get("as_of"); at != "" {
		in.AsOf = at
	}
	return h.answer(ctx, in.AskInput, form.Get("query"))
}

func (h handlers) answer(ctx context.Context, in AskInput, text string) (*huma.StreamResponse, error) {
	if len(in.Default)+len(in.Named) > 0 {
		return nil, problem.New(http.StatusBadRequest, "query-unsupported", "default-graph-uri, named-graph-uri: there are no named graphs")
	}
	at, err := timeAsked(in.AsOf)
	if err != nil {
		return nil, refusal(err)
	}
	q, err := sparql.Parse(text)
	if err != nil {
		return nil, refusal(err)
	}
	r, err := h.kept.Query(ctx, q, at)
	if err != nil {
		return nil, refusal(err)
	}
	if !r.Ask && strings.HasPrefix(in.Accept, mediaCSV) {
		return &huma.StreamResponse{Body: func(c huma.Context) {
			c.SetHeader("Content-Type", mediaCSV+"; charset=utf-8")
			c.SetHeader("Cache-Control", "no-store")
			// A reader that is gone cannot be told.
			_ = writeCSV(c.BodyWriter(), r)
		}}, nil
	}
	return written(mediaResults, results(r)), nil
}

// shownResults are SPARQL 1.1 Query Results JSON.
type shownResults struct {
	Head struct {
		Vars []string `json:"vars,omitzero"`
	} `json:"head"`
	Boolean *bool         `json:"boolean,omitempty"`
	Results *shownBinding `json:"results,omitempty"`
}

type shownBinding struct {
	Bindings []map[string]shownValue `json:"bindings"`
}

type shownValue struct {
	Type     string `json:"type"`
	Value    string `json:"value"`
	Language string `json:"xml:lang,omitempty"`
	Datatype string `json:"datatype,omitempty"`
}

func results(r *query.Result) (s shownResults) {
	if r.Ask {
		s.Boolean = &r.Holds
		return s
	}
	s.Head.Vars = append([]string{}, r.Names...)
	s.Results = &shownBinding{Bindings: make([]map[string]shownValue, 0, len(r.Rows))}
	for _, row := range r.Rows {
		one := map[string]shownValue{}
		for i, t := range row {
			switch {
			case t.Kind == rdf.IRI:
				one[r.Names[i]] = shownValue{Type: "uri", Value: t.Value}
			case t.Language != "":
				one[r.Names[i]] = shownValue{Type: "literal", Value: t.Value, Language: t.Language}
			case t.Datatype == rdf.String:
				one[r.Names[i]] = shownValue{Type: "literal", Value: t.Value}
			case t.Kind == rdf.Literal:
				one[r.Names[i]] = shownValue{Type: "literal", Value: t.Value, Datatype: t.Datatype}
			}
		}
		s.Results.Bindings = append(s.Results.Bindings, one)
	}
	return s
}

// writeCSV writes SPARQL 1.1 Query Results CSV. Package encoding/csv ends lines as
// that wants them only where it changes the ends of lines in values too.
func writeCSV(to io.Writer, r *query.Result) error {
	w := bufio.NewWriter(to)
	line := func(values []string) {
		for i, v := range values {
			if i > 0 {
				w.WriteByte(',') //nolint:errcheck // Flush answers it
			}
			if strings.ContainsAny(v, "\",\r\n") {
				v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
			}
			w.WriteString(v) //nolint:errcheck // Flush answers it
		}
		w.WriteString("\r\n") //nolint:errcheck // Flush answers it
	}
	line(r.Names)
	for _, row := range r.Rows {
		values := make([]string, len(row))
		for i, t := range row {
			values[i] = t.Value
		}
		line(values)
	}
	return w.Flush()
}
