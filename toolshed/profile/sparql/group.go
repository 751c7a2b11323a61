package sparql

import (
	"slices"
	"strconv"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// group reads { … }.
func (p *parser) group() Group {
	defer p.deeper()()
	p.want("{")
	var g Group
	if p.is("SELECT") {
		g.Elements = append(g.Elements, p.subquery())
		p.want("}")
		return g
	}
	for !p.has("}") {
		if e := p.part(&g); e != nil {
			g.Elements = append(g.Elements, e)
		}
		p.has(".")
	}
	return g
}

func (p *parser) subquery() Element {
	q := p.selecting()
	if err := check(q); err != nil {
		p.fail("%s", err)
	}
	return &Subquery{q}
}

func (p *parser) part(g *Group) Element {
	switch {
	case p.is("{"):
		return p.union()
	case p.has("OPTIONAL"):
		return Optional{p.group()}
	case p.has("MINUS"):
		return Minus{p.group()}
	case p.has("FILTER"):
		return Filter{p.constraint()}
	case p.is("BIND"):
		return p.bind(*g)
	case p.is("VALUES"):
		return p.values()
	case p.is("GRAPH"), p.is("SERVICE"):
		p.unsupported(p.shown())
	}
	return p.triplesBlock()
}

func (p *parser) union() Element {
	first := p.group()
	if !p.is("UNION") {
		return first
	}
	u := Union{Groups: []Group{first}}
	for p.has("UNION") {
		u.Groups = append(u.Groups, p.group())
	}
	return u
}

func (p *parser) bind(before Group) Element {
	p.want("BIND")
	p.want("(")
	b := Bind{As: p.expression()}
	p.want("AS")
	if slices.Contains(InScope(before, nil), p.peek().text) {
		p.fail("BIND gives ?%s a value, and it has one", p.peek().text)
	}
	b.Name = p.variable()
	p.want(")")
	return b
}

func (p *parser) values() *Values {
	p.want("VALUES")
	v := &Values{}
	single := p.peek().kind == variable
	if single {
		v.Names = []string{p.variable()}
	} else {
		for p.want("("); !p.has(")"); {
			name := p.variable()
			if slices.Contains(v.Names, name) {
				p.fail("?%s is there twice", name)
			}
			v.Names = append(v.Names, name)
		}
	}
	for p.want("{"); !p.has("}"); {
		if len(v.Rows) == MaxRows {
			p.fail("there are more than %d rows", MaxRows)
		}
		v.Rows = append(v.Rows, p.row(len(v.Names), single))
	}
	return v
}

func (p *parser) row(n int, single bool) []rdf.Term {
	if !single {
		p.want("(")
	}
	var row []rdf.Term
	for range n {
		if p.has("UNDEF") {
			row = append(row, rdf.Term{})
			continue
		}
		t, ok := p.term()
		if !ok {
			p.fail("%q, want a value or UNDEF", p.shown())
		}
		row = append(row, t)
	}
	if !single {
		p.want(")")
	}
	return row
}

// triplesBlock reads patterns up to something else.
func (p *parser) triplesBlock() Element {
	var t Triples
	for {
		p.subject(&t)
		if !p.is(".") {
			return t
		}
		p.at++
		if !p.startsNode() {
			p.at--
			return t
		}
	}
}

func (p *parser) startsNode() bool {
	switch p.peek().kind {
	case variable, iriRef, prefixed, blankLabel, text, integer, decimal, double:
		return true
	case word:
		return p.is("true") || p.is("false")
	case punctuation:
		return p.is("[") || p.is("(")
	}
	return false
}

func (p *parser) subject(t *Triples) {
	bracketed := p.is("[") || p.is("(")
	node := p.node(t)
	if bracketed && !p.startsVerb() {
		return
	}
	p.properties(t, node)
}

func (p *parser) startsVerb() bool {
	switch p.peek().kind {
	case variable, iriRef, prefixed:
		return true
	}
	return p.is("a") || p.is("^") || p.is("!") || p.is("(")
}

// properties reads predicates with their objects.
func (p *parser) properties(t *Triples, subject Node) {
	for {
		one := Pattern{Subject: subject}
		p.verb(&one)
		for {
			one.Object = p.node(t)
			p.add(t, one)
			if !p.has(",") {
				break
			}
		}
		if !p.has(";") {
			return
		}
		for p.has(";") {
		}
		if !p.startsVerb() {
			return
		}
	}
}

func (p *parser) add(t *Triples, one Pattern) {
	if p.triples++; p.triples > MaxTriples {
		p.fail("there are more than %d triple patterns", MaxTriples)
	}
	t.Patterns = append(t.Patterns, one)
}

func (p *parser) verb(one *Pattern) {
	if p.peek().kind == variable {
		one.Predicate = Node{Name: p.variable()}
		return
	}
	switch path := p.path().(type) {
	case Link:
		one.Predicate = Node{Term: rdf.NewIRI(path.Predicate)}
	default:
		one.Path = path
	}
}

// node reads a subject or an object; what stands in brackets adds patterns.
func (p *parser) node(t *Triples) Node {
	switch {
	case p.peek().kind == variable:
		return Node{Name: p.variable()}
	case p.peek().kind == blankLabel:
		name := "_:" + p.peek().text
		p.know(name)
		p.at++
		return Node{Name: name}
	case p.is("["):
		return p.bracketed(t)
	case p.is("("):
		return p.collection(t)
	}
	term, ok := p.term()
	if !ok {
		p.fail("%q, want a variable or a term", p.shown())
	}
	return Node{Term: term}
}

// fresh is a blank node that has no label.
func (p *parser) fresh() Node {
	p.blanks++
	// No label begins so.
	name := "_:." + strconv.Itoa(p.blanks)
	p.know(name)
	return Node{Name: name}
}

func (p *parser) bracketed(t *Triples) Node {
	defer p.deeper()()
	p.want("[")
	node := p.fresh()
	if p.has("]") {
		return node
	}
	p.properties(t, node)
	p.want("]")
	return node
}

func (p *parser) collection(t *Triples) Node {
	defer p.deeper()()
	p.want("(")
	head := Node{Term: rdf.NewIRI(rdf.Nil)}
	last := -1
	for !p.has(")") {
		item := p.node(t)
		cell := p.fresh()
		if last < 0 {
			head = cell
		} else {
			t.Patterns[last].Object = cell
		}
		p.add(t, Pattern{Subject: cell, Predicate: Node{Term: rdf.NewIRI(rdf.First)}, Object: item})
		p.add(t, Pattern{Subject: cell, Predicate: Node{Term: rdf.NewIRI(rdf.Rest)}, Object: Node{Term: rdf.NewIRI(rdf.Nil)}})
		last = len(t.Patterns) - 1
	}
	return head
}
