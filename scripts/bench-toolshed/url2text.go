package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	readability "codeberg.org/readeck/go-readability/v2"

	"github.com/toolshed-cloud/shed/toolshed/url2text"
)

const (
	// url2textBound is how much more than the extraction alone reading may
	// take.
	url2textBound = 1.2
	pageTurns     = 30
	// pageBytes is the size of the page, about.
	pageBytes = 1 << 20
)

// readPage is a page of a megabyte as it was found on the web, fetched over the
// loopback and turned into Markdown, beside the library's own extraction of the
// same bytes. A page of that size that is one article is measured too, and held
// to nothing: there it is the Markdown that takes the time.
func readPage(string) (measured, error) {
	found, err := foundPage()
	if err != nil {
		return measured{}, err
	}
	article, err := articlePage()
	if err != nil {
		return measured{}, err
	}
	r, err := readBeside(found)
	if err != nil {
		return measured{}, err
	}
	all, err := readBeside(article)
	if err != nil {
		return measured{}, err
	}
	fmt.Printf("url2text, a page of %d bytes as found:    %.1f ms, extraction alone %.1f ms: %.2f (at most %.1f)\n", len(found), r.Value, r.Floor, r.Ratio, url2textBound)
	fmt.Printf("url2text, %d bytes that are one article: %.1f ms, extraction alone %.1f ms: %.2f\n", len(article), all.Value, all.Floor, all.Ratio)
	return measured{name: "url2text", ratio: r, held: r.Ratio <= url2textBound}, nil
}

// readBeside measures one page in turns.
func readBeside(page []byte) (r ratio, err error) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page) //nolint:errcheck // a reader that is gone says so itself
	}))
	defer site.Close()
	at, err := url.Parse(site.URL)
	if err != nil {
		return r, fmt.Errorf("reading a page: %w", err)
	}
	reader := &url2text.Reader{Client: site.Client(), Agent: "bench"}
	var whole, alone []time.Duration
	for range pageTurns {
		began := time.Now()
		_, err := reader.Read(context.Background(), at, url2text.Options{Format: url2text.Markdown, Links: url2text.Inline, Images: url2text.Inline})
		if err != nil {
			return r, err
		}
		whole = append(whole, time.Since(began))
		began = time.Now()
		parser := readability.NewParser()
		if _, err := parser.Parse(bytes.NewReader(page), at); err != nil {
			return r, fmt.Errorf("extracting a page: %w", err)
		}
		alone = append(alone, time.Since(began))
	}
	r = ratio{Value: fastest(whole), Floor: fastest(alone)}
	r.Ratio = r.Value / r.Floor
	return r, nil
}

// fastest is in milliseconds: what else the machine does only ever adds.
func fastest(all []time.Duration) float64 {
	return float64(slices.Min(all).Microseconds()) / 1000
}

// testPages are the extraction library's own, pages as they were found.
func testPages() (fs.FS, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "codeberg.org/readeck/go-readability/v2").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the test pages: %w", err)
	}
	return os.DirFS(filepath.Join(strings.TrimSpace(string(dir)), "test-pages")), nil
}

// foundPage is the test page whose size is nearest to a megabyte.
func foundPage() (nearest []byte, err error) {
	pages, err := testPages()
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(pages, "*/source.html")
	if err != nil {
		return nil, fmt.Errorf("looking for the test pages: %w", err)
	}
	distance := func(b []byte) int { return max(len(b)-pageBytes, pageBytes-len(b)) }
	for _, name := range names {
		page, err := fs.ReadFile(pages, name)
		if err != nil {
			return nil, fmt.Errorf("reading a test page: %w", err)
		}
		if distance(page) < distance(nearest) {
			nearest = page
		}
	}
	return nearest, nil
}

// articlePage is an article of a megabyte: a test page with much text, whose
// paragraphs are said again until it is so long.
func articlePage() ([]byte, error) {
	pages, err := testPages()
	if err != nil {
		return nil, err
	}
	page, err := fs.ReadFile(pages, "wikipedia/source.html")
	if err != nil {
		return nil, fmt.Errorf("reading a test page: %w", err)
	}
	begin, end := bytes.Index(page, []byte("<p>")), bytes.LastIndex(page, []byte("</p>"))
	if begin < 0 || end < begin {
		return nil, errors.New("the test page has no paragraph")
	}
	end += len("</p>")
	again := page[begin:end]
	more := bytes.Repeat(again, max(0, (pageBytes-len(page))/len(again)))
	return slices.Concat(page[:end], more, page[end:]), nil
}
