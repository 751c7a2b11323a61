package sparql

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind uint8

const (
	end kind = iota
	iriRef
	prefixed
	blankLabel
	variable
	langTag
	integer
	decimal
	double
	text
	word
	punctuation
)

// token is one word of a query. Its text is without quotes, brackets and
// escapes; at is where it begins.
type token struct {
	kind kind
	text string
	at   int
	// prefix is of a prefixed name.
	prefix string
}

// The forms of tokens, each tried where a text begins so. RE2 is linear in what
// it reads.
var (
	iriForm      = regexp.MustCompile(`^<[^<>"{}|^` + "`" + `\x00-\x20]*>`)
	variableForm = regexp.MustCompile(`^[?$][\pL\pN_]+`)
	blankForm    = regexp.MustCompile(`^_:[\pL\pN_]([\pL\pN_.-]*[\pL\pN_-])?`)
	prefixedForm = regexp.MustCompile(`^(?:\pL(?:[\pL\pN_.-]*[\pL\pN_-])?)?:` +
		`(?:(?:[\pL\pN_:]|%[0-9A-Fa-f]{2}|\\[_~.!$&'()*+,;=/?#@%-])(?:(?:[\pL\pN_.:-]|%[0-9A-Fa-f]{2}|\\[_~.!$&'()*+,;=/?#@%-])*(?:[\pL\pN_:-]|%[0-9A-Fa-f]{2}|\\[_~.!$&'()*+,;=/?#@%-]))?)?`)
	langForm   = regexp.MustCompile(`^@[a-zA-Z]+(-[a-zA-Z0-9]+)*`)
	doubleForm = regexp.MustCompile(`^([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)[eE][+-]?[0-9]+`)
	decForm    = regexp.MustCompile(`^[0-9]*\.[0-9]+`)
	intForm    = regexp.MustCompile(`^[0-9]+`)
	wordForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*`)
	textForms  = []*regexp.Regexp{
		regexp.MustCompile(`^"""(?:"{0,2}(?:[^"\\]|\\.))*"""`), regexp.MustCompile(`^'''(?:'{0,2}(?:[^'\\]|\\.))*'''`),
		regexp.MustCompile(`^"(?:[^"\\\n\r]|\\.)*"`), regexp.MustCompile(`^'(?:[^'\\\n\r]|\\.)*'`),
	}
	skipForm = regexp.MustCompile(`^(?:[ \t\r\n]|#[^\r\n]*)+`)
)

// punctuations are the longest first.
var punctuations = []string{"^^", "&&", "||", "!=", "<=", ">=", "{", "}", "(", ")", "[", "]", ".", ",", ";", "=", "<", ">", "!", "+", "-", "*", "/", "|", "^", "?"}

// lex cuts a query into tokens, of which the last is an end.
func lex(query string) ([]token, error) {
	if len(query) > MaxBytes {
		return nil, wrong(0, 0, "the query has %d bytes, at most %d", len(query), MaxBytes)
	}
	if !utf8.ValidString(query) {
		return nil, wrong(1, 1, "the query is not UTF-8")
	}
	var all []token
	for at := 0; ; {
		at += len(skipForm.FindString(query[at:]))
		if at == len(query) {
			return append(all, token{kind: end, at: at}), nil
		}
		t, n := next(query[at:])
		if n == 0 {
			line, column := position(query, at)
			return nil, wrong(line, column, "%.16q is not understood", query[at:])
		}
		t.at = at
		if t.kind == text || t.kind == iriRef {
			plain, ok := unescape(t.text)
			if !ok {
				line, column := position(query, at)
				return nil, wrong(line, column, "an escape is not understood")
			}
			t.text = plain
		}
		all, at = append(all, t), at+n
	}
}

// next is the token that a text begins with, and its length; 0 for none.
func next(s string) (token, int) {
	for _, form := range []struct {
		kind kind
		form *regexp.Regexp
		cut  [2]int
	}{
		{iriRef, iriForm, [2]int{1, 1}}, {variable, variableForm, [2]int{1, 0}}, {blankLabel, blankForm, [2]int{2, 0}},
		{text, textForms[0], [2]int{3, 3}}, {text, textForms[1], [2]int{3, 3}}, {text, textForms[2], [2]int{1, 1}}, {text, textForms[3], [2]int{1, 1}},
		{langTag, langForm, [2]int{1, 0}}, {double, doubleForm, [2]int{}}, {decimal, decForm, [2]int{}}, {integer, intForm, [2]int{}},
	} {
		if m := form.form.FindString(s); m != "" {
			return token{kind: form.kind, text: m[form.cut[0] : len(m)-form.cut[1]]}, len(m)
		}
	}
	if m := prefixedForm.FindString(s); m != "" {
		prefix, local, _ := strings.Cut(m, ":")
		return token{kind: prefixed, prefix: prefix, text: strings.ReplaceAll(local, `\`, "")}, len(m)
	}
	if m := wordForm.FindString(s); m != "" {
		return token{kind: word, text: m}, len(m)
	}
	for _, p := range punctuations {
		if strings.HasPrefix(s, p) {
			return token{kind: punctuation, text: p}, len(p)
		}
	}
	return token{}, 0
}

var escapes = map[byte]string{'t': "\t", 'b': "\b", 'n': "\n", 'r': "\r", 'f': "\f", '"': `"`, '\'': "'", '\\': `\`}

func unescape(s string) (string, bool) {
	if !strings.Contains(s, `\`) {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", false
		}
		digits := map[byte]int{'u': 4, 'U': 8}[s[i]]
		if digits == 0 {
			plain, ok := escapes[s[i]]
			if !ok {
				return "", false
			}
			b.WriteString(plain)
			continue
		}
		if len(s) < i+1+digits {
			return "", false
		}
		r, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 31)
		if err != nil || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		b.WriteRune(rune(r))
		i += digits
	}
	return b.String(), true
}

// position is where a byte of a query is for people.
func position(query string, at int) (line, column int) {
	before := query[:at]
	line = strings.Count(before, "\n") + 1
	return line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}
