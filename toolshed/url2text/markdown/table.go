package markdown

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// table writes rows and cells as a table, where they are one and not a way to
// lay a page out: then they are blocks.
func (w *writer) table(n *html.Node) {
	rows, caption := rowsOf(n)
	columns := 0
	for _, r := range rows {
		columns = max(columns, len(r))
	}
	if w.flat || columns < 2 || len(rows) < 2 || isLayout(n) {
		w.block(n, paragraph)
		return
	}
	if caption != nil {
		w.block(caption, paragraph)
	}
	w.gap(paragraph)
	if isHead(rows[0]) {
		w.row(rows[0], columns)
		rows = rows[1:]
	} else {
		w.row(nil, columns)
	}
	w.gap(line)
	w.raw("|" + strings.Repeat(" --- |", columns))
	for _, r := range rows {
		w.gap(line)
		w.row(r, columns)
	}
	w.gap(paragraph)
}

// rowsOf are a table's rows of cells, without those of tables in it.
func rowsOf(n *html.Node) (rows [][]*html.Node, caption *html.Node) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		switch c.DataAtom {
		case atom.Caption:
			caption = c
		case atom.Tr:
			var cells []*html.Node
			for d := c.FirstChild; d != nil; d = d.NextSibling {
				if d.DataAtom == atom.Td || d.DataAtom == atom.Th {
					cells = append(cells, d)
				}
			}
			if cells != nil {
				rows = append(rows, cells)
			}
		case atom.Thead, atom.Tbody, atom.Tfoot:
			more, _ := rowsOf(c)
			rows = append(rows, more...)
		}
	}
	return rows, caption
}

// isLayout reports whether a table's cells hold what a cell of Markdown cannot.
func isLayout(n *html.Node) bool {
	if role := attribute(n, "role"); role == "presentation" || role == "none" {
		return true
	}
	for d := range n.Descendants() {
		switch d.DataAtom {
		case atom.Table, atom.Ul, atom.Ol, atom.Pre, atom.Blockquote, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Hr:
			return true
		}
	}
	return false
}

func isHead(cells []*html.Node) bool {
	if cells[0].Parent.Parent.DataAtom == atom.Thead {
		return true
	}
	for _, c := range cells {
		if c.DataAtom != atom.Th {
			return false
		}
	}
	return true
}

func (w *writer) row(cells []*html.Node, columns int) {
	var b strings.Builder
	b.WriteByte('|')
	for i := range columns {
		b.WriteByte(' ')
		if i < len(cells) {
			b.WriteString(w.cell(cells[i]))
		}
		b.WriteString(" |")
	}
	w.raw(b.String())
}

// cell is what is in a cell, on one line.
func (w *writer) cell(n *html.Node) string {
	in := &writer{flat: true, inTable: true, inLink: w.inLink}
	in.children(n)
	in.endMarks('\n', true)
	return string(in.out)
}
