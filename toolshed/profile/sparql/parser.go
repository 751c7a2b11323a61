package sparql

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
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

func (p *parser) modifiers(q *Query) {
	p.grouping(q)
	p.aggregates = true
	if p.has("HAVING") {
		q.Grouped = true
		for q.Having = append(q.Having, p.constraint()); p.is("(") || p.startsCall(); {
			q.Having = append(q.Having, p.constraint())
		}
	}
	p.ordering(q)
	p.aggregates = false
	for {
		switch {
		case p.has("LIMIT"):
			q.Limit = p.count()
		case p.has("OFFSET"):
			q.Offset = p.count()
		case p.is("VALUES"):
			q.Values = p.values()
			return
		default:
			return
		}
	}
}

func (p *parser) grouping(q *Query) {
	if !p.has("GROUP") {
		return
	}
	p.want("BY")
	q.Grouped = true
	for {
		switch {
		case p.peek().kind == variable:
			q.GroupBy = append(q.GroupBy, Selection{Name: p.variable()})
		case p.has("("):
			s := Selection{As: p.expression()}
			if p.has("AS") {
				s.Name = p.variable()
			}
			p.want(")")
			q.GroupBy = append(q.GroupBy, s)
		case p.startsCall():
			q.GroupBy = append(q.GroupBy, Selection{As: p.primary()})
		default:
			if len(q.GroupBy) == 0 {
				p.fail("%q, want what to group by", p.shown())
			}
			return
		}
	}
}

func (p *parser) ordering(q *Query) {
	if !p.has("ORDER") {
		return
	}
	p.want("BY")
	for {
		var o Order
		switch {
		case p.is("ASC") || p.is("DESC"):
			o.Descending = p.is("DESC")
			p.at++
			p.want("(")
			o.By = p.expression()
			p.want(")")
		case p.peek().kind == variable:
			o.By = Variable{p.variable()}
		case p.is("(") || p.startsCall():
			o.By = p.constraint()
		default:
			if len(q.OrderBy) == 0 {
				p.fail("%q, want what to order by", p.shown())
			}
			return
		}
		q.OrderBy = append(q.OrderBy, o)
	}
}

func (p *parser) count() int {
	t := p.peek()
	n, err := strconv.ParseInt(t.text, 10, 31)
	if t.kind != integer || err != nil {
		p.fail("%q, want a number", p.shown())
	}
	p.at++
	return int(n)
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

// Unsupported reports whether an error is of what SPARQL has and this subset
// has not.
func Unsupported(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Unsupported
}

// check sees that what is selected can be.
func check(q *Query) error {
	scope := InScope(q.Where, q.Values)
	grouped := map[string]bool{}
	for _, g := range q.GroupBy {
		if g.Name != "" && g.As != nil && slices.Contains(scope, g.Name) {
			return wrong(0, 0, "GROUP BY gives ?%s a value, and it has one", g.Name)
		}
		grouped[g.Name] = true
	}
	seen := map[string]bool{}
	aggregated := q.Grouped
	for _, s := range q.Select {
		aggregated = aggregated || Aggregates(s.As)
	}
	for _, o := range q.OrderBy {
		aggregated = aggregated || Aggregates(o.By)
	}
	q.Grouped = aggregated
	for _, s := range q.Select {
		if s.As != nil && (slices.Contains(scope, s.Name) || seen[s.Name]) {
			return wrong(0, 0, "SELECT gives ?%s a value, and it has one", s.Name)
		}
		seen[s.Name] = true
		if !aggregated {
			continue
		}
		for _, name := range outside(s) {
			if !grouped[name] && !seenBefore(q.Select, s.Name, name) {
				return wrong(0, 0, "?%s is selected from groups, and is neither grouped by nor aggregated", name)
			}
		}
	}
	return nil
}

// outside are the variables of a selection that stand in no aggregate.
func outside(s Selection) []string {
	if s.As == nil {
		return []string{s.Name}
	}
	var names []string
	walk(s.As, func(e Expression) bool {
		if v, ok := e.(Variable); ok {
			names = append(names, v.Name)
		}
		_, aggregate := e.(*Aggregate)
		return !aggregate
	})
	return names
}

// seenBefore reports whether a name is selected by an expression before
// another.
func seenBefore(all []Selection, before, name string) bool {
	for _, s := range all {
		if s.Name == before {
			return false
		}
		if s.Name == name && s.As != nil {
			return true
		}
	}
	return false
}
