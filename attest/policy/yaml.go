package policy

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/toolshed-cloud/shed/attest"
)

// file is one policy while it is read. The first failure sticks, and whatever
// is read after it is empty.
type file struct {
	open Open
	err  error
}

func (f *file) fail(line int, path, format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: line %d: %s %s", attest.ErrPolicy, line, path, fmt.Sprintf(format, args...))
	}
}

// failing is fail with an error that keeps its kind.
func (f *file) failing(line int, path string, err error) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: line %d: %s: %w", attest.ErrPolicy, line, path, err)
	}
}

// object is a map of keys, each of which has to be asked for.
type object struct {
	f      *file
	path   string
	line   int
	values map[string]value
	asked  map[string]bool
}

// value is what stands behind a key; its node is nil where nothing does.
type value struct {
	f    *file
	path string
	line int
	node ast.Node
}

func (v value) fail(format string, args ...any) { v.f.fail(v.line, v.path, format, args...) }

// maxNesting is above what any key needs. The parser recurses, and is kept from
// what would nest deeper.
const maxNesting = 32

func (f *file) root(text []byte) object {
	if len(text) > MaxBytes {
		f.fail(1, "the policy", "has %d bytes, at most %d", len(text), MaxBytes)
		return object{f: f}
	}
	if nests(text) {
		f.fail(1, "the policy", "nests too deeply")
		return object{f: f}
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		// The parser's errors draw a picture over several lines.
		first, _, _ := strings.Cut(err.Error(), "\n")
		f.fail(1, "the policy", "is not yaml: %.120s", first)
		return object{f: f}
	}
	if len(parsed.Docs) != 1 || parsed.Docs[0].Body == nil {
		f.fail(1, "the policy", "is not one yaml document")
		return object{f: f}
	}
	return value{f: f, line: 1, node: parsed.Docs[0].Body}.object()
}

// maxBrackets is above what any policy opens in all: what closes in a comment
// or a text closes nothing, so that opening alone bounds how deep they nest.
const maxBrackets = 16 * maxNesting

// nests reports whether brackets alone could nest deeper than maxNesting, or
// lines begin with more dashes or spaces than any of a policy's do.
func nests(text []byte) bool {
	if bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > maxBrackets {
		return true
	}
	brackets := 0
	for line := range strings.Lines(string(text)) {
		indent := len(line) - len(strings.TrimLeft(line, " -?\t:"))
		if indent > 4*maxNesting {
			return true
		}
		brackets += strings.Count(line, "[") + strings.Count(line, "{")
		brackets -= strings.Count(line, "]") + strings.Count(line, "}")
		if brackets > maxNesting || strings.Count(line, "[")+strings.Count(line, "{") > 4*maxNesting {
			return true
		}
	}
	return false
}

// members are a mapping's entries; the parser gives a mapping of one entry
// another type.
func (v value) members() []*ast.MappingValueNode {
	switch n := v.node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	v.failUnlessUnset("is not a map of keys")
	return nil
}

// failUnlessUnset keeps what is not there from a second complaint.
func (v value) failUnlessUnset(format string, args ...any) {
	if v.node != nil {
		v.fail(format, args...)
	}
}

func (v value) object() object {
	o := object{f: v.f, path: v.path, line: v.line, values: map[string]value{}, asked: map[string]bool{}}
	for _, m := range v.members() {
		line := m.Key.GetToken().Position.Line
		if _, ok := m.Key.(ast.ScalarNode); !ok {
			o.f.fail(line, o.at("a key"), "is no plain text")
			continue
		}
		name := m.Key.GetToken().Value
		if _, twice := o.values[name]; twice {
			o.f.fail(line, o.at(name), "is there twice")
		}
		o.values[name] = value{f: o.f, path: o.at(name), line: line, node: m.Value}
	}
	return o
}

func (o object) at(name string) string {
	name = fmt.Sprintf("%.60s", name)
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// get is the value of a key, which has to be there.
func (o object) get(name string) value {
	v, ok := o.values[name]
	if !ok {
		o.f.fail(max(o.line, 1), o.at(name), "is not set")
		return value{f: o.f, path: o.at(name), line: o.line}
	}
	o.asked[name] = true
	return v
}

// has reports whether a key is there that can be left out.
func (o object) has(name string) bool {
	_, ok := o.values[name]
	return ok
}

// end refuses the keys that nobody asked for.
func (o object) end() {
	first := value{}
	for name, v := range o.values {
		if !o.asked[name] && (first.f == nil || v.line < first.line) {
			first = v
		}
	}
	if first.f != nil {
		first.fail("is unknown")
	}
}

// each reads those of the known keys that are there, and wants at least one.
func (o object) each(known []string, read func(name string, v value)) {
	for _, name := range known {
		if o.has(name) {
			read(name, o.get(name))
		}
	}
	if len(o.values) == 0 {
		o.f.fail(o.line, o.path, "is empty, want at least one of %s", strings.Join(known, ", "))
	}
	o.end()
}

// list is a list of least to most values.
func (v value) list(least, most int) []value {
	n, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.failUnlessUnset("is not a list")
		return nil
	}
	if len(n.Values) < least || len(n.Values) > most {
		v.fail("has %d entries, want %d to %d", len(n.Values), least, most)
		return nil
	}
	all := make([]value, len(n.Values))
	for i, entry := range n.Values {
		all[i] = value{f: v.f, path: fmt.Sprintf("%s[%d]", v.path, i), line: entry.GetToken().Position.Line, node: entry}
	}
	return all
}

// isList tells a list from a word.
func (v value) isList() bool {
	_, ok := v.node.(*ast.SequenceNode)
	return ok
}

// scalar is a plain value's text, as the file spells it.
func (v value) scalar() (string, bool) {
	switch n := v.node.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// text is a plain value that is not empty.
func (v value) text() string {
	text, ok := v.scalar()
	if !ok {
		v.failUnlessUnset("is no plain value")
	} else if text == "" {
		v.fail("is empty")
	}
	return text
}

// is reports whether the value is this word.
func (v value) is(word string) bool {
	text, ok := v.scalar()
	return ok && text == word
}
