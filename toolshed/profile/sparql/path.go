package sparql

import "github.com/toolshed-cloud/shed/toolshed/profile/rdf"

// path reads alternatives.
func (p *parser) path() Path {
	defer p.deeper()()
	path := p.sequence()
	for p.has("|") {
		path = Alternative{path, p.sequence()}
	}
	return path
}

func (p *parser) sequence() Path {
	path := p.step()
	for p.has("/") {
		path = Sequence{path, p.step()}
	}
	return path
}

func (p *parser) step() Path {
	inverse := p.has("^")
	path := p.pathPrimary()
	switch {
	case p.has("*"):
		path = Repeat{path, true, true}
	case p.has("+"):
		path = Repeat{path, false, true}
	case p.has("?"):
		path = Repeat{path, true, false}
	}
	if inverse {
		path = Inverse{path}
	}
	return path
}

func (p *parser) pathPrimary() Path {
	switch {
	case p.has("a"):
		return Link{rdf.Type}
	case p.has("("):
		path := p.path()
		p.want(")")
		return path
	case p.has("!"):
		return p.negated()
	}
	return Link{p.iri()}
}

func (p *parser) negated() Path {
	var n Negated
	one := func() {
		back := p.has("^")
		predicate := rdf.Type
		if !p.has("a") {
			predicate = p.iri()
		}
		if back {
			n.Backwards, n.Back = append(n.Backwards, predicate), true
		} else {
			n.Forwards, n.Ahead = append(n.Forwards, predicate), true
		}
	}
	if !p.has("(") {
		one()
		return n
	}
	if p.has(")") {
		n.Ahead = true
		return n
	}
	for one(); p.has("|"); {
		one()
	}
	p.want(")")
	return n
}
