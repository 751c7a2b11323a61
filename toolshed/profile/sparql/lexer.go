package sparql

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
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
	// blank is between tokens.
	blank
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

// form is how a kind of token looks, and how much of both its ends is not its
// text.
type form struct {
	kind        kind
	is          *regexp.Regexp
	front, back int
}

// forms are tried in their order, where a token begins. RE2 is linear in what it
// reads. They are compiled for the first query, since many starts see none.
var forms = sync.OnceValue(func() []form {
	const escaped = "%[0-9A-Fa-f]{2}|\\\\[_~.!$&'()*+,;=/?#@%-]"
	of := func(k kind, front, back int, text string) form {
		return form{k, regexp.MustCompile("^(?:" + text + ")"), front, back}
	}
	return []form{
		of(blank, 0, 0, `(?:[ \t\r\n]|#[^\r\n]*)+`),
		of(iriRef, 1, 1, `<[^<>"{}|^`+"`"+`\x00-\x20]*>`),
		of(variable, 1, 0, `[?$][\pL\pN_]+`),
		of(blankLabel, 2, 0, `_:[\pL\pN_]([\pL\pN_.-]*[\pL\pN_-])?`),
		of(text, 3, 3, `"""(?:"{0,2}(?:[^"\\]|\\.))*"""`), of(text, 3, 3, `'''(?:'{0,2}(?:[^'\\]|\\.))*'''`),
		of(text, 1, 1, `"(?:[^"\\\n\r]|\\.)*"`), of(text, 1, 1, `'(?:[^'\\\n\r]|\\.)*'`),
		of(langTag, 1, 0, `@[a-zA-Z]+(-[a-zA-Z0-9]+)*`),
		of(double, 0, 0, `([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)[eE][+-]?[0-9]+`), of(decimal, 0, 0, `[0-9]*\.[0-9]+`), of(integer, 0, 0, `[0-9]+`),
		of(prefixed, 0, 0, `(?:\pL(?:[\pL\pN_.-]*[\pL\pN_-])?)?:(?:(?:[\pL\pN_:]|`+escaped+`)(?:(?:[\pL\pN_.:-]|`+escaped+`)*(?:[\pL\pN_:-]|`+escaped+`))?)?`),
		of(word, 0, 0, `[A-Za-z_][A-Za-z0-9_]*`),
	}
})

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
		if at == len(query) {
			return append(all, token{kind: end, at: at}), nil
		}
		t, n := next(query[at:])
		if t.kind == blank {
			at += n
			continue
		}
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
	for _, f := range forms() {
		m := f.is.FindString(s)
		if m == "" {
			continue
		}
		t := token{kind: f.kind, text: m[f.front : len(m)-f.back]}
		if f.kind == prefixed {
			var local string
			t.prefix, local, _ = strings.Cut(m, ":")
			t.text = strings.ReplaceAll(local, `\`, "")
		}
		return t, len(m)
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
