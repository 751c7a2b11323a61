package sparql

import (
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// Arity is how many arguments a function takes; a negative Most is any number.
type Arity struct{ Least, Most int }

// Functions are those of the subset.
var Functions = map[string]Arity{
	"STR": {1, 1}, "LANG": {1, 1}, "LANGMATCHES": {2, 2}, "DATATYPE": {1, 1}, "BOUND": {1, 1}, "IRI": {1, 1}, "URI": {1, 1},
	"ABS": {1, 1}, "CEIL": {1, 1}, "FLOOR": {1, 1}, "ROUND": {1, 1}, "CONCAT": {0, -1}, "STRLEN": {1, 1}, "UCASE": {1, 1}, "LCASE": {1, 1},
	"ENCODE_FOR_URI": {1, 1}, "CONTAINS": {2, 2}, "STRSTARTS": {2, 2}, "STRENDS": {2, 2}, "STRBEFORE": {2, 2}, "STRAFTER": {2, 2},
	"SUBSTR": {2, 3}, "REPLACE": {3, 4}, "REGEX": {2, 3}, "YEAR": {1, 1}, "MONTH": {1, 1}, "DAY": {1, 1}, "HOURS": {1, 1}, "MINUTES": {1, 1},
	"SECONDS": {1, 1}, "TZ": {1, 1}, "NOW": {0, 0}, "COALESCE": {1, -1}, "IF": {3, 3}, "STRLANG": {2, 2}, "STRDT": {2, 2}, "SAMETERM": {2, 2},
	"ISIRI": {1, 1}, "ISURI": {1, 1}, "ISBLANK": {1, 1}, "ISLITERAL": {1, 1}, "ISNUMERIC": {1, 1},
}

// Casts are the functions that are named by a datatype.
var Casts = map[string]bool{
	rdf.String: true, rdf.Boolean: true, rdf.Integer: true, rdf.Decimal: true, rdf.Double: true, rdf.Float: true, rdf.DateTime: true, rdf.Date: true,
}

// absent are functions of SPARQL that this subset has not.
var absent = map[string]bool{
	"BNODE": true, "RAND": true, "UUID": true, "STRUUID": true, "MD5": true, "SHA1": true, "SHA256": true, "SHA384": true, "SHA512": true, "TIMEZONE": true,
}

var aggregates = map[string]bool{"COUNT": true, "SUM": true, "AVG": true, "MIN": true, "MAX": true, "SAMPLE": true, "GROUP_CONCAT": true}

func (p *parser) startsCall() bool {
	t := p.peek()
	if t.kind == iriRef || t.kind == prefixed {
		return true
	}
	name := strings.ToUpper(t.text)
	_, function := Functions[name]
	return t.kind == word && (function || aggregates[name] || absent[name] || name == "EXISTS" || name == "NOT")
}

// constraint reads what a filter takes.
func (p *parser) constraint() Expression {
	if p.has("(") {
		e := p.expression()
		p.want(")")
		return e
	}
	if !p.startsCall() {
		p.fail("%q, want a condition", p.shown())
	}
	e := p.primary()
	if _, constant := e.(Constant); constant {
		p.fail("%q, want the arguments of a function", p.shown())
	}
	return e
}

// precedence has the operators that bind least first.
var precedence = [][]string{{"||"}, {"&&"}, {"=", "!=", "<", ">", "<=", ">=", "IN", "NOT"}, {"+", "-"}, {"*", "/"}}

func (p *parser) expression() Expression {
	defer p.deeper()()
	return p.binary(0)
}

// maxOperators bounds a chain such as 1 + 1 + …, which nests as parentheses do.
const maxOperators = 128

func (p *parser) binary(level int) Expression {
	if level == len(precedence) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for n := 0; ; n++ {
		if n == maxOperators {
			p.fail("there are more than %d operators in a row", maxOperators)
		}
		operator := ""
		for _, o := range precedence[level] {
			if p.is(o) {
				operator = o
				break
			}
		}
		switch operator {
		case "":
			return left
		case "IN", "NOT":
			return p.in(left)
		}
		p.at++
		left = Call{operator, []Expression{left, p.binary(level + 1)}}
		if level == 2 {
			return left
		}
	}
}

func (p *parser) in(left Expression) Expression {
	not := p.has("NOT")
	p.want("IN")
	args := append([]Expression{left}, p.arguments()...)
	in := Call{"IN", args}
	if not {
		return Call{"!", []Expression{in}}
	}
	return in
}

// arguments reads ( … ).
func (p *parser) arguments() []Expression {
	var all []Expression
	p.want("(")
	for !p.has(")") {
		if len(all) > 0 {
			p.want(",")
		}
		if len(all) == MaxRows {
			p.fail("there are more than %d arguments", MaxRows)
		}
		all = append(all, p.expression())
	}
	return all
}

func (p *parser) unary() Expression {
	defer p.deeper()()
	switch {
	case p.has("!"):
		return Call{"!", []Expression{p.unary()}}
	case p.has("-"):
		return Call{"NEGATE", []Expression{p.unary()}}
	case p.has("+"):
		return Call{"+", []Expression{Constant{rdf.Typed("0", rdf.Integer)}, p.unary()}}
	}
	return p.primary()
}

func (p *parser) primary() Expression {
	t := p.peek()
	switch {
	case p.has("("):
		e := p.expression()
		p.want(")")
		return e
	case t.kind == variable:
		return Variable{p.variable()}
	case t.kind == iriRef || t.kind == prefixed:
		return p.iriOrCall()
	case t.kind == word && !p.is("true") && !p.is("false"):
		return p.function()
	}
	term, ok := p.term()
	if !ok {
		p.fail("%q, want an expression", p.shown())
	}
	return Constant{term}
}

func (p *parser) iriOrCall() Expression {
	before := p.at
	name := p.iri()
	if !p.is("(") {
		return Constant{rdf.NewIRI(name)}
	}
	if !Casts[name] {
		p.at = before
		p.unsupported("the function <" + name + ">")
	}
	args := p.arguments()
	if len(args) != 1 {
		p.fail("<%s> takes one argument", name)
	}
	return Call{name, args}
}

func (p *parser) function() Expression {
	name := strings.ToUpper(p.peek().text)
	switch {
	case absent[name]:
		p.unsupported("the function " + name)
	case aggregates[name]:
		return p.aggregate(name)
	case name == "EXISTS" || name == "NOT":
		p.at++
		not := name == "NOT"
		if not {
			p.want("EXISTS")
		}
		return Exists{p.group(), not}
	}
	arity, ok := Functions[name]
	if !ok {
		p.fail("there is no function %q", p.shown())
	}
	p.at++
	args := p.arguments()
	if len(args) < arity.Least || arity.Most >= 0 && len(args) > arity.Most {
		p.fail("%s takes %d to %d arguments", name, arity.Least, arity.Most)
	}
	if _, isVariable := first(args).(Variable); name == "BOUND" && !isVariable {
		p.fail("BOUND takes a variable")
	}
	return Call{name, args}
}

func first(all []Expression) Expression {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

func (p *parser) aggregate(name string) Expression {
	if !p.aggregates {
		p.fail("%s is an aggregate, and stands in SELECT, HAVING and ORDER BY alone", name)
	}
	p.aggregates = false
	defer func() { p.aggregates = true }()
	p.at++
	p.want("(")
	a := &Aggregate{Name: name, Distinct: p.has("DISTINCT"), Separator: " "}
	if name != "COUNT" || !p.has("*") {
		a.Arg = p.expression()
	}
	if name == "GROUP_CONCAT" && p.has(";") {
		p.want("SEPARATOR")
		p.want("=")
		if p.peek().kind != text {
			p.fail("%q, want a text", p.shown())
		}
		a.Separator = p.take().text
	}
	p.want(")")
	return a
}

// iri reads an IRI, whole or by its prefix.
func (p *parser) iri() string {
	t := p.peek()
	switch t.kind {
	case iriRef:
		return p.resolve(t.text)
	case prefixed:
		before, ok := p.prefixes[t.prefix]
		if !ok {
			p.fail("the prefix %s: is not declared", t.prefix)
		}
		if err := rdf.CheckIRI(before + t.text); err != nil {
			p.fail("%s", err)
		}
		p.at++
		return before + t.text
	}
	p.fail("%q, want an IRI", p.shown())
	return ""
}

// term reads an IRI or a literal.
func (p *parser) term() (rdf.Term, bool) {
	t := p.peek()
	switch {
	case t.kind == iriRef || t.kind == prefixed:
		return rdf.NewIRI(p.iri()), true
	case t.kind == text:
		p.at++
		return p.literal(t.text), true
	case p.has("true"):
		return rdf.Typed("true", rdf.Boolean), true
	case p.has("false"):
		return rdf.Typed("false", rdf.Boolean), true
	}
	sign := ""
	if p.is("-") || p.is("+") {
		sign = p.take().text
		t = p.peek()
	}
	datatype, ok := map[kind]string{integer: rdf.Integer, decimal: rdf.Decimal, double: rdf.Double}[t.kind]
	if !ok {
		return rdf.Term{}, false
	}
	p.at++
	return rdf.Typed(sign+t.text, datatype), true
}

func (p *parser) literal(s string) rdf.Term {
	term := rdf.Text(s)
	switch {
	case p.peek().kind == langTag:
		term = rdf.InLanguage(s, p.take().text)
	case p.has("^^"):
		term = rdf.Typed(s, p.iri())
	}
	if err := term.Check(); err != nil {
		p.fail("%s", err)
	}
	return term
}
