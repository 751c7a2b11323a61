// Package url2text turns a page of the web into clean Markdown with what is
// known about it.
//
// Invariants: pages come by the client that the reader is given, which decides
// what may be reached, and by nothing else; a page is bounded in bytes, nodes
// and time before it is parsed; nothing of it is stored; what a page claims
// about itself is passed on as text and never acted on.
package url2text

import (
	"errors"
	"fmt"
	"time"
)

// The bounds of one reading.
const (
	// MaxPageBytes is how much of an answer is taken: a longer one is refused,
	// not cut.
	MaxPageBytes = 8 << 20
	// maxNodes bounds a page's elements, maxPages a PDF's pages.
	maxNodes = 400_000
	maxPages = 2_000
	// maxListed bounds the links, and the images, that a document lists.
	maxListed = 1_000
)

// The sentinels of a reading, beside those of the client.
var (
	// ErrRobots says that the site asks robots not to read the page.
	ErrRobots = errors.New("the site's robots.txt refuses this page")
	// ErrTooLarge says that the page is over a bound.
	ErrTooLarge = errors.New("the page is too large")
	// ErrUnsupported says that the page is of no kind that has text.
	ErrUnsupported = errors.New("the page is of a kind that is not read")
	// ErrBroken says that the answer is not what its content type says.
	ErrBroken = errors.New("the page cannot be parsed")
	// ErrNoBrowser says that a browser was asked for and none is set up.
	ErrNoBrowser = errors.New("no browser is set up")
)

// StatusError is an answer of the site's other than the page.
type StatusError struct {
	Code int
	// RetryAfter is what the site said, as it said it.
	RetryAfter string
}

func (e *StatusError) Error() string { return fmt.Sprintf("the site answered with status %d", e.Code) }

// Document is what was read.
type Document struct {
	// URL is where the page was found after redirects, Canonical what it says
	// of itself.
	URL         string     `json:"url" doc:"where the page was found, after redirects"`
	Canonical   string     `json:"canonical,omitempty" doc:"the address that the page gives itself"`
	Title       string     `json:"title,omitempty"`
	Byline      string     `json:"byline,omitempty"`
	SiteName    string     `json:"site_name,omitempty"`
	Description string     `json:"description,omitempty"`
	Language    string     `json:"language,omitempty"`
	Image       string     `json:"image,omitempty" doc:"the address of the page's own picture"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
	ModifiedAt  *time.Time `json:"modified_at,omitempty"`
	ContentType string     `json:"content_type" doc:"what the site said the page is"`
	Pages       int        `json:"pages,omitempty" doc:"of a PDF"`
	Content     string     `json:"content" doc:"the text, in the form that was asked for"`
	Words       int        `json:"words"`
	Links       []Link     `json:"links,omitempty" doc:"where they were asked for: those of the content, in order"`
	Images      []Link     `json:"images,omitempty" doc:"where they were asked for"`
}

// Link is an address with its text.
type Link struct {
	URL  string `json:"url"`
	Text string `json:"text,omitempty"`
}

// Format is the form of a document's content.
type Format string

// The formats.
const (
	Markdown Format = "markdown"
	Text     Format = "text"
	HTML     Format = "html"
)

// Treatment is what becomes of links, or of images, in the content.
type Treatment string

// The treatments.
const (
	// Inline leaves them where they stand.
	Inline Treatment = "inline"
	// Listed leaves their text in the content and lists them beside it.
	Listed Treatment = "listed"
	// Dropped leaves their text alone.
	Dropped Treatment = "dropped"
)

// Options are how a page is read.
type Options struct {
	Format Format
	Links  Treatment
	Images Treatment
	// Whole takes all of the page instead of its article.
	Whole bool
	// Browser has a browser run the page's scripts first.
	Browser bool
}
