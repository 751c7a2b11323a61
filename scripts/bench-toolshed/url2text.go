package main

import (
	"bytes"
	"context"
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
	pageTurns     = 15
	// pageBytes is the size of the page, about.
	pageBytes = 1 << 20
)

// readPage is a page of a megabyte, fetched over the loopback and turned into
// Markdown, beside the library's own extraction of the same bytes.
func readPage(string) (measured, error) {
	page, err := bigPage()
	if err != nil {
		return measured{}, err
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page) //nolint:errcheck // a reader that is gone says so itself
	}))
	defer site.Close()
	at, err := url.Parse(site.URL)
	if err != nil {
		return measured{}, fmt.Errorf("reading a page: %w", err)
	}
	reader := &url2text.Reader{Client: site.Client(), Agent: "bench"}
	var whole, alone []time.Duration
	for range pageTurns {
		began := time.Now()
		_, err := reader.Read(context.Background(), at, url2text.Options{Format: url2text.Markdown, Links: url2text.Inline, Images: url2text.Inline})
		if err != nil {
			return measured{}, err
		}
		whole = append(whole, time.Since(began))
		began = time.Now()
		parser := readability.NewParser()
		if _, err := parser.Parse(bytes.NewReader(page), at); err != nil {
			return measured{}, fmt.Errorf("extracting a page: %w", err)
		}
		alone = append(alone, time.Since(began))
	}
	r := ratio{Value: median(whole), Floor: median(alone)}
	r.Ratio = r.Value / r.Floor
	fmt.Printf("url2text   %.1f ms a page of %d bytes, extraction alone %.1f ms: %.2f (bound %.1f)\n", r.Value, len(page), r.Floor, r.Ratio, url2textBound)
	return measured{name: "url2text", ratio: r, held: r.Ratio <= url2textBound}, nil
}

// median is in milliseconds.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2].Microseconds()) / 1000
}

// bigPage is an article of a megabyte: the extraction library's own test pages
// have one with much text, whose paragraphs are said again until it is so long.
func bigPage() ([]byte, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "codeberg.org/readeck/go-readability/v2").Output()
	if err != nil {
		return nil, fmt.Errorf("looking for the test pages: %w", err)
	}
	page, err := fs.ReadFile(os.DirFS(filepath.Join(strings.TrimSpace(string(dir)), "test-pages")), "wikipedia/source.html")
	if err != nil {
		return nil, fmt.Errorf("reading a test page: %w", err)
	}
	begin, end := bytes.Index(page, []byte("<p>")), bytes.LastIndex(page, []byte("</p>"))
	if begin < 0 || end < begin {
		return nil, fmt.Errorf("the test page has no paragraph")
	}
	end += len("</p>")
	again := page[begin:end]
	more := bytes.Repeat(again, max(0, (pageBytes-len(page))/len(again)))
	return slices.Concat(page[:end], more, page[end:]), nil
}
