package markdown

import (
	"bytes"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	readability "codeberg.org/readeck/go-readability/v2"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func parse(t testing.TB, text string) *html.Node {
	t.Helper()
	n, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRender(t *testing.T) {
	for text, want := range map[string]string{
		"<p>a  b\n c</p><p>d</p>":                                                            "a b c\n\nd",
		"<h2>a <b>b</b></h2>c":                                                               "## a **b**\n\nc",
		"<p><b> a </b>b<i>c</i> <em></em>d</p>":                                              "**a** b*c* d",
		"<b><p>a</p><p>b</p></b>":                                                            "**a**\n\n**b**",
		"<p><b>a <strong>b</strong></b></p>":                                                 "**a b**",
		`<a href="/a b" title='t "u"'>x</a>`:                                                 `[x](</a b> "t \"u\"")`,
		`<a href="/a"></a>b`:                                                                 "b",
		`<a href="/a"><img src="/i(1)" alt="[x]"></a>`:                                       `[![\[x\]](</i(1)>)](/a)`,
		"<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>":                                   "- a\n  - b\n- c",
		"<ol start=9><li>a</li><li><p>b</p><p>c</p></li></ol>":                               "9. a\n10. b\n\n    c",
		"<ul><li></li><li>a</li></ul>":                                                       "- a",
		"<blockquote><p>a</p><p>b</p></blockquote>c":                                         "> a\n>\n> b\n\nc",
		"<blockquote><ul><li>a</li></ul></blockquote>":                                       "> - a",
		"<p>a<br>b<br></p><br><p>c</p>":                                                      "a\\\nb\n\nc",
		"<pre><code class=\"language-go\">a\n\n  b```</code></pre>":                          "````go\na\n\n  b```\n````",
		"<p>x <code>a `b`</code> y</p>":                                                      "x `` a `b` `` y",
		"<p>*a* _b_ c_d [e](f) `g` &amp;lt; 1 < 2 ~x~</p>":                                   `\*a\* \_b\_ c_d \[e\](f) \` + "`g\\` \\&lt; 1 \\< 2 \\~x\\~",
		"<p># a</p><p>1. b</p><p>- c</p><p>2026 d</p>":                                       "\\# a\n\n1\\. b\n\n\\- c\n\n2026 d",
		"<table><tr><th>a</th><th>b|c</th></tr><tr><td>d<br>e</td></tr></table>":             "| a | b\\|c |\n| --- | --- |\n| d e |  |",
		"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>":          "|  |  |\n| --- | --- |\n| a | b |\n| c | d |",
		"<table><tr><td><h1>a</h1></td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>": "# a\n\nb\n\nc\nd",
		"<dl><dt>a</dt><dd>b</dd></dl>":                                                      "**a**\n\nb",
		"<hr>a<script>b</script>":                                                            "---\n\na",
		"<del>a</del>":                                                                       "~~a~~",
		"":                                                                                   "",
	} {
		if got := Render(parse(t, text)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", text, got, want)
		}
	}
}

var reader = goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough))

// words are a page's, without its space, since that differs where it means
// nothing.
func words(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(strings.Join(strings.Fields(n.Data), ""))
		}
		switch n.DataAtom {
		case atom.Head, atom.Script, atom.Style, atom.Template:
			return
		case atom.Img:
			if attribute(n, "src") == "" {
				b.WriteString(strings.Join(strings.Fields(attribute(n, "alt")), ""))
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return b.String()
}

// same fails the test where another's reader of Markdown finds other words in
// what was written than were in the HTML.
func same(t *testing.T, name string, n *html.Node) {
	t.Helper()
	written := Render(n)
	var b bytes.Buffer
	if err := reader.Convert([]byte(written), &b); err != nil {
		t.Fatal(err)
	}
	want, got := words(n), words(parse(t, b.String()))
	if want == got {
		return
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	around := func(s string) string { return s[max(at-60, 0):min(at+60, len(s))] }
	t.Errorf("%s: at %d\n%s\nwas\n%s", name, at, around(got), around(want))
}

// What goldmark reads in the articles of pages as they were found is what stood
// in them.
func TestArticlesMeanTheSame(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "codeberg.org/readeck/go-readability/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	pages := os.DirFS(filepath.Join(strings.TrimSpace(string(dir)), "test-pages"))
	names, err := fs.Glob(pages, "*/source.html")
	if err != nil || len(names) < 100 {
		t.Fatalf("%d pages, %v", len(names), err)
	}
	at := &url.URL{Scheme: "https", Host: "example.com"}
	for i, name := range names {
		if testing.Short() && i%8 != 0 {
			continue
		}
		page, err := fs.ReadFile(pages, name)
		if err != nil {
			t.Fatal(err)
		}
		parser := readability.NewParser()
		a, err := parser.ParseAndMutate(parse(t, string(page)), at)
		if err != nil || a.Node == nil {
			continue
		}
		same(t, name, a.Node)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("<p>a <b>b</b> <a href=c>d</a><ul><li>e<pre>f</pre></ul><table><tr><th>g<th>h<tr><td>i<td>j</table>")
	f.Add("<blockquote><ol><li><blockquote># x</blockquote>1) y<br>- z</ol></blockquote><code>`</code>&amp;amp;")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := html.Parse(strings.NewReader(text))
		if err != nil {
			t.Skip("no HTML")
		}
		Render(n)
	})
}
