package url2text

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"time"

	readability "codeberg.org/readeck/go-readability/v2"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// readHTML takes a page's article, or all of its body, with what the page says
// of itself. The error is ErrTooLarge or ErrBroken.
func readHTML(page []byte, contentType string, at *url.URL, o Options) (*Document, error) {
	decoded, err := charset.NewReader(bytes.NewReader(page), contentType)
	if err != nil {
		return nil, fmt.Errorf("%w: its character set: %w", ErrBroken, err)
	}
	root, err := html.Parse(decoded)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	facts, err := look(root, at)
	if err != nil {
		return nil, err
	}
	doc := &Document{URL: at.String(), Canonical: facts.canonical}
	content, err := article(root, facts, o.Whole, doc)
	if err != nil {
		return nil, err
	}
	settle(content, facts.base, o, doc)
	if doc.Content, err = render(content, o.Format); err != nil {
		return nil, err
	}
	doc.Words = len(strings.Fields(doc.Content))
	return doc, nil
}

// facts are what one pass over the page finds.
type facts struct {
	canonical, title, language string
	base                       *url.URL
	body                       *html.Node
}

// look counts the page's nodes, and finds its body and the addresses of its
// head: relative ones are relative to those.
func look(root *html.Node, at *url.URL) (facts, error) {
	f := facts{base: at}
	count := 0
	for n := range root.Descendants() {
		if count++; count > maxNodes {
			return f, fmt.Errorf("%w: more than %d nodes", ErrTooLarge, maxNodes)
		}
		switch n.DataAtom {
		case atom.Html:
			f.language = attribute(n, "lang")
		case atom.Body:
			f.body = n
		case atom.Title:
			if f.title == "" && n.FirstChild != nil {
				f.title = strings.Join(strings.Fields(n.FirstChild.Data), " ")
			}
		case atom.Base:
			if base, err := at.Parse(attribute(n, "href")); err == nil {
				f.base = base
			}
		case atom.Link:
			if strings.EqualFold(attribute(n, "rel"), "canonical") {
				f.canonical = absolute(f.base, attribute(n, "href"))
			}
		}
	}
	return f, nil
}

// article is the node of what is to be read.
func article(root *html.Node, f facts, whole bool, doc *Document) (*html.Node, error) {
	if whole {
		doc.Title, doc.Language = f.title, f.language
		if f.body == nil {
			return nil, fmt.Errorf("%w: it has no body", ErrBroken)
		}
		return f.body, nil
	}
	parser := readability.NewParser()
	// They say which language a code block is in.
	parser.KeepClasses = true
	a, err := parser.ParseAndMutate(root, f.base)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	doc.Title, doc.Byline, doc.SiteName, doc.Description = a.Title(), a.Byline(), a.SiteName(), a.Excerpt()
	doc.Language, doc.Image = a.Language(), a.ImageURL()
	doc.PublishedAt, doc.ModifiedAt = known(a.PublishedTime()), known(a.ModifiedTime())
	if a.Node == nil {
		// It has no article: a page of a few words is all there is to read.
		return &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div}, nil
	}
	return a.Node, nil
}

func known(t time.Time, err error) *time.Time {
	if err != nil || t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// attribute is an element's attribute, or nothing.
func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return strings.TrimSpace(a.Val)
		}
	}
	return ""
}

// absolute is an address of a kind that a reader can follow, or nothing: a
// script or a piece of data is none.
func absolute(base *url.URL, reference string) string {
	u, err := base.Parse(reference)
	if err != nil || reference == "" {
		return ""
	}
	switch u.Scheme {
	case "http", "https", "mailto", "tel", "ftp":
		return u.String()
	}
	return ""
}
