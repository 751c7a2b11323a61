// Package rdf is the words that facts are made of: IRIs and literals, as RDF
// 1.1 has them.
//
// Invariants: two terms are the same term exactly where they are equal as Go
// values; a term that was checked is valid UTF-8 of a bounded length, and its
// IRI is absolute; there are no blank nodes, since nothing could name them
// later: what came as one has an IRI of its own (Skolem).
package rdf

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind tells terms apart.
type Kind uint8

// The kinds. The zero kind is of no term.
const (
	None Kind = iota
	IRI
	Literal
)

// The bounds of a term.
const (
	MaxIRIBytes     = 2 << 10
	MaxLiteralBytes = 64 << 10
)

// Term is an IRI or a literal; the zero Term is none.
type Term struct {
	Kind  Kind
	Value string
	// Datatype is never empty in a literal. Language is in lower case, and the
	// datatype LangString where there is one.
	Datatype, Language string
}

// Triple is one fact without who said it.
type Triple struct{ Subject, Predicate, Object Term }

// The vocabularies that are known here.
const (
	XSD    = "http://www.w3.org/2001/XMLSchema#"
	syntax = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

	Type       = syntax + "type"
	First      = syntax + "first"
	Rest       = syntax + "rest"
	Nil        = syntax + "nil"
	LangString = syntax + "langString"
	JSON       = syntax + "JSON"

	String   = XSD + "string"
	Boolean  = XSD + "boolean"
	Integer  = XSD + "integer"
	Decimal  = XSD + "decimal"
	Double   = XSD + "double"
	Float    = XSD + "float"
	DateTime = XSD + "dateTime"
	Date     = XSD + "date"
)

// NewIRI is an IRI as it stands.
func NewIRI(text string) Term { return Term{Kind: IRI, Value: text} }

// Text is a plain literal.
func Text(text string) Term { return Typed(text, String) }

// Typed is a literal of a datatype.
func Typed(text, datatype string) Term { return Term{Kind: Literal, Value: text, Datatype: datatype} }

// InLanguage is a literal in a language.
func InLanguage(text, language string) Term {
	return Term{Kind: Literal, Value: text, Datatype: LangString, Language: strings.ToLower(language)}
}

// ErrTerm says that something is no term.
var ErrTerm = errors.New("no such term")

var (
	validIRI      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>"{}|^` + "`" + `\\\x7f]*$`)
	validLanguage = regexp.MustCompile(`^[a-z]{1,8}(-[a-z0-9]{1,8})*$`)
)

// Check sees that a term is one, within its bounds. The error is ErrTerm.
func (t Term) Check() error {
	switch t.Kind {
	case IRI:
		return CheckIRI(t.Value)
	case Literal:
		return t.checkLiteral()
	}
	return fmt.Errorf("%w: it is empty", ErrTerm)
}

func (t Term) checkLiteral() error {
	switch {
	case len(t.Value) > MaxLiteralBytes:
		return fmt.Errorf("%w: a literal of %d bytes, at most %d", ErrTerm, len(t.Value), MaxLiteralBytes)
	case !utf8.ValidString(t.Value) || strings.ContainsRune(t.Value, 0):
		return fmt.Errorf("%w: a literal is UTF-8 without the character 0", ErrTerm)
	case (t.Datatype == LangString) != (t.Language != ""):
		return fmt.Errorf("%w: a literal has a language exactly where its datatype is rdf:langString", ErrTerm)
	case t.Language != "" && (len(t.Language) > 64 || !validLanguage.MatchString(t.Language)):
		return fmt.Errorf("%w: %.64q is no language", ErrTerm, t.Language)
	}
	if err := CheckIRI(t.Datatype); err != nil {
		return fmt.Errorf("datatype: %w", err)
	}
	return nil
}

// CheckIRI sees that a text is an absolute IRI within its bounds. The error is
// ErrTerm.
func CheckIRI(text string) error {
	if len(text) > MaxIRIBytes {
		return fmt.Errorf("%w: an IRI of %d bytes, at most %d", ErrTerm, len(text), MaxIRIBytes)
	}
	if !utf8.ValidString(text) || !validIRI.MatchString(text) {
		return fmt.Errorf("%w: %.200q is no absolute IRI", ErrTerm, text)
	}
	return nil
}

// skolem is where RDF 1.1 has IRIs for what had none, at a host that nobody
// can have.
const skolem = "https://toolshed.invalid/.well-known/genid/"

// Skolem is an IRI for what had none.
func Skolem(sum []byte, label string) Term {
	return NewIRI(skolem + hex.EncodeToString(sum) + "/" + strings.TrimPrefix(label, "_:"))
}

// IsSkolem reports whether a term had no IRI when it came.
func (t Term) IsSkolem() bool { return t.Kind == IRI && strings.HasPrefix(t.Value, skolem) }

// String is the term as N-Triples has it, for people.
func (t Term) String() string {
	switch {
	case t.Kind == IRI:
		return "<" + t.Value + ">"
	case t.Kind == None:
		return "UNDEF"
	case t.Language != "":
		return quote(t.Value) + "@" + t.Language
	case t.Datatype != String:
		return quote(t.Value) + "^^<" + t.Datatype + ">"
	}
	return quote(t.Value)
}

var quoting = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

func quote(text string) string { return `"` + quoting.Replace(text) + `"` }

// DoubleText is a floating number as XML Schema writes it.
func DoubleText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "INF"
	case math.IsInf(f, -1):
		return "-INF"
	case math.IsNaN(f):
		return "NaN"
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	negative := strings.HasPrefix(exponent, "-")
	exponent = strings.TrimLeft(exponent, "+-0")
	if exponent == "" {
		exponent, negative = "0", false
	}
	if negative {
		exponent = "-" + exponent
	}
	return mantissa + "E" + exponent
}
