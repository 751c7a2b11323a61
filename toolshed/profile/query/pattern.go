package query

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"sync"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// maxPattern bounds a regular expression and maxStates what it becomes, and
// maxSearch its states times the bytes of a text, which is what one search takes
// at most and nothing ends sooner.
const (
	maxPattern = 1000
	maxStates  = 10_000
	maxSearch  = 32 << 20
	// searchCost is how many of those are worth a byte of other work.
	searchCost = 16
)

var errNoPattern = errors.New("no such regular expression")

// expressionOf is a regular expression that was compiled, with its states.
type expressionOf struct {
	*regexp.Regexp
	states int
}

// patternOf is a regular expression of XPath's as RE2 has it.
func patternOf(pattern, flags rdf.Term) (*expressionOf, error) {
	if !isText(pattern) || !isText(flags) || len(pattern.Value) > maxPattern {
		return nil, fmt.Errorf("%w: want a text of at most %d bytes", errNoPattern, maxPattern)
	}
	text, set := pattern.Value, ""
	for _, f := range flags.Value {
		switch f {
		case 'i', 's', 'm':
			set += string(f)
		case 'q':
			text = regexp.QuoteMeta(text)
		default:
			return nil, fmt.Errorf("%w: the flag %q is not supported", errNoPattern, f)
		}
	}
	if set != "" {
		text = "(?" + set + ")" + text
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPattern, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPattern, err)
	}
	if len(program.Inst) > maxStates {
		return nil, fmt.Errorf("%w: it has %d states, at most %d", errNoPattern, len(program.Inst), maxStates)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPattern, err)
	}
	return &expressionOf{re, len(program.Inst)}, nil
}

// search accounts one search of a text. The error is ErrPattern where it could
// take too long.
func (e *expressionOf) search(x *run, text string) error {
	if n := e.states * len(text); n > maxSearch {
		return fmt.Errorf("%w: %d states on %d bytes", ErrPattern, e.states, len(text))
	} else if err := x.work(n / searchCost); err != nil {
		return err
	}
	return nil
}

// valueless is errValue but for what ends the query.
func valueless(err error) error {
	if err != nil && !errors.Is(err, errNoPattern) {
		return err
	}
	return errValue
}

func matches(x *run, a []rdf.Term) (rdf.Term, error) {
	flags := rdf.Text("")
	if len(a) == 3 {
		flags = a[2]
	}
	re, err := x.compiled(a[1], flags)
	if err != nil || !isText(a[0]) {
		return rdf.Term{}, valueless(err)
	}
	if err := re.search(x, a[0].Value); err != nil {
		return rdf.Term{}, err
	}
	return boolean(re.MatchString(a[0].Value)), nil
}

var reference = regexp.MustCompile(`\$([0-9])`)

func replace(x *run, a []rdf.Term) (rdf.Term, error) {
	flags := rdf.Text("")
	if len(a) == 4 {
		flags = a[3]
	}
	re, err := x.compiled(a[1], flags)
	if err != nil || !isText(a[0]) || !isText(a[2]) || re.MatchString("") {
		return rdf.Term{}, valueless(err)
	}
	if len(a[2].Value)*(len(a[0].Value)+1) > 64*maxText {
		return rdf.Term{}, errValue
	}
	found, err := re.all(x, a[0].Value)
	if err != nil {
		return rdf.Term{}, err
	}
	with := reference.ReplaceAllString(a[2].Value, "$${$1}")
	var b []byte
	at := 0
	for _, m := range found {
		b = append(b, a[0].Value[at:m[0]]...)
		b = re.ExpandString(b, with, a[0].Value, m)
		if at = m[1]; len(b) > maxText {
			return rdf.Term{}, errValue
		}
	}
	a[0].Value = string(append(b, a[0].Value[at:]...))
	if len(a[0].Value) > maxText {
		return rdf.Term{}, errValue
	}
	return a[0], nil
}

// all finds every match. Each may read the text to its end, so that they are
// looked for in growing numbers, and the context is looked at between: nothing
// ends a search, and what is begun takes no longer than what was done.
func (e *expressionOf) all(x *run, text string) (found [][]int, err error) {
	for n := 1; ; n *= 2 {
		if err := e.search(x, text); err != nil {
			return nil, err
		}
		if err := x.ctx.Err(); err != nil {
			return nil, err
		}
		if found = e.FindAllStringSubmatchIndex(text, n); len(found) < n {
			return found, nil
		}
	}
}

// keptPatterns are expressions that were compiled lately: a query has the same
// one for each solution.
var keptPatterns = struct {
	sync.Mutex
	all map[[2]string]*expressionOf
}{all: map[[2]string]*expressionOf{}}

const maxKeptPatterns = 16

func (x *run) compiled(pattern, flags rdf.Term) (*expressionOf, error) {
	key := [2]string{pattern.Value, flags.Value}
	keptPatterns.Lock()
	re := keptPatterns.all[key]
	keptPatterns.Unlock()
	if re != nil {
		return re, nil
	}
	// Reading one takes what searching a short text does.
	if err := x.work(workBytes / 16); err != nil {
		return nil, err
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
