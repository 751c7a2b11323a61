package url2text

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// ScopeRead is the scope of this API.
const ScopeRead auth.Scope = "url2text:read"

// Limits is what this API takes: each page is held in memory while it is read.
var Limits = mount.Limits{BodyBytes: 16 << 10, InFlight: 4}

// Register puts the reader on an API's place.
func Register(m *mount.Mount, r *Reader) {
	h := handlers{reader: r}
	h.registerPage(m)
	operation := func(id, method, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: "/api/ai/url2text", Tags: []string{"url2text"}, Summary: summary,
			Security: auth.Needs(ScopeRead), RejectUnknownQueryParameters: true,
			Errors: []int{
				http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusNotImplemented,
				http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
			},
		}
	}
	huma.Register(m.API, operation("url2text", http.MethodPost, "Read a page as clean Markdown, with what is known about it"), h.post)
	get := operation("url2text-get", http.MethodGet, "Read a page; with Accept: text/markdown or text/plain the content alone")
	get.Responses = map[string]*huma.Response{"200": {
		Description: "The page, or its content alone",
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: m.API.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Document](), true, "")},
			"text/markdown":    {Schema: &huma.Schema{Type: "string"}},
			"text/plain":       {Schema: &huma.Schema{Type: "string"}},
		},
	}}
	huma.Register(m.API, get, h.get)
}

type handlers struct{ reader *Reader }

// Request is what a caller may say; zero values are the defaults.
type Request struct {
	URL     string    `json:"url" query:"url" required:"true" minLength:"1" maxLength:"8192" doc:"the page's address, http or https"`
	Format  Format    `json:"format,omitempty" query:"format" enum:"markdown,text,html" default:"markdown"`
	Links   Treatment `json:"links,omitempty" query:"links" enum:"inline,listed,dropped" default:"inline" doc:"what becomes of links in the content"`
	Images  Treatment `json:"images,omitempty" query:"images" enum:"inline,listed,dropped" default:"dropped"`
	Whole   bool      `json:"whole,omitempty" query:"whole" doc:"all of the page instead of its article"`
	Browser bool      `json:"browser,omitempty" query:"browser" doc:"run the page's scripts in a browser first, where one is set up"`
}

type postInput struct{ Body Request }

type getInput struct {
	Request
	Accept string `header:"Accept"`
}

type output struct {
	Body *Document
}

func (h handlers) post(ctx context.Context, in *postInput) (*output, error) {
	doc, err := h.read(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	return &output{Body: doc}, nil
}

// getOutput is a document, or its content alone as bytes.
type getOutput struct {
	ContentType string `header:"Content-Type"`
	Vary        string `header:"Vary"`
	Body        any
}

func (h handlers) get(ctx context.Context, in *getInput) (*getOutput, error) {
	doc, err := h.read(ctx, in.Request)
	if err != nil {
		return nil, err
	}
	out := &getOutput{ContentType: "application/json", Vary: "Accept", Body: doc}
	for _, kind := range []string{"text/markdown", "text/plain"} {
		if strings.HasPrefix(strings.TrimSpace(in.Accept), kind) {
			out.ContentType, out.Body = kind+"; charset=utf-8", []byte(doc.Content+"\n")
		}
	}
	return out, nil
}

func (h handlers) read(ctx context.Context, a Request) (*Document, error) {
	u, err := ParseAddress(a.URL)
	if err != nil {
		return nil, problem.Of(http.StatusUnprocessableEntity, "url: "+err.Error())
	}
	doc, err := h.reader.Read(ctx, u, Options{
		Format: cmp.Or(a.Format, Markdown), Links: cmp.Or(a.Links, Inline), Images: cmp.Or(a.Images, Dropped),
		Whole: a.Whole, Browser: a.Browser,
	})
	if err != nil {
		return nil, refusal(err)
	}
	return doc, nil
}

// refusal says whose fault it is: the caller's, this toolshed's, or the site's.
func refusal(err error) error {
	var status *StatusError
	var timeout net.Error
	switch {
	case errors.Is(err, fetch.ErrForbidden):
		return problem.New(http.StatusForbidden, "address-forbidden", "url: "+fetch.ErrForbidden.Error())
	case errors.Is(err, ErrRobots):
		return problem.New(http.StatusForbidden, "robots", "url: "+err.Error())
	case errors.Is(err, ErrNoBrowser):
		return problem.New(http.StatusNotImplemented, "no-browser", "browser: "+err.Error())
	case errors.As(err, &status):
		return upstream(status)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return problem.New(http.StatusGatewayTimeout, "site-slow", "the site takes too long")
	case errors.Is(err, ErrTooLarge), errors.Is(err, fetch.ErrTooLong):
		return problem.New(http.StatusBadGateway, "page-too-large", err.Error())
	case errors.Is(err, ErrUnsupported), errors.Is(err, ErrBroken):
		return problem.New(http.StatusBadGateway, "page-unreadable", err.Error())
	case errors.Is(err, fetch.ErrTooManyRedirects):
		return problem.New(http.StatusBadGateway, "too-many-redirects", err.Error())
	}
	return problem.New(http.StatusBadGateway, "site-unreachable", err.Error())
}

// upstream passes on that a site wants to be Request later.
func upstream(s *StatusError) error {
	if s.Code == http.StatusTooManyRequests || s.Code == http.StatusServiceUnavailable {
		p := problem.New(http.StatusServiceUnavailable, "site-busy", s.Error())
		if s.RetryAfter != "" {
			return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {s.RetryAfter}})
		}
		return p
	}
	return problem.New(http.StatusBadGateway, "site-refuses", s.Error())
}
