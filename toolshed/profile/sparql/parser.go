package sparql

import (
	"net/url"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// parser reads tokens. Where something is wrong it panics with a failure,
// which Parse turns into an error: a grammar reads better so.
type parser struct {
	query    string
	tokens   []token
	at       int
	depth    int
	base     *url.URL
	prefixes map[string]string
	// names are the variables so far, blanks how many have no name.
	names   map[string]bool
	blanks  int
	triples int
	// aggregates says whether they may stand here.
	aggregates bool
}

type failure struct{ err error }

// Parse reads a query. The error is an *Error.
func Parse(query string) (q *Query, err error) {
	tokens, err := lex(query)
	if err != nil {
		return nil, err
	}
	p := &parser{query: query, tokens: tokens, prefixes: map[string]string{}, names: map[string]bool{}}
	defer func() {
		if thrown := recover(); thrown != nil {
			f, ours := thrown.(failure)
			if !ours {
				panic(thrown)
			}
			q, err = nil, f.err
		}
	}()
	p.prologue()
	q = p.whole()
	if p.peek().kind != end {
		p.fail("%q is too much", p.shown())
	}
	if err := check(q); err != nil {
		return nil, err
	}
	return q, nil
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != end {
		p.at++
	}
	return t
}

// shown is the present token as the query has it.
func (p *parser) shown() string {
	t := p.peek()
	if t.kind == end {
		return "the end"
	}
	till := len(p.query)
	if p.at+1 < len(p.tokens) {
		till = p.tokens[p.at+1].at
	}
	s := strings.TrimSpace(p.query[t.at:till])
	if r := []rune(s); len(r) > 32 {
		s = string(r[:32]) + "…"
	}
	return s
}

func (p *parser) fail(format string, args ...any) {
	line, column := position(p.query, p.peek().at)
	panic(failure{wrong(line, column, format, args...)})
}

// unsupported refuses what SPARQL has and this subset has not.
func (p *parser) unsupported(what string) {
	line, column := position(p.query, p.peek().at)
	panic(failure{&Error{Line: line, Column: column, Unsupported: true, Text: what + " is not supported"}})
}

// is reports whether a word or a sign comes next.
func (p *parser) is(s string) bool {
	t := p.peek()
	switch t.kind {
	case word:
		return s != "a" && strings.EqualFold(t.text, s) || t.text == s
	case punctuation:
		return t.text == s
	}
	return false
}

// has takes it where it comes next.
func (p *parser) has(s string) bool {
	if p.is(s) {
		p.at++
		return true
	}
	return false
}

func (p *parser) want(s string) {
	if !p.has(s) {
		p.fail("%q, want %s", p.shown(), s)
	}
}

// deeper bounds how deep things nest.
func (p *parser) deeper() func() {
	p.depth++
	if p.depth > MaxDepth {
		p.fail("it nests more than %d deep", MaxDepth)
	}
	return func() { p.depth-- }
}

func (p *parser) prologue() {
	for {
		switch {
		case p.has("BASE"):
			p.base = p.absolute(p.iriText())
		case p.has("PREFIX"):
			t := p.peek()
			if t.kind != prefixed || t.text != "" {
				p.fail("%q, want a prefix", p.shown())
			}
			p.at++
			p.prefixes[t.prefix] = p.iriText()
		default:
			return
		}
	}
}

func (p *parser) absolute(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() {
		p.fail("the base %.64q is no absolute IRI", text)
	}
	return u
}

// iriText is an IRI in brackets, resolved against the base.
func (p *parser) iriText() string {
	t := p.peek()
	if t.kind != iriRef {
		p.fail("%q, want an IRI in brackets", p.shown())
	}
	return p.resolve(t.text)
}

// resolve takes the present token's IRI.
func (p *parser) resolve(text string) string {
	if err := rdf.CheckIRI(text); err != nil {
		if p.base == nil {
			p.fail("<%.64s> is relative, and there is no BASE", text)
		}
		u, err := url.Parse(text)
		if err != nil {
			p.fail("<%.64s> is no IRI", text)
		}
		text = p.base.ResolveReference(u).String()
		if err := rdf.CheckIRI(text); err != nil {
			p.fail("%s", err)
		}
	}
	p.at++
	return text
}

func (p *parser) whole() *Query {
	for _, form := range []string{"CONSTRUCT", "DESCRIBE", "INSERT", "DELETE", "LOAD", "CLEAR", "DROP", "CREATE", "ADD", "MOVE", "COPY", "WITH"} {
		if p.is(form) {
			p.unsupported(form)
		}
	}
	if p.has("ASK") {
		q := &Query{Ask: true, Limit: -1}
		p.where(q)
		p.modifiers(q)
		return q
	}
	return p.selecting()
}

// selecting reads a SELECT, whole or in a group.
func (p *parser) selecting() *Query {
	q := &Query{Limit: -1}
	if !p.has("SELECT") {
		p.fail("%q, want SELECT or ASK", p.shown())
	}
	q.Distinct = p.has("DISTINCT")
	if !q.Distinct && p.has("REDUCED") {
		// What may be left out need not be.
		q.Distinct = false
	}
	all := p.has("*")
	p.aggregates = true
	for !all {
		s, ok := p.selection()
		if !ok {
			break
		}
		q.Select = append(q.Select, s)
	}
	if !all && len(q.Select) == 0 {
		p.fail("%q, want variables or *", p.shown())
	}
	p.where(q)
	p.modifiers(q)
	if all {
		if q.Grouped {
			p.fail("SELECT * selects nothing from groups: name what to select")
		}
		for _, name := range InScope(q.Where, q.Values) {
			q.Select = append(q.Select, Selection{Name: name})
		}
	}
	return q
}

// selection reads ?x or (expression AS ?x).
func (p *parser) selection() (Selection, bool) {
	if p.peek().kind == variable {
		return Selection{Name: p.variable()}, true
	}
	if !p.has("(") {
		return Selection{}, false
	}
	s := Selection{As: p.expression()}
	p.want("AS")
	s.Name = p.variable()
	p.want(")")
	return s, true
}

func (p *parser) where(q *Query) {
	p.aggregates = false
	if p.is("FROM") {
		p.unsupported("FROM")
	}
	p.has("WHERE")
	q.Where = p.group()
}

// variable takes one by its name.
func (p *parser) variable() string {
	t := p.peek()
	if t.kind != variable {
		p.fail("%q, want a variable", p.shown())
	}
	p.know(t.text)
	p.at++
	return t.text
}

func (p *parser) know(name string) {
	p.names[name] = true
	if len(p.names) > MaxVariables {
		p.fail("there are more than %d variables", MaxVariables)
	}
}
