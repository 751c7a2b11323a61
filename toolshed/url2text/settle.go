package url2text

import (
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// settle does with the content's links and images what was asked for, makes
// their addresses absolute, and leaves out what has no text.
func settle(content *html.Node, base *url.URL, o Options, doc *Document) {
	for _, n := range slices.Collect(content.Descendants()) {
		switch n.DataAtom {
		case atom.A:
			settleLink(n, absolute(base, attribute(n, "href")), o.Links, doc)
		case atom.Img:
			settleImage(n, absolute(base, attribute(n, "src")), o.Images, doc)
		case atom.Script, atom.Style, atom.Noscript, atom.Template, atom.Iframe, atom.Object, atom.Svg:
			n.Parent.RemoveChild(n)
		}
	}
}

func settleLink(n *html.Node, address string, t Treatment, doc *Document) {
	if t == Listed && address != "" && len(doc.Links) < maxListed {
		doc.Links = append(doc.Links, Link{URL: address, Text: textOf(n)})
	}
	if t != Inline || address == "" {
		// A span's text stands in a line as a link's does.
		n.Data, n.DataAtom, n.Attr = "span", atom.Span, nil
		return
	}
	setAttribute(n, "href", address)
}

func settleImage(n *html.Node, address string, t Treatment, doc *Document) {
	if t == Listed && address != "" && len(doc.Images) < maxListed {
		doc.Images = append(doc.Images, Link{URL: address, Text: attribute(n, "alt")})
	}
	if t == Inline && address != "" {
		setAttribute(n, "src", address)
		return
	}
	alt := attribute(n, "alt")
	if t == Dropped || alt == "" {
		n.Parent.RemoveChild(n)
		return
	}
	n.Parent.InsertBefore(&html.Node{Type: html.TextNode, Data: alt}, n)
	n.Parent.RemoveChild(n)
}

func setAttribute(n *html.Node, name, value string) {
	for i := range n.Attr {
		if n.Attr[i].Key == name {
			n.Attr[i].Val = value
		}
	}
}

func textOf(n *html.Node) string {
	var words []string
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			words = append(words, strings.Fields(d.Data)...)
		}
	}
	return strings.Join(words, " ")
}
