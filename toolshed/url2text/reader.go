package url2text

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
)

// Client sends requests where they may go, follows redirects under the same
// rule, and bounds the time. Its errors are passed on.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// Browser answers a page as it is once its scripts have run.
type Browser interface {
	Page(ctx context.Context, address *url.URL) (html []byte, at *url.URL, err error)
}

// Reader reads pages.
type Reader struct {
	Client Client
	// Browser runs scripts; nil where there is none.
	Browser Browser
	// Agent is what the reader calls itself, to sites and in their robots.txt.
	Agent string
	// ObeyRobots says whether a site's robots.txt is asked first.
	ObeyRobots bool
}

// Read fetches a page and reads it. Errors are those of this package, a
// *StatusError, and the client's.
func (r *Reader) Read(ctx context.Context, address *url.URL, o Options) (*Document, error) {
	if r.ObeyRobots {
		if err := r.allowed(ctx, address); err != nil {
			return nil, err
		}
	}
	if o.Browser && r.Browser == nil {
		return nil, ErrNoBrowser
	}
	page, contentType, at, err := r.fetch(ctx, address)
	if err != nil {
		return nil, err
	}
	if o.Browser {
		// The plain answer says where redirects lead; scripts make the page.
		if page, at, err = r.Browser.Page(ctx, at); err != nil {
			return nil, err
		}
		contentType = "text/html; charset=utf-8"
	}
	return read(ctx, page, contentType, at, o)
}

// fetch takes an answer whole. The error is ErrTooLarge, a *StatusError or the
// client's.
func (r *Reader) fetch(ctx context.Context, address *url.URL) (page []byte, contentType string, at *url.URL, err error) {
	resp, err := r.get(ctx, address, "text/html, application/xhtml+xml, application/pdf, text/*;q=0.9, */*;q=0.1")
	if err != nil {
		return nil, "", nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", nil, &StatusError{Code: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}
	}
	page, err = io.ReadAll(io.LimitReader(resp.Body, MaxPageBytes+1))
	if err != nil {
		return nil, "", nil, fmt.Errorf("reading the page: %w", err)
	}
	if len(page) > MaxPageBytes {
		return nil, "", nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxPageBytes)
	}
	return page, resp.Header.Get("Content-Type"), resp.Request.URL, nil
}

func (r *Reader) get(ctx context.Context, address *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking for the page: %w", err)
	}
	req.Header.Set("User-Agent", r.Agent)
	req.Header.Set("Accept", accept)
	return r.Client.Do(req)
}

// read reads an answer as what its content type says that it is.
func read(ctx context.Context, page []byte, contentType string, at *url.URL, o Options) (*Document, error) {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind, parameters, err = mime.ParseMediaType(http.DetectContentType(page))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %.64q", ErrUnsupported, contentType)
	}
	var doc *Document
	switch {
	case kind == "text/html" || kind == "application/xhtml+xml":
		doc, err = readHTML(page, contentType, at, o)
	case kind == "application/pdf":
		doc, err = readPDF(ctx, page, at)
	case strings.HasPrefix(kind, "text/"):
		doc, err = readPlain(page, parameters["charset"], at)
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "/xml") || strings.HasSuffix(kind, "+xml"):
		doc, err = readPlain(page, parameters["charset"], at)
		if err == nil && o.Format == Markdown {
			doc.Content = fenced(doc.Content)
		}
	default:
		return nil, fmt.Errorf("%w: %.64q", ErrUnsupported, kind)
	}
	if err != nil {
		return nil, err
	}
	doc.ContentType = kind
	return doc, nil
}

// readPlain takes text as it stands.
func readPlain(page []byte, label string, at *url.URL) (*Document, error) {
	if label != "" && !strings.EqualFold(label, "utf-8") {
		encoding, _ := charset.Lookup(label)
		if encoding == nil {
			return nil, fmt.Errorf("%w: character set %.32q", ErrBroken, label)
		}
		decoded, err := encoding.NewDecoder().Bytes(page)
		if err != nil {
			return nil, fmt.Errorf("%w: its character set: %w", ErrBroken, err)
		}
		page = decoded
	}
	text := string(page)
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\ufffd")
	}
	return &Document{URL: at.String(), Content: text, Words: len(strings.Fields(text))}, nil
}

// fenced is a code block that no line of the text can end (CommonMark, section
// 4.5).
func fenced(text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + "\n" + strings.TrimRight(text, "\n") + "\n" + fence
}

// ParseAddress reads the address of a page. The error says what is wrong.
func ParseAddress(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("it is no address")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("its scheme is %.16q, want http or https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("it names no host")
	case u.User != nil:
		return nil, errors.New("it holds a user name, which is not sent")
	}
	u.Fragment = ""
	return u, nil
}
