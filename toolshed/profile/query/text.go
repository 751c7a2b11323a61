package query

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"sync"

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

// maxPattern bounds a regular expression.
const maxPattern = 1000

var errPattern = errors.New("no such regular expression")

// patternOf is a regular expression of XPath's as RE2 has it.
func patternOf(pattern, flags rdf.Term) (*regexp.Regexp, error) {
	if !isText(pattern) || !isText(flags) || len(pattern.Value) > maxPattern {
		return nil, fmt.Errorf("%w: want a text of at most %d bytes", errPattern, maxPattern)
	}
	text, set := pattern.Value, ""
	for _, f := range flags.Value {
		switch f {
		case 'i', 's', 'm':
			set += string(f)
		case 'q':
			text = regexp.QuoteMeta(text)
		default:
			return nil, fmt.Errorf("%w: the flag %q is not supported", errPattern, f)
		}
	}
	if set != "" {
		text = "(?" + set + ")" + text
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPattern, err)
	}
	return re, nil
}

func matches(a []rdf.Term) (rdf.Term, error) {
	flags := rdf.Text("")
	if len(a) == 3 {
		flags = a[2]
	}
	re, err := compiled(a[1], flags)
	if err != nil || !isText(a[0]) {
		return rdf.Term{}, errValue
	}
	return boolean(re.MatchString(a[0].Value)), nil
}

var reference = regexp.MustCompile(`\$([0-9])`)

func replace(a []rdf.Term) (rdf.Term, error) {
	flags := rdf.Text("")
	if len(a) == 4 {
		flags = a[3]
	}
	re, err := compiled(a[1], flags)
	if err != nil || !isText(a[0]) || !isText(a[2]) || re.MatchString("") {
		return rdf.Term{}, errValue
	}
	if len(a[2].Value)*(len(a[0].Value)+1) > 64*maxText {
		return rdf.Term{}, errValue
	}
	a[0].Value = re.ReplaceAllString(a[0].Value, reference.ReplaceAllString(a[2].Value, "$${$1}"))
	if len(a[0].Value) > maxText {
		return rdf.Term{}, errValue
	}
	return a[0], nil
}

// keptPatterns are expressions that were compiled lately: a query has the same
// one for each solution.
var keptPatterns = struct {
	sync.Mutex
	all map[[2]string]*regexp.Regexp
}{all: map[[2]string]*regexp.Regexp{}}

const maxKeptPatterns = 16

func compiled(pattern, flags rdf.Term) (*regexp.Regexp, error) {
	key := [2]string{pattern.Value, flags.Value}
	keptPatterns.Lock()
	re := keptPatterns.all[key]
	keptPatterns.Unlock()
	if re != nil {
		return re, nil
	}
	re, err := patternOf(pattern, flags)
	if err != nil {
		return nil, err
	}
	keptPatterns.Lock()
	defer keptPatterns.Unlock()
	if len(keptPatterns.all) == maxKeptPatterns {
		clear(keptPatterns.all)
	}
	keptPatterns.all[key] = re
	return re, nil
}
