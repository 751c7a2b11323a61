// Package markdown writes HTML as Markdown: CommonMark 0.31 with GitHub's tables
// and strikethrough.
//
// Invariants: one pass over the nodes, which makes it several times as fast as
// the extraction that comes before it (docs/decisions/0045); text means the same
// to a reader of Markdown as it did in HTML, so what would be markup is escaped;
// markup never begins or ends at a space, and never spans two blocks.
package markdown

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Render writes a node and what is in it. The nodes are not changed. Depth is
// the parser's, which bounds it at 512.
func Render(n *html.Node) string {
	w := &writer{}
	w.node(n)
	w.endMarks('\n', true)
	return string(bytes.TrimRight(w.out, " \n"))
}

// node writes one node.
func (w *writer) node(n *html.Node) {
	switch n.Type {
	case html.TextNode:
		w.text(n.Data)
	case html.ElementNode:
		w.element(n)
	case html.DocumentNode:
		w.children(n)
	}
}

func (w *writer) children(n *html.Node) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.node(c)
	}
}

func (w *writer) element(n *html.Node) {
	switch n.DataAtom {
	case atom.Head, atom.Script, atom.Style, atom.Template, atom.Title:
	case atom.B, atom.Strong:
		w.marked(n, "**", "**")
	case atom.I, atom.Em:
		w.marked(n, "*", "*")
	case atom.Del, atom.S:
		w.marked(n, "~~", "~~")
	case atom.A:
		w.link(n)
	case atom.Img:
		w.image(n)
	case atom.Code, atom.Kbd, atom.Samp, atom.Tt:
		w.code(n)
	case atom.Br:
		w.hardBreak()
	default:
		w.blockElement(n)
	}
}

func (w *writer) blockElement(n *html.Node) {
	switch n.DataAtom {
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		w.heading(n, int(n.Data[1]-'0'))
	case atom.Ul, atom.Ol, atom.Menu, atom.Dir:
		w.list(n)
	case atom.Li, atom.Dd:
		// Outside of a list.
		w.block(n, paragraph)
	case atom.Dt:
		w.gap(paragraph)
		w.marked(n, "**", "**")
		w.gap(paragraph)
	case atom.Blockquote:
		w.quote(n)
	case atom.Pre, atom.Listing:
		w.preformatted(n)
	case atom.Hr:
		w.gap(paragraph)
		w.raw("---")
		w.gap(paragraph)
	case atom.Table:
		w.table(n)
	case atom.Div, atom.Tr, atom.Section, atom.Article, atom.Main, atom.Header, atom.Footer, atom.Nav, atom.Aside, atom.P, atom.Figure,
		atom.Figcaption, atom.Address, atom.Details, atom.Summary, atom.Form, atom.Fieldset, atom.Dl, atom.Body, atom.Html, atom.Center, atom.Hgroup:
		w.block(n, paragraph)
	case atom.Td, atom.Th, atom.Option, atom.Legend, atom.Caption:
		w.block(n, line)
	default:
		w.children(n)
	}
}

// block writes what stands on lines of its own.
func (w *writer) block(n *html.Node, apart int) {
	w.gap(apart)
	w.children(n)
	w.gap(apart)
}

func (w *writer) heading(n *html.Node, level int) {
	w.gap(paragraph)
	end := w.indent(strings.Repeat("#", level)+" ", "")
	// A heading is one line.
	flat := w.flat
	w.flat = true
	w.children(n)
	w.flat = flat
	end()
	w.gap(paragraph)
}

func (w *writer) quote(n *html.Node) {
	w.gap(paragraph)
	end := w.indent("> ", "> ")
	w.children(n)
	end()
	w.gap(paragraph)
}

func (w *writer) list(n *html.Node) {
	apart := paragraph
	if w.lists > 0 {
		apart = line
	}
	w.gap(apart)
	w.lists++
	number, err := strconv.Atoi(attribute(n, "start"))
	if err != nil || number < 0 {
		number = 1
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if c.DataAtom != atom.Li {
			// What is in no item stands for itself.
			w.node(c)
			continue
		}
		marker := "- "
		if n.DataAtom == atom.Ol {
			marker = strconv.Itoa(number) + ". "
			number++
		}
		w.gap(line)
		end := w.indent(marker, strings.Repeat(" ", len(marker)))
		w.children(c)
		end()
		w.gap(line)
	}
	w.lists--
	w.gap(apart)
}

func (w *writer) preformatted(n *html.Node) {
	if w.flat {
		w.code(n)
		return
	}
	text := strings.Trim(rawText(n), "\n")
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	w.gap(paragraph)
	w.raw(fence + language(n))
	for each := range strings.SplitSeq(text, "\n") {
		w.gap(line)
		w.raw(strings.TrimRight(each, "\r"))
	}
	w.gap(line)
	w.raw(fence)
	w.gap(paragraph)
}

// language is what a block of code says that it is in.
func language(n *html.Node) string {
	for d := n; d != nil; d = d.FirstChild {
		for class := range strings.FieldsSeq(attribute(d, "class")) {
			for _, prefix := range []string{"language-", "lang-", "highlight-source-", "brush:"} {
				if name, ok := strings.CutPrefix(class, prefix); ok && !strings.ContainsAny(name, "`~") {
					return name
				}
			}
		}
	}
	return ""
}

// rawText is a node's text as it stands, with its line breaks.
func rawText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		switch {
		case d.Type == html.TextNode:
			b.WriteString(d.Data)
		case d.DataAtom == atom.Br:
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}
