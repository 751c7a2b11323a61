// Package jsonld turns JSON-LD 1.1 documents into triples and back.
//
// Invariants: reading a document asks nobody for anything: a context is in it
// or is one of the few that are built in; what a document says is kept whole or
// the document is refused, never a part of it dropped; what is written reads
// back as the same triples.
package jsonld

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/piprate/json-gold/ld"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// The bounds of a document.
const (
	MaxBytes   = 1 << 20
	MaxNesting = 64
	MaxTriples = 10_000
	// maxTerms bounds the values in contexts, and maxScoped those in contexts
	// that are in others: they are read again wherever their term is used.
	maxTerms  = 2000
	maxScoped = 100
	// maxWhole is the largest number up to which JSON's are whole for everybody.
	maxWhole = 1 << 53
)

// ErrDocument says that a document is not taken.
var ErrDocument = errors.New("the document is not taken")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDocument, fmt.Errorf(format, args...))
}

// Parse reads a document. What has no IRI in it gets one that depends on the
// whole document, so that the same document is the same facts. The error is
// ErrDocument.
func Parse(text []byte) ([]rdf.Triple, error) {
	document, err := decode(text)
	if err != nil {
		return nil, err
	}
	plain, err := guarded(func(p *ld.JsonLdProcessor) ([]any, error) { return p.Expand(document, options()) })
	if err != nil {
		return nil, err
	}
	// Flattening compares each value with the others of its property.
	if values(plain, 0) > MaxTriples {
		return nil, tooMany()
	}
	flat, err := guarded(func(p *ld.JsonLdProcessor) (any, error) { return p.Flatten(plain, nil, options()) })
	if err != nil {
		return nil, err
	}
	nodes, ok := flat.([]any)
	if !ok {
		return nil, refused("it is no document of nodes")
	}
	b, err := json.Marshal(nodes)
	if err != nil {
		return nil, refused("it cannot be written: %w", err)
	}
	sum := sha256.Sum256(b)
	r := &reader{sum: sum[:16]}
	for _, n := range nodes {
		if err := r.node(n); err != nil {
			return nil, err
		}
	}
	return r.triples, nil
}

func tooMany() error { return refused("it has more than %d facts", MaxTriples) }

// guarded calls the library, whose panics are refusals: the document is to
// blame, and nothing of it was kept.
func guarded[T any](call func(*ld.JsonLdProcessor) (T, error)) (result T, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			err = refused("it makes no sense: %.100v", thrown)
		}
	}()
	result, err = call(ld.NewJsonLdProcessor())
	if err != nil {
		return result, explained(err)
	}
	return result, nil
}

func explained(err error) error {
	if e, ok := errors.AsType[*ld.JsonLdError](err); ok {
		if foreign, ok := e.Details.(error); ok && errors.Is(foreign, errForeign) {
			return refused("%w", foreign)
		}
		if e.Code == ld.InvalidProperty {
			return refused("a property has no IRI: the context has to define each, or an @vocab")
		}
		return refused("%s: %.200v", e.Code, e.Details)
	}
	return refused("%.200s", err)
}

func options() *ld.JsonLdOptions {
	o := ld.NewJsonLdOptions("")
	o.DocumentLoader = builtIn{}
	o.SafeMode = true
	return o
}

type reader struct {
	sum     []byte
	triples []rdf.Triple
	cells   int
}

func (r *reader) node(n any) error {
	node, ok := n.(map[string]any)
	if !ok {
		return refused("a node is no object")
	}
	id, _ := node["@id"].(string)
	subject, err := r.name(id)
	if err != nil {
		return err
	}
	for _, property := range slices.Sorted(maps.Keys(node)) {
		values, many := node[property].([]any)
		switch {
		case property == "@id" || property == "@index":
			continue
		case property == "@graph":
			return refused("@graph: %.100q: named graphs are not kept", id)
		case property == "@type" && many:
			for _, v := range values {
				text, _ := v.(string)
				if err := r.add(subject, rdf.Type, text, map[string]any{"@id": text}); err != nil {
					return err
				}
			}
			continue
		case !many || strings.HasPrefix(property, "@") || strings.HasPrefix(property, "_:"):
			return refused("%.100q is no property that can be kept", property)
		}
		for _, v := range values {
			if err := r.add(subject, property, property, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// name is the term of an @id.
func (r *reader) name(id string) (rdf.Term, error) {
	if strings.HasPrefix(id, "_:") {
		return rdf.Skolem(r.sum, id), nil
	}
	if err := rdf.CheckIRI(id); err != nil {
		return rdf.Term{}, refused("@id: %w", err)
	}
	return rdf.NewIRI(id), nil
}

func (r *reader) add(subject rdf.Term, property, field string, v any) error {
	t := rdf.Triple{Subject: subject, Predicate: rdf.NewIRI(property)}
	if err := t.Predicate.Check(); err != nil {
		return refused("%w", err)
	}
	var err error
	if t.Object, err = r.value(v); err != nil {
		return fmt.Errorf("%.100q: %w", field, err)
	}
	if len(r.triples) == MaxTriples {
		return tooMany()
	}
	r.triples = append(r.triples, t)
	return nil
}

func (r *reader) value(v any) (rdf.Term, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return rdf.Term{}, refused("a value is no object")
	}
	if items, ok := object["@list"].([]any); ok {
		return r.list(items)
	}
	if id, ok := object["@id"].(string); ok {
		return r.name(id)
	}
	value, ok := object["@value"]
	if !ok {
		return rdf.Term{}, refused("a value is neither a node nor a literal")
	}
	t, err := literal(value, object)
	if err != nil {
		return t, err
	}
	if err := t.Check(); err != nil {
		return t, refused("%w", err)
	}
	return t, nil
}

// list makes the cells of a list.
func (r *reader) list(items []any) (rdf.Term, error) {
	if len(items) == 0 {
		return rdf.NewIRI(rdf.Nil), nil
	}
	r.cells++
	cell := rdf.Skolem(r.sum, "l"+strconv.Itoa(r.cells))
	if err := r.add(cell, rdf.First, "@list", items[0]); err != nil {
		return cell, err
	}
	if len(r.triples) == MaxTriples {
		return cell, tooMany()
	}
	// The place of the rest is taken before the rest takes its own.
	at := len(r.triples)
	r.triples = append(r.triples, rdf.Triple{Subject: cell, Predicate: rdf.NewIRI(rdf.Rest)})
	rest, err := r.list(items[1:])
	r.triples[at].Object = rest
	return cell, err
}

func literal(value any, object map[string]any) (rdf.Term, error) {
	if _, ok := object["@direction"]; ok {
		return rdf.Term{}, refused("@direction is not kept")
	}
	datatype, _ := object["@type"].(string)
	if datatype == "@json" {
		text, err := plainJSON(value)
		return rdf.Typed(text, rdf.JSON), err
	}
	if language, ok := object["@language"].(string); ok {
		text, _ := value.(string)
		return rdf.InLanguage(text, language), nil
	}
	typed := func(text, native string) rdf.Term {
		if datatype != "" {
			native = datatype
		}
		return rdf.Typed(text, native)
	}
	switch v := value.(type) {
	case string:
		return typed(v, rdf.String), nil
	case bool:
		return typed(strconv.FormatBool(v), rdf.Boolean), nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e21 && datatype != rdf.Double {
			return typed(strconv.FormatFloat(v, 'f', -1, 64), rdf.Integer), nil
		}
		return typed(rdf.DoubleText(v), rdf.Double), nil
	}
	return rdf.Term{}, refused("a literal is a text, a number or a boolean")
}

func plainJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", refused("@json: %w", err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}
