package standin

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// node is an element of one of EC2's answers.
type node struct {
	name  string
	attrs []xml.Attr
	text  string
	kids  []*node
}

// parseXML reads what moto answered.
func parseXML(b []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	top := &node{}
	stack := []*node{top}
	for {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading XML: %w", err)
		}
		at := stack[len(stack)-1]
		switch t := t.(type) {
		case xml.StartElement:
			kid := &node{name: t.Name.Local, attrs: slices.Clone(t.Attr)}
			at.kids = append(at.kids, kid)
			stack = append(stack, kid)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
			if len(stack) == 0 {
				return nil, errors.New("reading XML: an end without a start")
			}
		case xml.CharData:
			at.text += string(t)
		}
	}
	if len(top.kids) != 1 || len(stack) != 1 {
		return nil, errors.New("reading XML: not one element")
	}
	return top.kids[0], nil
}

func (n *node) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "<%s", n.name)
	for _, a := range n.attrs {
		name := a.Name.Local
		if a.Name.Space != "" {
			name = a.Name.Space + ":" + name
		}
		fmt.Fprintf(b, ` %s="`, name)
		escape(b, a.Value)
		b.WriteByte('"')
	}
	b.WriteByte('>')
	if len(n.kids) == 0 {
		escape(b, n.text)
	}
	for _, k := range n.kids {
		k.write(b)
	}
	fmt.Fprintf(b, "</%s>", n.name)
}

func escape(b *bytes.Buffer, text string) {
	_ = xml.EscapeText(b, []byte(text)) // a buffer takes everything
}

func (n *node) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	n.write(&b)
	return b.Bytes()
}

// at is the first element at a path of names; an empty one where there is none.
func (n *node) at(path ...string) *node {
	for _, name := range path {
		i := slices.IndexFunc(n.kids, func(k *node) bool { return k.name == name })
		if i < 0 {
			return &node{}
		}
		n = n.kids[i]
	}
	return n
}

func (n *node) value(path ...string) string { return strings.TrimSpace(n.at(path...).text) }

// set replaces the child of that name.
func (n *node) set(kid *node) {
	n.kids = append(slices.DeleteFunc(n.kids, func(k *node) bool { return k.name == kid.name }), kid)
}

// each calls f with every element of a name.
func (n *node) each(name string, f func(*node)) {
	if n.name == name {
		f(n)
	}
	for _, k := range n.kids {
		k.each(name, f)
	}
}

// mentions reports whether any text below is one of the ids.
func (n *node) mentions(ids map[string]bool) bool {
	if len(n.kids) == 0 {
		return ids[strings.TrimSpace(n.text)]
	}
	return slices.ContainsFunc(n.kids, func(k *node) bool { return k.mentions(ids) })
}

func leaf(name, text string) *node { return &node{name: name, text: text} }

func branch(name string, kids ...*node) *node { return &node{name: name, kids: kids} }
