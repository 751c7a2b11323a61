package query

import (
	"math"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// maxText bounds what functions make.
const maxText = 256 << 10

func isText(t rdf.Term) bool {
	return t.Kind == rdf.Literal && (t.Datatype == rdf.String || t.Datatype == rdf.LangString)
}

func ofLiteral(f func(rdf.Term) rdf.Term) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		if a[0].Kind != rdf.Literal {
			return rdf.Term{}, errValue
		}
		return f(a[0]), nil
	}
}

func toIRI(a []rdf.Term) (rdf.Term, error) {
	if a[0].Kind == rdf.Literal && a[0].Datatype != rdf.String || rdf.CheckIRI(a[0].Value) != nil {
		return rdf.Term{}, errValue
	}
	return rdf.NewIRI(a[0].Value), nil
}

func strdt(a []rdf.Term) (rdf.Term, error) {
	if a[0].Datatype != rdf.String || a[1].Kind != rdf.IRI || a[1].Value == rdf.LangString {
		return rdf.Term{}, errValue
	}
	return rdf.Typed(a[0].Value, a[1].Value), nil
}

func strlang(a []rdf.Term) (rdf.Term, error) {
	t := rdf.InLanguage(a[0].Value, a[1].Value)
	if a[0].Datatype != rdf.String || a[1].Datatype != rdf.String || t.Check() != nil {
		return rdf.Term{}, errValue
	}
	return t, nil
}

// langMatches is basic filtering of RFC 4647.
func langMatches(a []rdf.Term) (rdf.Term, error) {
	if !isText(a[0]) || !isText(a[1]) {
		return rdf.Term{}, errValue
	}
	tag, want := strings.ToLower(a[0].Value), strings.ToLower(a[1].Value)
	if want == "*" {
		return boolean(tag != ""), nil
	}
	return boolean(tag == want || strings.HasPrefix(tag, want+"-")), nil
}

func changed(f func(string) string) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		if !isText(a[0]) {
			return rdf.Term{}, errValue
		}
		a[0].Value = f(a[0].Value)
		return a[0], nil
	}
}

// together reports whether a text can be looked for in another.
func together(a, b rdf.Term) bool {
	return isText(a) && isText(b) && (b.Language == "" || a.Language == b.Language)
}

func found(f func(s, in string) bool) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		if !together(a[0], a[1]) {
			return rdf.Term{}, errValue
		}
		return boolean(f(a[0].Value, a[1].Value)), nil
	}
}

func cut(front bool) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		if !together(a[0], a[1]) {
			return rdf.Term{}, errValue
		}
		before, after, ok := strings.Cut(a[0].Value, a[1].Value)
		if !ok {
			return rdf.Text(""), nil
		}
		if a[0].Value = after; front {
			a[0].Value = before
		}
		return a[0], nil
	}
}

func concat(a []rdf.Term) (rdf.Term, error) {
	var b strings.Builder
	t := rdf.Text("")
	for i, one := range a {
		if !isText(one) || b.Len()+len(one.Value) > maxText {
			return rdf.Term{}, errValue
		}
		b.WriteString(one.Value)
		switch {
		case i == 0:
			t = one
		case t.Language != one.Language:
			t = rdf.Text("")
		}
	}
	t.Value = b.String()
	return t, nil
}

// substr counts characters from 1, and rounds as XPath does.
func substr(a []rdf.Term) (rdf.Term, error) {
	start, ok := toNumber(a[1])
	if !isText(a[0]) || !ok {
		return rdf.Term{}, errValue
	}
	from := math.Floor(start.float() + .5)
	till := math.Inf(1)
	if len(a) == 3 {
		n, ok := toNumber(a[2])
		if !ok {
			return rdf.Term{}, errValue
		}
		till = from + math.Floor(n.float()+.5)
	}
	var b strings.Builder
	at := 1.
	for _, r := range a[0].Value {
		if at >= from && at < till {
			b.WriteRune(r)
		}
		at++
	}
	a[0].Value = b.String()
	return a[0], nil
}
