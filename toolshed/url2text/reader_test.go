package url2text

import (
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
	"strings"
	"testing"
	"time"
)

// aPage is one article with what a page has around it.
const aPage = `<!doctype html><html lang="en"><head><title>Bread &amp; water</title>
<base href="https://example.com/food/"><link rel="canonical" href="bread">
<meta name="author" content="A. Baker"><meta property="og:site_name" content="The Oven">
<meta property="article:published_time" content="2026-01-02T03:04:05+01:00"></head>
<body><nav><a href="/">home</a> <a href="/all">all</a></nav>
<article><h1>Bread</h1>
<p>Flour, water, salt and yeast make a dough that rests for a night and bakes within the hour, as <a href="history#then">it always did</a>, and
it keeps for a week, in a cloth, in a box of wood.</p>
<p>Another paragraph with enough words in it for the extraction to see that this is the article, and not one of the boxes at its side, which have few.</p>
<pre><code class="language-sh">mix flour
  bake | wait</code></pre>
<table><thead><tr><th>what</th><th>how much</th></tr></thead><tbody><tr><td>flour</td><td>500 g</td></tr><tr><td>salt</td><td>10 g</td></tr></tbody></table>
<p>It looks like this: <img src="loaf.jpg" alt="a loaf"> and <a href="javascript:alert(1)">is done</a> when it sounds hollow, a sentence that is long enough again.</p>
<script>alert("no")</script></article><footer>imprint</footer></body></html>`

func site(t *testing.T, answer http.HandlerFunc) (*Reader, *url.URL) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL + "/page?a=b")
	if err != nil {
		t.Fatal(err)
	}
	return &Reader{Client: server.Client(), Agent: "shed-url2text"}, u
}

func serve(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, body)
	}
}

func TestArticleToMarkdown(t *testing.T) {
	r, u := site(t, serve("text/html", aPage))
	doc, err := r.Read(t.Context(), u, Options{Format: Markdown, Links: Inline, Images: Inline})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"[it always did](https://example.com/food/history#then)", "```sh\nmix flour\n  bake | wait\n```",
		"| flour | 500 g", "![a loaf](https://example.com/food/loaf.jpg)", "is done when it sounds hollow",
	} {
		if !strings.Contains(doc.Content, want) {
			t.Errorf("no %q in:\n%s", want, doc.Content)
		}
	}
	for _, no := range []string{"imprint", "home", "alert", "javascript"} {
		if strings.Contains(doc.Content, no) {
			t.Errorf("%q is in:\n%s", no, doc.Content)
		}
	}
	if doc.Title != "Bread & water" || doc.Byline != "A. Baker" || doc.SiteName != "The Oven" || doc.Language != "en" ||
		doc.Canonical != "https://example.com/food/bread" || doc.ContentType != "text/html" || doc.URL != u.String() {
		t.Errorf("%+v", doc)
	}
	if doc.PublishedAt == nil || doc.PublishedAt.Format("2006-01-02T15:04Z07:00") != "2026-01-02T02:04Z" {
		t.Errorf("published at %v", doc.PublishedAt)
	}
}

func TestOptions(t *testing.T) {
	r, u := site(t, serve("text/html", aPage))
	for name, c := range map[string]struct {
		options  Options
		has, not []string
		links    int
		images   int
	}{
		"listed":  {Options{Format: Markdown, Links: Listed, Images: Listed}, []string{"it always did", "a loaf"}, []string{"](http"}, 1, 1},
		"dropped": {Options{Format: Markdown, Links: Dropped, Images: Dropped}, []string{"it always did"}, []string{"](http", "a loaf"}, 0, 0},
		"text":    {Options{Format: Text, Links: Inline, Images: Dropped}, []string{"Flour, water", "500 g"}, []string{"](", "<p>", "| flour"}, 0, 0},
		"html":    {Options{Format: HTML, Links: Inline, Images: Inline}, []string{"<p>", `href="https://example.com/food/history#then"`}, []string{"<script", "javascript:"}, 0, 0},
		"whole":   {Options{Format: Markdown, Links: Inline, Images: Inline, Whole: true}, []string{"imprint", "[home](https://example.com/)"}, []string{"alert("}, 0, 0},
	} {
		doc, err := r.Read(t.Context(), u, c.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(doc.Content, want) {
				t.Errorf("%s: no %q in:\n%s", name, want, doc.Content)
			}
		}
		for _, no := range c.not {
			if strings.Contains(doc.Content, no) {
				t.Errorf("%s: %q is in:\n%s", name, no, doc.Content)
			}
		}
		if len(doc.Links) != c.links || len(doc.Images) != c.images {
			t.Errorf("%s: links %v, images %v", name, doc.Links, doc.Images)
		}
	}
}

func TestOtherKinds(t *testing.T) {
	for name, c := range map[string]struct{ contentType, body, want string }{
		"latin 1":      {"text/plain; charset=iso-8859-1", "caf\xe9", "café"},
		"latin 1 page": {"text/html", `<meta charset="iso-8859-1"><p>caf` + "\xe9", ""},
		"json":         {"application/json", `{"a": "` + "```" + `"}`, "````\n{\"a\": \"```\"}\n````"},
		"broken utf-8": {"text/plain", "a\xffb", "a\ufffdb"},
		"no type":      {"", "just words", "just words"},
		"pdf":          {"application/pdf", aPDF("Hello PDF"), "Hello PDF"},
	} {
		r, u := site(t, serve(c.contentType, c.body))
		doc, err := r.Read(t.Context(), u, Options{Format: Markdown})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.want != "" && doc.Content != c.want {
			t.Errorf("%s: %q, want %q", name, doc.Content, c.want)
		}
	}
}

// aPDF is a file of one page with a line of text.
func aPDF(text string) string {
	stream := "BT /F1 24 Tf 72 700 Td (" + text + ") Tj ET"
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(stream), stream),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
	}
	file := "%PDF-1.4\n"
	offsets := make([]int, len(objects))
	for i, o := range objects {
		offsets[i] = len(file)
		file += fmt.Sprintf("%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := len(file)
	file += fmt.Sprintf("xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, at := range offsets {
		file += fmt.Sprintf("%010d 00000 n \n", at)
	}
	return file + fmt.Sprintf("trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, xref)
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		robots bool
		want   error
	}{
		"too large":      {serve("text/html", strings.Repeat("a", MaxPageBytes+1)), false, ErrTooLarge},
		"too many nodes": {serve("text/html", strings.Repeat("<b></b>", maxNodes)), false, ErrTooLarge},
		"an image":       {serve("image/png", "\x89PNG\r\n\x1a\n"), false, ErrUnsupported},
		"no pdf":         {serve("application/pdf", "%PDF-1.4 or not"), false, ErrBroken},
		"unknown set":    {serve("text/plain; charset=klingon", "a"), false, ErrBroken},
		"robots refuse": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "User-agent: shed-url2text\nDisallow: /page?a=\n")
		}, true, ErrRobots},
		"robots fail": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, true, ErrRobots},
	} {
		r, u := site(t, c.answer)
		r.ObeyRobots = c.robots
		if _, err := r.Read(t.Context(), u, Options{Format: Markdown}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	r, u := site(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	var status *StatusError
	if _, err := r.Read(t.Context(), u, Options{}); !errors.As(err, &status) || status.Code != 429 || status.RetryAfter != "7" {
		t.Errorf("%v", err)
	}
	if _, err := r.Read(t.Context(), u, Options{Browser: true}); !errors.Is(err, ErrNoBrowser) {
		t.Errorf("%v", err)
	}
}

// A site that has no robots.txt, or one that asks others, is read.
func TestRobotsAllow(t *testing.T) {
	for name, robots := range map[string]string{"none": "", "others": "User-agent: else\nDisallow: /\n\nUser-agent: *\nDisallow: /private\n"} {
		r, u := site(t, func(w http.ResponseWriter, q *http.Request) {
			switch {
			case q.URL.Path != "/robots.txt":
				serve("text/plain", "words")(w, q)
			case robots == "":
				w.WriteHeader(http.StatusNotFound)
			default:
				fmt.Fprint(w, robots)
			}
		})
		r.ObeyRobots = true
		if doc, err := r.Read(t.Context(), u, Options{}); err != nil || doc.Content != "words" {
			t.Errorf("%s: %v, %v", name, doc, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for text, good := range map[string]bool{
		"https://example.com/a#b": true, "ftp://example.com/": false, "file:///etc/passwd": false, "https://": false,
		"https://a:b@example.com/": false, "::": false, "example.com": false,
	} {
		if u, err := ParseAddress(text); (err == nil) != good || good && u.String() != "https://example.com/a" {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
}

// pages are the extraction library's own, read where its module is.
func pages(t testing.TB) []string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "codeberg.org/readeck/go-readability/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(dir)), "test-pages"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == "source.html" {
			all = append(all, path)
		}
		return err
	})
	if err != nil || len(all) < 100 {
		t.Fatalf("%d pages, %v", len(all), err)
	}
	return all
}

// Pages as they are found in the wild have a text.
func TestPagesOfTheWild(t *testing.T) {
	at := &url.URL{Scheme: "https", Host: "example.com", Path: "/page"}
	for i, name := range pages(t) {
		if testing.Short() && i%8 != 0 {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := read(t.Context(), b, "text/html; charset=utf-8", at, Options{Format: Markdown, Links: Inline, Images: Inline})
		if err != nil || doc.Words == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMain lets the tests' program be the one that parses PDFs.
func TestMain(m *testing.M) {
	ParsePDFIfAsked()
	os.Exit(m.Run())
}

// A file whose pages are their own parents has the library go round for ever.
func TestPDFWithoutEnd(t *testing.T) {
	endless := strings.NewReplacer("/Kids [3 0 R]", "/Kids [2 0 R]").Replace(aPDF("a"))
	r, u := site(t, serve("application/pdf", endless))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := r.Read(ctx, u, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func FuzzReadHTML(f *testing.F) {
	f.Add("text/html", []byte(aPage))
	f.Add("text/plain; charset=utf-16le", []byte("a\x00"))
	f.Add("application/json", []byte("`````"))
	at := &url.URL{Scheme: "https", Host: "example.com"}
	f.Fuzz(func(t *testing.T, contentType string, b []byte) {
		if strings.Contains(contentType, "pdf") {
			t.Skip("a PDF is another process's")
		}
		for _, o := range []Options{{Format: Markdown, Links: Listed, Images: Listed}, {Format: Text, Whole: true}, {Format: HTML}} {
			doc, err := read(t.Context(), b, contentType, at, o)
			if err == nil && doc.ContentType == "" {
				t.Error("no content type")
			}
		}
	})
}
